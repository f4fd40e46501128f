#!/usr/bin/env bash
# Runs a command of this project on a running Ray cluster, waits for it, and ends with the command's own exit code.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: cluster/submit.sh [OPTION]... COMMAND [ARGUMENT]...

  cluster/submit.sh answer --manifest s3://archive/manifest.parquet --output s3://archive/answers --actors 8 --gpus-per-actor 1

Options, before COMMAND:
  --address URL        the head's job server; default RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265
  --env NAME=VALUE     a variable for the job, never a secret: Ray stores and shows it in clear; repeatable
  --installed          use the nodes' own copy of the project instead of uploading this checkout
  --max-attempts N     submit again when the job was killed from outside before it could end by itself (default 3)
  --allow-plain-http-to-remote-head
                       send the token unencrypted to another machine

The token comes from RAY_AUTH_TOKEN_PATH, RAY_AUTH_TOKEN or ~/.ray/auth_token; a file must be readable by its owner only.
Exit codes are those of the command: 0 complete, 2 refused (also by this script), 3 over the error limit, 4 stopped;
1 if the outcome is unknown. SIGINT and SIGTERM stop the job too.
TEXT
}

refuse() {
    printf 'submit.sh: %s\n' "$1" >&2
    exit 2
}

# Words that name a secret, and the shapes of the usual ones. What matches is refused, not hidden: it would reach job lists and logs.
readonly SECRET_NAME='(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|AUTH|APIKEY|KEY)(_|$)'
readonly SECRET_SETTING='(^|[._=-])(token|secret|password|passwd|passphrase|credentials?|api_?key|access_?key)(_[a-z_]*)?='
readonly SECRET_VALUE='(^|[^A-Za-z0-9])((AKIA|ASIA)[A-Z0-9]{16}|(hf|gh[pousr]|github_pat|glpat|sk|xox[abp])[_-][A-Za-z0-9_-]{16}|eyJ[A-Za-z0-9_-]{10,}\.)|-----BEGIN|://[^/@ ]*:[^/@ ]*@|[?&](X-Amz-Signature|X-Goog-Signature|sig|Signature|token|access_token)='

refuse_secrets() { # the job's arguments, named by their place: what is said here may be logged
    local argument place=0
    for argument in "$@"; do
        place=$((place + 1))
        if [[ $argument =~ $SECRET_VALUE || ${argument,,} =~ $SECRET_SETTING ]]; then
            refuse "argument $place after the command looks like a secret; expected none: nodes get theirs from their role or a mounted file"
        fi
    done
}

shorten() { printf '%q' "${1:0:12}..."; }

