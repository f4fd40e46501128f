"""Commits to an object store that throttles, resets, loses replies, falls silent or knows no conditions."""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from ray_pipeline.delivery.audit import Expected, verify_output
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.fail_points import FailPoints
from ray_pipeline.delivery.journal import Journal, Recovered
from ray_pipeline.delivery.remote_store import RemoteStore
from schemas.manifest import Part
from tests.faults.delivery_runs import BATCH, DIGEST, IDS, drive, recomputed
from tests.faults.faulty_s3 import ERROR_IN_200, LOST_REPLY, RESET, SILENCE, Fault, FaultyS3, running_faulty_s3

NAME = "results/part-00000.parquet"
PASSING: list[Fault] = [(503, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable"), (429, "TooManyRequests"), RESET]


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    """One server for all tests, since a client of S3 takes a second to make."""
    from s3fs import S3FileSystem

    with running_faulty_s3() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(f"AWS_{name}", value)
        patch.setattr("ray_pipeline.delivery.remote_store.LONGEST_PAUSE_S", 0.01)
        S3FileSystem.clear_instance_cache()  # it may hold a client of another server
        yield server
        S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3(server: FaultyS3) -> FaultyS3:
    """The server, empty and in good health."""
    server.forget()
    return server


def test_a_name_is_committed_once(s3: FaultyS3) -> None:
    output = Output("s3://bucket/run")
    assert output.create(NAME, b"first") and not output.create(NAME, b"second")
    assert output.read(NAME) == b"first" and output.list_results() == ["part-00000.parquet"]
    assert Counter(s3.asked)["PUT"] == 1


def test_a_name_that_is_taken_in_the_last_instant_stays_the_other_writers(s3: FaultyS3) -> None:
    s3.fail("HEAD", (404, "NoSuchKey"))
    s3.fail("LIST", (404, "NoSuchKey"))
    s3.objects[f"bucket/run/{NAME}"] = b"theirs"
    output = Output("s3://bucket/run")
    assert not output.create(NAME, b"ours")
    assert s3.objects[f"bucket/run/{NAME}"] == b"theirs" and Counter(s3.asked)["PUT"] == 1


@pytest.mark.parametrize("fault", [*PASSING, (409, "ConditionalRequestConflict"), (409, "OperationAborted"), LOST_REPLY], ids=str)
def test_a_commit_gets_through_bad_weather(s3: FaultyS3, fault: Fault) -> None:
    s3.fail("PUT", fault, fault, fault)
    created = Output("s3://bucket/run").create(NAME, b"data")
    assert s3.objects == {f"bucket/run/{NAME}": b"data"}
    assert created == (fault != LOST_REPLY)  # it is there: who wrote it cannot be known any more


USES: dict[str, tuple[str, Callable[[Output], object], object]] = {
    "read": ("GET", lambda output: output.read(NAME), b"data"),
    "exists": ("HEAD", lambda output: output.exists(NAME), True),
    "list": ("LIST", lambda output: output.list_results(), ["part-00000.parquet"]),
    "replace": ("PUT", lambda output: output.replace("run.json", b"{}"), None),
    "supersede": ("PUT", lambda output: output.supersede(NAME, b"data"), None),
    "check": ("PUT", lambda output: output.writable_check(), None),
    "clean": ("PURGE", lambda output: output.clean_journals(), 1),
    "journal": ("GET", lambda output: Journal(output, Part(7, 0, 9)).read(), Recovered({}, [(1, 2)])),
}


@pytest.mark.parametrize("fault", PASSING[::2], ids=str)
@pytest.mark.parametrize("use", USES)
def test_every_use_gets_through_bad_weather(s3: FaultyS3, use: str, fault: Fault) -> None:
    kind, work, expected = USES[use]
    output = Output("s3://bucket/run")
    Journal(output, Part(0, 0, 9)).suspect([1])
    Journal(output, Part(7, 0, 9)).suspect([1, 2])
    output.create(NAME, b"data")
    s3.fail(kind, fault, fault)
    assert work(output) == expected
    assert not s3.faults


@pytest.mark.parametrize(
    ("fault", "refusal"),
    [((403, "AccessDenied"), PermissionError), ((404, "NoSuchBucket"), FileNotFoundError), ((400, "InvalidRequest"), OSError)],
    ids=str,
)
def test_what_will_not_pass_is_not_tried_again(s3: FaultyS3, fault: Fault, refusal: type[Exception]) -> None:
    s3.fail("PUT", fault, fault)
    with pytest.raises(refusal):
        Output("s3://bucket/run").create(NAME, b"data")
    assert Counter(s3.asked)["PUT"] == 1 and s3.objects == {}


@pytest.mark.parametrize("fault", [SILENCE, (503, "SlowDown")], ids=str)
def test_a_store_that_never_recovers_ends_in_an_error(s3: FaultyS3, fault: Fault) -> None:
    s3.chance = lambda: fault
    store = RemoteStore("s3://bucket/run", FailPoints(), deadline_s=1.0)
    with pytest.raises(OSError):
        store.create(NAME, b"data")
    with pytest.raises(OSError):
        store.read(NAME)


@pytest.mark.parametrize("knows", [False, None])
def test_without_conditions_the_name_is_looked_up(s3: FaultyS3, knows: bool | None) -> None:
    s3.knows_conditions = knows
    output = Output("s3://bucket/run")
    assert not output.creates_once()
    assert output.create(NAME, b"first") and not output.create(NAME, b"second")
    assert s3.objects == {f"bucket/run/{NAME}": b"first"}


def test_conditions_are_noticed(s3: FaultyS3) -> None:
    s3.fail("PUT", RESET, (503, "SlowDown"))
    assert Output("s3://bucket/run").creates_once()
    assert s3.objects == {}


@pytest.mark.parametrize("fault", [ERROR_IN_200, (503, "SlowDown"), LOST_REPLY, RESET], ids=str)
def test_a_large_object_is_complete_or_not_there(s3: FaultyS3, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    store = RemoteStore("s3://bucket/run", FailPoints())
    monkeypatch.setattr(store.fs, "_pipe_file", partial(store.fs._pipe_file, chunksize=1000))
    data = random.Random(1).randbytes(4500)
    s3.fail("PART", (503, "SlowDown"))
    s3.fail("COMPLETE", fault)
    assert store.create(NAME, data) == (fault != LOST_REPLY)
    assert s3.objects == {f"bucket/run/{NAME}": data} and s3.uploads == {}
    assert not store.create(NAME, b"x" * 4500)
    assert s3.objects == {f"bucket/run/{NAME}": data}


def test_a_third_of_failures_costs_requests_and_nothing_else(s3: FaultyS3) -> None:
    chance = random.Random(13)
    s3.chance = lambda: chance.choice([*PASSING, LOST_REPLY]) if chance.random() < 0.3 else None
    output = Output("s3://bucket/run")
    for number in range(6):
        journal = Journal(output, Part(number, 10 * number, 10))
        journal.suspect([10 * number])
        journal.finish({10 * number: {"id": str(number)}})
        assert Journal(output, Part(number, 10 * number, 10)).read().rows == {10 * number: {"id": str(number)}}
        output.create(f"results/part-{number:05d}.parquet", str(number).encode())
        journal.clear()
    s3.chance = lambda: None
    assert s3.objects == {f"bucket/run/results/part-{number:05d}.parquet": str(number).encode() for number in range(6)}


def test_of_two_writers_one_commits_each_name(s3: FaultyS3) -> None:
    chance = random.Random(4)
    s3.chance = lambda: chance.choice([*PASSING, (409, "ConditionalRequestConflict")]) if chance.random() < 0.2 else None
    names = [f"results/part-{number:05d}.parquet" for number in range(10)]

    def commit(letter: bytes) -> list[bool]:
        output = Output("s3://bucket/run")
        return [output.create(name, letter) for name in names]

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(commit, (b"a", b"b")))
    for name, by_a, by_b in zip(names, *won, strict=True):
        assert by_a != by_b
        assert s3.objects[f"bucket/run/{name}"] == (b"a" if by_a else b"b")


@pytest.mark.parametrize("point", ["journal.middle:3", "commit.after_create:3"])
def test_a_kill_loses_a_batch_at_most(s3: FaultyS3, tmp_path: Path, point: str) -> None:
    script = (
        "import pathlib, sys; from tests.faults.delivery_runs import drive; drive(pathlib.Path(sys.argv[1]), uri=sys.argv[2])"
    )
    command = [sys.executable, "-c", script, str(tmp_path), "s3://bucket/run"]
    assert subprocess.run(command, env=os.environ | {"DELIVERY_FAIL_POINT": point}, check=False).returncode == -9
    drive(tmp_path, uri=command[-1])
    assert verify_output(Output(command[-1]), Expected(DIGEST, iter(IDS))) == []
    assert recomputed(tmp_path) <= BATCH
    assert not any("/.journal/" in key for key in s3.objects)
