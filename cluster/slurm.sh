#!/usr/bin/env bash
# One run on a Slurm allocation: a Ray cluster of its own over all nodes, then the command, then its exit code.
#   sbatch --nodes=4 --gpus-per-node=4 cluster/slurm.sh answer --manifest /data/manifest.parquet --output /data/answers \
#       --actors 16 --gpus-per-actor 1
# From the root of the checkout, with .venv on a file system that all nodes see. Again: it goes on from what is committed.
#SBATCH --job-name=fovea
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail
umask 077
ulimit -n "$(ulimit -Hn)"

[[ $# -gt 0 && -n ${SLURM_JOB_ID:-} ]] || { sed -n '2,5s/^# *//p' "$0" >&2; exit 2; }
root=$SLURM_SUBMIT_DIR
command=$1 && shift
[[ $command =~ ^[a-z_]+$ && -f $root/jobs/$command.py ]] \
    || { echo "slurm.sh: no command '$command' in $root/jobs; expected to be submitted from the checkout's root" >&2; exit 2; }
export PATH=$root/.venv/bin:$PATH

# Nodes may be shared with other jobs and other people: a secret, certificates and folders of this job alone, ports by its
# number. What the nodes must share lies in a folder that only its owner can enter.
shared=$HOME/.fovea-slurm-$SLURM_JOB_ID # not in the checkout, where it could get into an archive or a commit
rm -rf "$shared"
mkdir -m 0700 "$shared"
trap 'rm -rf "$shared"' EXIT
python -c 'import secrets; print(secrets.token_hex(32))' > "$shared/auth_token"
chmod 600 "$shared/auth_token"
first_port=$((20000 + SLURM_JOB_ID % 120 * 100))
scratch=${SLURM_TMPDIR:-/tmp}/fovea-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0} # short, because of the names of Ray's sockets
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
mapfile -t ips < <(srun --ntasks-per-node=1 --overlap hostname -I | awk '{print $1}')
head_ip=$(srun --nodes=1 --ntasks=1 --overlap -w "${nodes[0]}" hostname -I | awk '{print $1}')

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=fovea-$SLURM_JOB_ID" \
    -keyout "$shared/ca.key" -out "$shared/ca.crt" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=fovea-$SLURM_JOB_ID-node" \
    -keyout "$shared/node.key" -out "$shared/node.csr" 2>/dev/null
openssl x509 -req -in "$shared/node.csr" -CA "$shared/ca.crt" -CAkey "$shared/ca.key" -CAcreateserial -days 30 \
    -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1'; printf ',IP:%s' "${ips[@]}") -out "$shared/node.crt" 2>/dev/null
rm "$shared/ca.key" # nobody else joins

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$shared/auth_token
export RAY_USE_TLS=1 RAY_TLS_SERVER_CERT=$shared/node.crt RAY_TLS_SERVER_KEY=$shared/node.key RAY_TLS_CA_CERT=$shared/ca.crt
export RAY_USAGE_STATS_ENABLED=0 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
export AUTOSCALER_METRIC_PORT=$((first_port + 6)) DASHBOARD_METRIC_PORT=$((first_port + 7))
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # steps would have one core otherwise
unset RAY_AUTH_TOKEN RAY_ADDRESS

# The same on every node. Its own folder first: if somebody else made it, the node does not start. Ray opens its
# folder to everybody, so that lies inside. A signal is for Ray to hear.
start=(bash -c 'mkdir -m 0700 "$0" && trap "rm -rf \"$0\"" EXIT && { "$@" & trap "kill $!" TERM INT; wait; wait; }' "$scratch"
    ray start --block
    --object-manager-port=$((first_port + 1)) --node-manager-port=$((first_port + 2))
    --runtime-env-agent-port=$((first_port + 3)) --dashboard-agent-grpc-port=$((first_port + 4))
    --dashboard-agent-listen-port=$((first_port + 5)) --metrics-export-port=$((first_port + 8))
    --min-worker-port=$((first_port + 10)) --max-worker-port=$((first_port + 99))
    --temp-dir="$scratch/ray" --num-cpus="${SLURM_CPUS_PER_TASK:-1}")
gpus=${SLURM_GPUS_ON_NODE:-0}

# No dashboard and so no job server: the command runs here, inside the allocation.
srun --nodes=1 --ntasks=1 --overlap -w "${nodes[0]}" "${start[@]}" --head --node-ip-address="$head_ip" --port="$first_port" \
    --ray-client-server-port=$((first_port + 9)) --include-dashboard=false --num-gpus="$gpus" &
if [[ ${#nodes[@]} -gt 1 ]]; then
    srun --nodes=$((${#nodes[@]} - 1)) --ntasks-per-node=1 --overlap -x "${nodes[0]}" \
        bash -c 'until (exec 3<>"/dev/tcp/$0/$1") 2>/dev/null; do sleep 1; done; shift; exec "$@"' "$head_ip" "$first_port" \
        "${start[@]}" --address="$head_ip:$first_port" --num-gpus="$gpus" &
fi

# The time limit comes as USR1 two minutes ahead, a person's `scancel --signal=TERM --batch` as TERM. Both stop the run cleanly;
# only the first goes on by itself.
reason=
run=
stop() {
    reason=$1
    [[ -z $run ]] || kill -TERM "$run" 2>/dev/null || true
}
trap 'stop limit' USR1
trap 'stop person' TERM INT
for _ in $(seq 60); do
    RAY_ADDRESS=$head_ip:$first_port ray status >/dev/null 2>&1 && break
    sleep 2
done
RAY_ADDRESS=$head_ip:$first_port python -m "jobs.$command" "$@" &
run=$!
[[ -z $reason ]] || kill -TERM "$run" # a signal that came before
while kill -0 "$run" 2>/dev/null; do wait "$run" || true; done
code=0
wait "$run" || code=$?

mapfile -t steps < <(jobs -p)
[[ ${#steps[@]} -eq 0 ]] || kill "${steps[@]}" 2>/dev/null || true
wait || true
if [[ $reason == limit && ${SLURM_RESTART_COUNT:-0} -lt 5 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