refuse_variable() { # NAME=VALUE
    local name=${1%%=*} value=${1#*=}
    [[ $1 == *=* && $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || refuse "--env $(shorten "$1"): expected NAME=VALUE"
    if [[ ${name^^} =~ $SECRET_NAME || $value =~ $SECRET_VALUE ]]; then
        refuse "--env $name looks like a secret; expected none: Ray stores and shows it in clear, nodes get theirs from their role"
    fi
    case $name in
        RAY_* | LD_* | PYTHON* | PATH | HF_HUB_OFFLINE) refuse "--env $name is the cluster's to set; expected a variable of the job" ;;
    esac
}

# One strict pattern per way in, so that no other parser can see another host in the same text (http://127.0.0.1@elsewhere).
check_address() {
    local host='[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?' end='(:[0-9]{1,5})?/?$'
    if [[ $address =~ ^http://(127(\.[0-9]{1,3}){3}|localhost|\[::1\])$end ]]; then
        # A proxy of the environment would get the token otherwise.
        export NO_PROXY="127.0.0.0/8,localhost,::1${NO_PROXY:+,$NO_PROXY}"
        export no_proxy=$NO_PROXY
    elif [[ $address =~ ^http://$host$end ]]; then
        [[ $plain_http == yes ]] || refuse "$address: plain http to another machine shows the token to the network; expected \
http://127.0.0.1:PORT through port forwarding, or https (--allow-plain-http-to-remote-head if the network is encrypted)"
    elif [[ ! $address =~ ^https://$host$end ]]; then
        refuse "address $(shorten "$address"): expected http://127.0.0.1:PORT or https://HOST[:PORT]"
    fi
}

check_token() {
    [[ ${RAY_AUTH_MODE:-token} == token ]] || refuse "RAY_AUTH_MODE is '$RAY_AUTH_MODE'; expected token"
    export RAY_AUTH_MODE=token
    [[ -z ${RAY_AUTH_TOKEN:-} ]] || return 0
    export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
    [[ -s $RAY_AUTH_TOKEN_PATH ]] || refuse "no token: $RAY_AUTH_TOKEN_PATH is missing or empty; expected the cluster's token"
    [[ $(ls -ldL -- "$RAY_AUTH_TOKEN_PATH") == ????------* ]] \
        || refuse "$RAY_AUTH_TOKEN_PATH is open to others; expected mode 600: chmod 600 $RAY_AUTH_TOKEN_PATH"
}

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
[[ ! -x $root/.venv/bin/ray ]] || PATH=$root/.venv/bin:$PATH
address=${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}
plain_http=no
upload=(--working-dir "$root")
max_attempts=3
variables=()
while [[ $# -gt 0 ]]; do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --address | --env | --max-attempts) [[ $# -ge 2 ]] || refuse "$1 needs a value" ;;&
        --address) address=$2 && shift 2 ;;
        --env) refuse_variable "$2" && variables+=("$2") && shift 2 ;;
        --max-attempts) max_attempts=$2 && shift 2 ;;
        --installed) upload=() && shift ;;
        --allow-plain-http-to-remote-head) plain_http=yes && shift ;;
        -*) refuse "unknown option $(shorten "$1"); expected one of --help" ;;
        *) break ;;
    esac
done
[[ $# -gt 0 ]] || { usage >&2 && exit 2; }
[[ $max_attempts =~ ^[1-9][0-9]?$ ]] || refuse "--max-attempts '$max_attempts'; expected 1 to 99"
command=$1 && shift
[[ $command =~ ^[a-z_]+$ && -f $root/jobs/$command.py ]] || refuse "no command $(shorten "$command"); expected answer, verify, report, ..."
refuse_secrets "$@"
check_address
check_token
export PYTHONUNBUFFERED=1 # the job's log as it comes
unset RAY_ADDRESS RAY_JOB_SUBMIT_HOOK # the address is the one checked above, and nobody else's code runs on the way

runtime_env=$(python3 -c '
import json, sys
pairs = dict(text.split("=", 1) for text in sys.argv[1:])
print(json.dumps({"env_vars": pairs, "excludes": ["/tests/", "/benchmarks/", "/docs/", "/.git/"]}))' \
    ${variables[@]+"${variables[@]}"})

# Status and exit code of the job, as the head keeps them: `ray job submit` itself ends with 1 for every failure.
outcome() {
    python3 - "$address" "$job" <<'PYTHON' 2>/dev/null || echo "UNKNOWN -"
import sys

from ray.job_submission import JobSubmissionClient

client = JobSubmissionClient(sys.argv[1])
try:
    details = client.get_job_info(sys.argv[2])
    print(details.status.value, "-" if details.driver_exit_code is None else details.driver_exit_code)
except RuntimeError as error:
    if "404" not in str(error):
        raise
    print("MISSING -")
PYTHON
}

stopping=no
client=
on_signal() {
    stopping=yes
    [[ -z $client ]] || kill "$client" 2>/dev/null || true
}
trap on_signal INT TERM

# Runs a client in the background, because bash hears signals only while it waits.
in_background() {
    [[ $stopping == no ]] || return 1
    "$@" &
    client=$!
    local result=0
    while kill -0 "$client" 2>/dev/null; do
        wait "$client" || result=$?
        [[ $stopping == no ]] || kill "$client" 2>/dev/null || true
    done
    client=
    return "$result"
}

# Sets `status` and `code`: of the job when it is over, MISSING if the head has no such job, UNKNOWN if it is silent for minutes.
follow() {
    local silent=0 missing=0
    while true; do
        read -r status code < <(outcome) || status=UNKNOWN
        case $status in
            SUCCEEDED | FAILED | STOPPED) return ;;
            MISSING) [[ $((missing += 1)) -lt 3 ]] || return 0 ;;
            UNKNOWN) [[ $((silent += 1)) -lt 12 ]] || return 0 ;;
            *) silent=0 ;;
        esac
        if [[ $stopping == yes ]]; then
            ray job stop --no-wait --address "$address" "$job" >/dev/null 2>&1 || true
        elif [[ $status != UNKNOWN && $status != MISSING ]]; then
            in_background ray job logs --follow --address "$address" "$job" || true
        fi
        sleep $((silent > 0 ? 5 : 1))
    done
}

python3 -c 'import sys; from ray.job_submission import JobSubmissionClient as Client; Client(sys.argv[1]).list_jobs()' "$address" \
    2> >(tail -n 3 >&2) || refuse "$address refuses this token or does not answer; expected a running head and its token"
for ((attempt = 1; attempt <= max_attempts; attempt++)); do
    job=fovea-$command-$(date -u +%Y%m%d-%H%M%S)-$$-$attempt
    in_background ray job submit --address "$address" --submission-id "$job" --runtime-env-json "$runtime_env" \
        ${upload[@]+"${upload[@]}"} -- python -m "jobs.$command" "$@" || true
    follow
    case $status:$code in
        SUCCEEDED:*) exit 0 ;;
        FAILED:[1-9] | FAILED:[1-9][0-9]) exit "$code" ;;
        STOPPED:*) exit 4 ;;
    esac
    [[ $stopping == no || $status == UNKNOWN ]] || exit 4
    [[ $status == FAILED ]] || break
    printf 'submit.sh: %s was killed (exit code %s), attempt %d of %d\n' "$job" "$code" "$attempt" "$max_attempts" >&2
done
printf 'submit.sh: the outcome of %s is not known (%s); the same command goes on from what is committed\n' "$job" "$status" >&2
exit 1
