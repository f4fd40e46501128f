"""Commits: one writer wins, nothing partial is seen, names stay inside the folder; also under SIGKILL and on S3."""

import fcntl
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.fail_points import NAMES
from tests.stand_ins.s3_server import running_s3

PART = "results/part-00000.parquet"


@pytest.fixture(params=["path", "file-uri", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    forms = {"path": f"{tmp_path}/out", "file-uri": f"file://{tmp_path}/out", "memory": f"memory://{tmp_path}/out"}
    return forms[request.param]


def test_a_file_is_committed_once(uri: str) -> None:
    output = Output(uri)
    assert not output.present() and not output.exists(PART) and output.list_results() == []
    assert output.create(PART, b"first")
    assert not output.create(PART, b"second")
    assert Output(uri).read(PART) == b"first"
    assert output.exists(PART) and output.present()
    assert output.create("results/part-00001.parquet", b"")
    assert output.create("index.json", b"{}")
    assert output.list_results() == ["part-00000.parquet", "part-00001.parquet"]
    assert output.read_result("part-00001.parquet") == b""


def test_only_side_files_can_be_replaced(uri: str) -> None:
    output = Output(uri)
    output.replace("metrics.json", b"1")
    output.replace("metrics.json", b"2")
    assert output.read("metrics.json") == b"2"
    for name in (PART, "index.json", "profile.json", "../metrics.json"):
        with pytest.raises(ValueError, match="may change"):
            output.replace(name, b"")


def test_what_is_not_there_cannot_be_read(uri: str) -> None:
    with pytest.raises(FileNotFoundError):
        Output(uri).read("index.json")
    with pytest.raises(FileNotFoundError):
        Output(uri).read_result("part-00000.parquet")


def test_the_writable_check_leaves_nothing(uri: str) -> None:
    output = Output(uri)
    output.writable_check()
    output.clean_staging()
    assert output.list_results() == [] and not output.exists("index.json")


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "/", "/etc/passwd", "../index.json", "results/../index.json", "results//part-00000.parquet", "results/",
        "results", "a/b.json", "results/x/y.parquet", "index.json\n", "index.json\0", "\0", "INDEX.JSON", "index.json/", "index",
        "results/part-00000.parquet/..", "results\\part-00000.parquet", ".staging/x.json", "results/.parquet", "i\u0131ndex.json",
        "\uff49ndex.json",
        "con:.json", "~/index.json", "s3://b/index.json", "a" * 4096 + ".json", "index.json ", "%2e%2e/index.json",
    ],
)  # fmt: skip
def test_names_from_outside_are_refused(uri: str, name: str) -> None:
    output = Output(uri)
    for use in (output.read, output.exists, lambda wrong: output.create(wrong, b"x")):
        with pytest.raises(ValueError, match="expected a name"):
            use(name)
    assert not output.present()


@pytest.mark.parametrize("name", ["", ".", "..", "../index.json", "a/b", "/etc/passwd", "a\0"])
def test_a_result_is_read_from_its_folder_only(uri: str, name: str) -> None:
    with pytest.raises(ValueError, match="without a folder"):
        Output(uri).read_result(name)


@pytest.mark.parametrize("wrong", ["", "simplecache::s3://b/x", "zip://a::file:///b", "out\n", "gibberish://x/y"])
def test_an_address_that_is_no_folder_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        Output(wrong)


def test_a_folder_that_cannot_be_written_is_found_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/nothing")):
        with pytest.raises(OSError):
            Output(str(place)).writable_check()


RACE = """
import sys
from ray_pipeline.delivery.commit import Output
output, data = Output(sys.argv[1]), sys.argv[2].encode() * 100_000
print("ready", flush=True); sys.stdin.readline()
print("".join(str(int(output.create(f"results/part-{number:05d}.parquet", data))) for number in range(60)), flush=True)
"""


def test_of_two_processes_exactly_one_commits_each_name(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), letter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for letter in "ab"
    ]
    for racer in racers:
        assert racer.stdout and racer.stdout.readline() == "ready\n"
    won = [racer.communicate("go\n")[0].strip() for racer in racers]
    output = Output(str(tmp_path))
    for number, outcome in enumerate(zip(*won, strict=True)):
        assert sorted(outcome) == ["0", "1"]
        winner = b"ab"[outcome.index("1") : outcome.index("1") + 1]
        assert output.read(f"results/part-{number:05d}.parquet") == winner * 100_000
    assert len(won[0]) == 60 and os.listdir(tmp_path / ".staging") == []


WRITE = """
import sys
from ray_pipeline.delivery.commit import Output
output = Output(sys.argv[1])
for number in range(3):
    output.create(f"results/part-{number:05d}.parquet", bytes([65 + number]) * 100_000)
output.clean_staging()
"""
WHOLE = {f"part-{number:05d}.parquet": bytes([65 + number]) * 100_000 for number in range(3)}


def killed(folder: Path, point: str) -> int:
    environment = os.environ | {"DELIVERY_FAIL_POINT": point}
    return subprocess.run([sys.executable, "-c", WRITE, str(folder)], env=environment, check=False).returncode


def seen(folder: Path) -> dict[str, bytes]:
    output = Output(str(folder))
    return {name: output.read_result(name) for name in output.list_results()}


