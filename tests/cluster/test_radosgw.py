"""Whole runs against a real S3 server: manifest, pictures and results there, a real head beside it, keys in no command."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import s3fs

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.formats.parquet import results_rows
from ray_pipeline.delivery.remote_store import STEP_S
from ray_pipeline.synthesis.archive import entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases
from tests.cluster.local_head import Head, clean_environment, job_number, local_head
from tests.cluster.radosgw import Gateway, missing, running_radosgw
from tests.cluster.shipped import FOLDER
from tests.cluster.three_nodes import popen
from tests.faults.small_archive import SETTINGS, write_small_archive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500), pytest.mark.skipif(bool(missing()), reason=missing())]
ROWS, PART_ROWS, BATCH, ACTORS = 192, 16, 4, 2
MANIFEST = "s3://archive/small/manifest.parquet"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gets a line for each row that the digest model computes."""
    return tmp_path_factory.mktemp("ledger") / "computed"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, ledger: Path) -> Iterator[Gateway]:
    """The server with both archives; its address and its keys are in the environment, and nowhere else."""
    with (
        tempfile.TemporaryDirectory(prefix="rgw-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        running_radosgw(Path(folder)) as one,
        pytest.MonkeyPatch.context() as environment,
    ):
        known = one.environment | {"HASH_MODEL_LEDGER": str(ledger), "HASH_MODEL_DELAY_S": "0.02"}
        for name, value in known.items():
            environment.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        archives = tmp_path_factory.mktemp("archives")
        write_small_archive(archives / "small", ROWS)
        write_archive(archives / "pages", [entry_of(case) for case in cases("validation", "large", 3, (0.3, 0.5))])
        client = one.client()
        client.create_bucket(Bucket="archive")
        for path in archives.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "archive", str(path.relative_to(archives)))
        yield one
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def head(gateway: Gateway) -> Iterator[Head]:
    """A head that was started where the keys are."""
    with (
        tempfile.TemporaryDirectory(prefix="head-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        local_head(Path(folder)) as one,
    ):
        yield one


def driver(head: Head, output: str) -> "subprocess.Popen[str]":
    """The command with the digest model, joined to the head."""
    command = [sys.executable, "-m", "tests.faults.hash_job", "--manifest", MANIFEST, "--output", output]
    for setting in (*SETTINGS, f"run.actors={ACTORS}", f"run.batch={BATCH}", f"run.part_rows={PART_ROWS}"):
        command += ["--set", setting]
    # The last one: as the head, which listens on loopback only.
    own = {"RAY_ADDRESS": f"127.0.0.1:{head.ports['port']}", "RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return popen(command, clean_environment(head.token) | own)


def verified(output: str) -> tuple[int, str]:
    """Exit code and words of `verify`, in a process of its own, with nothing given but the output."""
    command = [sys.executable, "-m", "jobs.verify", "--output", output]
    ended = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
    return ended.returncode, ended.stdout + ended.stderr


def statuses(output: str) -> Counter[str]:
    """Of all rows, whose ids must be those of the manifest, each once."""
    folder = Output(output)
    rows = [row for name in folder.list_results() for row in results_rows(folder.read_result(name))]
    assert [row["id"] for row in rows] == [f"r{k}" for k in range(ROWS)]
    return Counter(row["status"] for row in rows)


def objects(gateway: Gateway, prefix: str) -> set[str]:
    """Names below the prefix of the bucket, all of them."""
    pages = gateway.client().get_paginator("list_objects_v2").paginate(Bucket="archive", Prefix=prefix)
    return {one["Key"].removeprefix(prefix) for page in pages for one in page.get("Contents", [])}


def refuse_leftovers(gateway: Gateway, folder: str) -> None:
    parts = {f"results/part-{k:05d}.parquet" for k in range(ROWS // PART_ROWS)}
    assert objects(gateway, f"{folder}/") == parts | {"run.json", "index.json", "metrics.json"}


def commits(gateway: Gateway, folder: str) -> tuple[Counter[str], int]:
    """From the server's own log: accepted writes by name of the part, and how many it refused with 412."""
    answered = gateway.answered("PUT", rf"/archive/{folder}/results/\S+?")
    accepted = Counter({path.rsplit("/", 1)[1]: often for (path, status), often in answered.items() if status == 200})
    return accepted, sum(often for (_, status), often in answered.items() if status == 412)


def once_each() -> Counter[str]:
    return Counter(f"part-{k:05d}.parquet" for k in range(ROWS // PART_ROWS))


def lines(ledger: Path) -> int:
    return len(ledger.read_text().splitlines()) if ledger.exists() else 0


def wait_until(holds: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Wait for evidence; a process that ends without it is a failure."""
    while not holds():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)


def test_the_server_keeps_two_writers_of_a_name_apart(gateway: Gateway) -> None:
    assert Output("s3://archive/probe").creates_once()
    assert {status for _, status in gateway.answered("PUT", r"/archive/probe/\S+")} == {200, 412}
    writers = [Output("s3://archive/race") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for k in range(20):
            name = f"results/part-{k:05d}.parquet"
            won = list(pool.map(lambda at, name=name: writers[at].create(name, b"writer %d" % at), range(4)))
            assert sum(won) == 1 and writers[0].read(name) == b"writer %d" % won.index(True)


def test_a_bucket_with_versions_is_told_from_one_without(gateway: Gateway) -> None:
    """This server forgets the condition where a bucket keeps versions; that it does must not be hidden."""
    client = gateway.client()
    client.create_bucket(Bucket="versions")
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    told = Output("s3://versions/probe").creates_once()
    answered = {status for _, status in gateway.answered("PUT", r"/versions/\S+")}
    assert answered in ({200}, {200, 412}) and told == (412 in answered)


def test_a_job_through_the_job_server_with_keys_of_the_head_alone(gateway: Gateway, head: Head) -> None:
    output = "s3://archive/pages-out"
    own = {name: value for name, value in clean_environment(head.token).items() if not name.startswith("AWS_")}
    command = [str(FOLDER / "submit.sh"), "--address", head.address, "answer"]
    process = popen(
        [*command, "--manifest", "s3://archive/pages/manifest.parquet", "--output", output], own | {"HOME": "/nonexistent"}
    )
    said, _ = process.communicate()
    assert process.returncode == 0 and "complete: 3 rows" in said and "ok 3" in said, said
    assert verified(output) == (0, "complete: 3 rows in 1 parts, sha256 verified\n")
    details = subprocess.run(
        ["ray", "job", "list", "--address", head.address],
        env=own | {"RAY_AUTH_MODE": "token", "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    ).stdout
    assert job_number(said) in details
    written = [path.read_bytes() for path in head.folder.rglob("*.*") if path.is_file() and not path.is_symlink()]
    stored = [
        gateway.client().get_object(Bucket="archive", Key=f"pages-out/{name}")["Body"].read()
        for name in objects(gateway, "pages-out/")
    ]
    assert not [where for where in (said.encode(), details.encode(), *written, *stored) if gateway.secret.encode() in where]


def test_a_driver_is_killed_and_started_again(gateway: Gateway, head: Head, ledger: Path) -> None:
    output, before = "s3://archive/killed", lines(ledger)
    process = driver(head, output)
    wait_until(lambda: lines(ledger) > before + ROWS // 4 and Output(output).list_results(), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    first = set(Output(output).list_results())
    assert first and len(first) < ROWS // PART_ROWS and "index.json" not in objects(gateway, "killed/")
    process = driver(head, output)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert statuses(output) == {"ok": ROWS} and verified(output)[0] == 0
    assert commits(gateway, "killed")[0] == once_each()
    refuse_leftovers(gateway, "killed")
    again = lines(ledger) - before - ROWS
    print(f"\nkilled after {len(first)} parts: {again} of {ROWS} rows computed twice")
    assert 0 <= again <= 2 * ACTORS * BATCH  # the killed driver's workers outlive it for a moment


def test_two_drivers_at_once_commit_each_name_once(gateway: Gateway, head: Head, ledger: Path) -> None:
    output, before = "s3://archive/both", lines(ledger)
    drivers = [driver(head, output) for _ in range(2)]
    for process in drivers:
        said, _ = process.communicate()
        assert process.returncode == 0, said
    assert statuses(output) == {"ok": ROWS} and verified(output)[0] == 0
    accepted, refused = commits(gateway, "both")
    print(f"\ntwo drivers: {lines(ledger) - before} rows computed for {ROWS}, {refused} commits refused with 412")
    assert accepted == once_each()
    refuse_leftovers(gateway, "both")


def test_a_server_that_was_silent_for_a_while_does_late_what_nobody_waits_for_any_more(
    gateway: Gateway, head: Head, ledger: Path
) -> None:
    """Longer than one request is waited for: what was asked again has been done when the first reply comes."""
    output, before = "s3://archive/silent", lines(ledger)
    process = driver(head, output)
    wait_until(lambda: Output(output).list_results(), process)
    with gateway.silent():
        time.sleep(STEP_S + 5)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert statuses(output) == {"ok": ROWS} and verified(output)[0] == 0
    accepted, refused = commits(gateway, "silent")
    print(f"\nsilent: {lines(ledger) - before} rows computed for {ROWS}, {refused} commits refused with 412")
    assert accepted == once_each() and lines(ledger) - before == ROWS
    refuse_leftovers(gateway, "silent")
