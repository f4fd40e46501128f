"""What submit.sh refuses before it asks anybody: no cluster is needed."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cluster.local_head import clean_environment
from tests.cluster.shipped import FOLDER

ANSWER = ("answer", "--manifest", "m.parquet", "--output", "out")
NOBODY = "http://127.0.0.1:1"  # answers there


def submit(*arguments: str, token: str | None = "t" * 64, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(token) | {"HOME": "/nonexistent"} | settings
    return subprocess.run([FOLDER / "submit.sh", *arguments], env=environment, capture_output=True, text=True)


def refused(done: subprocess.CompletedProcess[str], why: str) -> bool:
    """With one line that names the cause, and exit code 2."""
    return done.returncode == 2 and why in done.stderr and done.stderr.count("\n") == 1 and not done.stdout


@pytest.mark.parametrize(
    "address",
    ["http://10.0.0.1:8265", "http://head.example.com", "http://localhost.example.com:8265", "http://127.0.0.1.example.com",
     "http://128.0.0.1:8265", "http://0x7f000001:8265"],
)  # fmt: skip
def test_plain_http_to_another_machine_is_refused(address: str) -> None:
    done = submit("--address", address, *ANSWER)
    assert refused(done, "plain http to another machine") and "--allow-plain-http-to-remote-head" in done.stderr
    assert refused(submit(*ANSWER, RAY_API_SERVER_ADDRESS=address), "plain http to another machine")


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1@example.com:8265", "http://127.0.0.1:8265@example.com", "http://user:pass@127.0.0.1", "ray://127.0.0.1:10001",
     "auto", "127.0.0.1:8265", "http://[::2]:8265", "https://127.0.0.1\\@example.com", "http://127.0.0.1:8265/#", "", "HTTP://127.0.0.1"],
)  # fmt: skip
def test_addresses_that_may_be_read_in_two_ways_are_refused(address: str) -> None:
    assert refused(submit("--address", address, "--allow-plain-http-to-remote-head", *ANSWER), "expected http://127.0.0.1:PORT")


def test_no_token_is_refused(tmp_path: Path) -> None:
    assert refused(submit(*ANSWER, token=None), "no token")
    (tmp_path / "empty").touch(0o600)
    assert refused(submit(*ANSWER, token=None, RAY_AUTH_TOKEN_PATH=str(tmp_path / "empty")), "no token")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_token_files_that_others_can_read_are_refused(mode: int, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t" * 64)
    os.chmod(tmp_path / "token", mode)
    assert refused(submit(*ANSWER, token=None, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token")), "open to others")


def test_token_mode_cannot_be_switched_off() -> None:
    assert refused(submit(*ANSWER, RAY_AUTH_MODE="disabled"), "RAY_AUTH_MODE is 'disabled'; expected token")


@pytest.mark.parametrize(
    "variable",
    ["AWS_SECRET_ACCESS_KEY=canary", "HF_TOKEN=canary", "DB_PASSWORD=canary", "api_key=canary", "NOTE=AKIAIOSFODNN7EXAMPLE", "SOURCE=https://me:pw@host/x",
     "NOTE=hf_abcdefghijklmnopqrst", "NOTE=-----BEGIN KEY", "URL=https://b.s3/x?X-Amz-Signature=abc"],
)  # fmt: skip
def test_secrets_in_variables_are_refused_and_not_repeated(variable: str) -> None:
    done = submit("--env", variable, *ANSWER)
    assert refused(done, "looks like a secret") and variable.split("=", 1)[1] not in done.stderr


@pytest.mark.parametrize(
    "variable", ["RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE=1", "RAY_AUTH_MODE=disabled", "LD_PRELOAD=x", "HF_HUB_OFFLINE=0"]
)
def test_variables_of_the_cluster_are_refused(variable: str) -> None:
    done = submit("--env", variable, *ANSWER)
    assert done.returncode == 2 and ("is the cluster's to set" in done.stderr or "looks like a secret" in done.stderr)


@pytest.mark.parametrize(
    "argument", ["s3://key:secret@bucket/m.parquet", "fetch.token=abc", "--set=store.secret_access_key=x", "https://h/x?sig=abc"]
)
def test_secrets_in_arguments_are_refused_and_not_repeated(argument: str) -> None:
    done = submit("answer", "--manifest", argument)
    assert refused(done, "argument 2 after the command looks like a secret") and argument not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--env",), "--env needs a value"),
        (("--env", "no-value", *ANSWER), "expected NAME=VALUE"),
        (("--max-attempts", "0", *ANSWER), "expected 1 to 99"),
        (("--unknown", *ANSWER), "unknown option"),
        (("../jobs/answer",), "no command"),
        (("no_such_command",), "no command"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], why: str) -> None:
    assert refused(submit(*arguments), why)


def test_without_a_command_it_explains_itself() -> None:
    assert (submit().returncode, submit("--help").returncode) == (2, 0)
    assert "Usage: cluster/submit.sh" in submit().stderr and "Usage: cluster/submit.sh" in submit("--help").stdout


@pytest.mark.parametrize(
    "address", [NOBODY, *(pytest.param(one, marks=pytest.mark.slow) for one in ("http://localhost:1/", "http://[::1]:1"))]
)
def test_a_head_that_does_not_answer_is_a_refusal(address: str) -> None:
    """Words like `num_tokens` are no secrets, so this gets as far as asking the head."""
    done = submit("--env", "TOKENIZERS_PARALLELISM=false", "--address", address, *ANSWER, "--set", "views.num_tokens=144")
    assert done.returncode == 2 and "does not answer" in done.stderr and not done.stdout