@pytest.mark.parametrize("hit", [1, 2])
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("stage", "commit"))])
def test_a_kill_never_leaves_a_partial_file(tmp_path: Path, name: str, hit: int) -> None:
    assert killed(tmp_path, f"{name}:{hit}") == -signal.SIGKILL
    committed = seen(tmp_path)
    assert committed == {name: WHOLE[name] for name in committed}
    assert len(committed) == hit - (name != "commit.after_create")
    assert len(os.listdir(tmp_path / ".staging")) == 1
    assert killed(tmp_path, "recover.delete") == -signal.SIGKILL  # and once more, while it cleans up
    assert killed(tmp_path, "") == 0
    assert seen(tmp_path) == WHOLE
    assert os.listdir(tmp_path / ".staging") == []


def test_an_unknown_fail_point_is_a_mistake(tmp_path: Path) -> None:
    assert killed(tmp_path, "commit.befor_create") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_being_written_is_no_orphan(tmp_path: Path) -> None:
    staging = tmp_path / ".staging"
    staging.mkdir()
    for name in ("living", "dead"):
        (staging / name).write_bytes(b"half")
    os.mkfifo(staging / "pipe")
    (staging / "folder").mkdir()
    with (staging / "living").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert Output(str(tmp_path)).clean_staging() == 1
    assert sorted(os.listdir(staging)) == ["folder", "living", "pipe"]


CLEAN = """
import sys, time
from ray_pipeline.delivery.commit import Output
output = Output(sys.argv[1])
print("ready", flush=True)
while True:
    output.clean_staging()
"""


def test_cleaning_all_the_time_does_not_disturb_writers(tmp_path: Path) -> None:
    cleaner = subprocess.Popen([sys.executable, "-c", CLEAN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert cleaner.stdout and cleaner.stdout.readline() == "ready\n"
        output = Output(str(tmp_path))
        assert all(output.create(f"results/part-{number:05d}.parquet", b"x") for number in range(60))
        assert cleaner.poll() is None
    finally:
        cleaner.kill()
        cleaner.communicate()


def test_a_cleaner_that_stands_still_does_not_stop_writers(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    assert output.create("results/part-00000.parquet", b"x")
    descriptor = os.open(tmp_path / ".staging", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # as a cleaner does, stopped in the middle
        assert output.create("results/part-00001.parquet", b"y")
        assert output.clean_staging() == 0
    finally:
        os.close(descriptor)


def test_a_staging_file_that_a_standing_cleaner_has_in_hand_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    def made(path: object, flags: int, *mode: int) -> int:
        descriptor = real(path, flags, *mode)
        if flags & os.O_EXCL and not held:
            held.append(real(path, os.O_RDONLY))
            fcntl.flock(held[0], fcntl.LOCK_EX)
        return descriptor

    real = os.open
    monkeypatch.setattr(os, "open", made)
    monkeypatch.setattr("ray_pipeline.delivery.local_store.PATIENCE_S", 0.01)
    try:
        assert Output(str(tmp_path)).create(PART, b"x")
        assert seen(tmp_path) == {"part-00000.parquet": b"x"}
    finally:
        os.close(held[0])
    assert Output(str(tmp_path)).clean_staging() == 1


FULL_DISK = """
import resource, sys
from ray_pipeline.delivery.commit import Output
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
Output(sys.argv[1]).create("results/part-00000.parquet", b"x" * 100_000)
"""


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert seen(tmp_path) == {} and os.listdir(tmp_path / ".staging") == []


class PlainStore(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """A file system whose write knows nothing of a create mode, as some third-party ones."""

    protocol = "plain"

    def pipe_file(self, path: str, value: bytes) -> None:
        super().pipe_file(path, value)


def test_without_a_create_mode_the_name_is_looked_up() -> None:
    fsspec.register_implementation("plain", PlainStore, clobber=True)
    output = Output("plain://old/store")
    assert output.create(PART, b"first")
    assert not output.create(PART, b"second")
    assert output.read(PART) == b"first" and output.list_results() == ["part-00000.parquet"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_s3(tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket of its own."""
    from s3fs import S3FileSystem

    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    S3FileSystem.clear_instance_cache()  # it may hold a client of another server
    name = f"archive-{uuid.uuid4()}"
    S3FileSystem().mkdir(name)
    return f"s3://{name}"


def test_on_s3_a_name_is_committed_once(bucket: str) -> None:
    first, second = Output(f"{bucket}/run"), Output(f"{bucket}/run")
    assert not first.present()
    first.writable_check()
    assert first.create(PART, b"first")
    assert not second.create(PART, b"second")
    assert second.read(PART) == b"first" and second.list_results() == ["part-00000.parquet"]
    assert second.create("results/part-00001.parquet", b"1")
    assert first.list_results() == ["part-00000.parquet", "part-00001.parquet"]
    assert first.exists("results/part-00001.parquet") and not first.exists("index.json")
    with pytest.raises(FileNotFoundError):
        first.read("index.json")


def test_a_bucket_that_is_not_there_is_found_early(bucket: str) -> None:
    with pytest.raises(OSError):
        Output("s3://elsewhere/run").writable_check()


def test_a_bucket_knows_conditional_writes(bucket: str, tmp_path: Path) -> None:
    assert Output(f"{bucket}/run").creates_once()
    assert Output(str(tmp_path)).creates_once()
    fsspec.register_implementation("plain", PlainStore, clobber=True)
    assert not Output("plain://old/store").creates_once()
