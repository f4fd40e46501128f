"""A real head in token mode on this machine: who gets in, what listens where, and jobs through submit.sh."""

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import verify
from ray_pipeline.synthesis.archive import entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases
from tests.cluster.local_head import Head, clean_environment, job_number, local_head
from tests.cluster.shipped import FOLDER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with (
        tempfile.TemporaryDirectory(prefix="head-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        local_head(Path(folder)) as one,
    ):
        yield one


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small pictures, and one that is not there."""
    path = write_archive(
        tmp_path_factory.mktemp("archive"), [entry_of(case) for case in cases("validation", "large", 2, (0.3, 0.5))]
    )
    table = pq.read_table(path)
    absent = {
        name: ["absent.jpg" if name == "image_uri" else "absent" if name == "id" else table[name][0].as_py()]
        for name in table.column_names
    }
    pq.write_table(pa.concat_tables([table, pa.table(absent, schema=table.schema)]), path)
    return path


def asked(head: Head, token: str | None, entrypoint: str | None = None) -> int:
    """HTTP status of a request for the jobs, or for a new job."""
    request = urllib.request.Request(f"{head.address}/api/jobs/")
    if entrypoint:
        request.data = json.dumps({"entrypoint": entrypoint}).encode()
        request.add_header("Content-Type", "application/json")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_only_the_right_token_gets_in(head: Head, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    wrong = head.token[:-1] + ("0" if head.token[-1] != "0" else "1")
    assert [asked(head, None), asked(head, wrong), asked(head, ""), asked(head, head.token)] == [401, 403, 403, 200]
    assert [asked(head, token, f"touch {canary}") for token in (None, wrong)] == [401, 403]
    assert asked(head, head.token, f"touch {canary}-let-in") == 200
    while not Path(f"{canary}-let-in").exists():
        time.sleep(0.1)
    assert not canary.exists()


def test_nothing_listens_beyond_loopback_or_on_a_port_that_is_not_given(head: Head) -> None:
    listeners = head.listeners()
    assert {address for address, _ in listeners} == {"127.0.0.1"}
    given = set(head.ports.values())
    assert {port for _, port in listeners if port not in head.worker_ports} - given == set()
    assert given - {port for _, port in listeners} == set()  # so that each parameter is one that Ray knows


def submitted(head: Head, *arguments: str, token: str | None = None) -> subprocess.Popen[str]:
    environment = clean_environment(token or head.token) | {"HOME": "/nonexistent"}
    command = ["nice", "-n", "10", str(FOLDER / "submit.sh"), "--address", head.address, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and everything said."""
    said, _ = process.communicate()
    return process.returncode, said


def test_a_job_with_a_wrong_token_does_not_run(head: Head, manifest: Path, tmp_path: Path) -> None:
    code, said = finished(
        submitted(head, "answer", "--manifest", str(manifest), "--output", str(tmp_path / "out"), token="w" * 64)
    )
    assert code == 2 and "refuses this token" in said and not (tmp_path / "out").exists()


def test_exit_codes_are_those_of_the_command(head: Head, manifest: Path, tmp_path: Path) -> None:
    """Ray's own client ends with 1 for each of these but the first."""
    output = tmp_path / "out"
    run = ["answer", "--manifest", str(manifest), "--output", str(output)]
    code, said = finished(submitted(head, *run))
    assert code == 0 and "complete: 3 rows" in said, said
    assert verify.main(["--output", str(output), "--manifest", str(manifest)]) == 0
    code, said = finished(submitted(head, *run, "--set", "views.max_crops=9"))
    assert code == 2 and "belongs to another run" in said, said
    run[-1] = f"{output}-strict"
    code, said = finished(submitted(head, "--env", "FOVEA_RUN__MAX_ERROR_SHARE=0.1", *run))
    assert code == 3 and "more than max_error_share" in said, said


@pytest.fixture
def stuck(manifest: Path, tmp_path: Path) -> Path:
    """A manifest whose picture waits for ever to be opened, so that no run of it is over before a signal comes."""
    os.mkfifo(tmp_path / "never.jpg")
    table = pq.read_table(manifest).slice(0, 1)
    addresses = pa.array([str(tmp_path / "never.jpg")], pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("image_uri"), "image_uri", addresses), tmp_path / "m.parquet")
    return tmp_path / "m.parquet"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_job_too(number: signal.Signals, head: Head, stuck: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = submitted(head, "answer", "--manifest", str(stuck), "--output", str(output))
    while not (output / "run.json").exists():
        assert process.poll() is None, finished(process)
        time.sleep(0.1)
    process.send_signal(number)
    code, said = finished(process)
    assert code == 4, said
    status = subprocess.run(
        ["ray", "job", "status", "--address", head.address, job_number(said)],
        env=clean_environment(head.token) | {"RAY_AUTH_MODE": "token", "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert "was stopped" in status.stdout + status.stderr or "failed with exit code 4" in status.stdout + status.stderr
    assert not (output / "index.json").exists()


def drivers(head: Head, output: Path) -> list[int]:
    """Processes of the head that run the command for this output."""
    found = []
    for process in head.processes():
        with suppress(OSError):
            arguments = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
            found += [process] if "jobs.answer" in arguments and str(output) in arguments else []
    return found


def test_a_job_that_was_killed_is_submitted_again(head: Head, stuck: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = submitted(head, "--max-attempts", "2", "answer", "--manifest", str(stuck), "--output", str(output))
    for _ in range(2):
        while not (killed := drivers(head, output)) or not (output / "run.json").exists():
            assert process.poll() is None, finished(process)
            time.sleep(0.1)
        os.kill(killed[0], signal.SIGKILL)
        while killed[0] in drivers(head, output):
            time.sleep(0.1)
    code, said = finished(process)
    assert code == 1 and "attempt 1 of 2" in said and "attempt 2 of 2" in said and "goes on from what is committed" in said, said
