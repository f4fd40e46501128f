"""The real command with the embedded model: killed, stopped, and gone on with; and stopped at every moment of a run.

No wait here ends at a time of its own: each ends with evidence, or with the time limit of the test. So that a run cannot
be over before the signal comes, its last picture lies in a store that never answers.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jobs.run
import ray_pipeline.worker
from jobs import answer, verify
from jobs.stopping import STOPPED
from ray_pipeline.synthesis.archive import entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases
from tests.stand_ins.planted_model import load_planted

ROWS, PART_ROWS = 12, 2
LATE = "s3://archive/late.jpg"
# Two model processes: one may wait for the late picture while the other goes on.
SETTINGS = [f"run.part_rows={PART_ROWS}", "run.actors=2", "fetch.buckets=[archive]", "fetch.attempts=1", "fetch.timeout_s=600"]


class Command:
    """One process of the command, and what it says on stderr."""

    def __init__(self, manifest: Path, output: Path, ray_folder: Path) -> None:
        self.output, self.ray_folder = output, ray_folder
        arguments = ["--manifest", str(manifest), "--output", str(output)]
        for setting in SETTINGS:
            arguments += ["--set", setting]
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `running`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobs.answer", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=self.stderr,
            env=os.environ | {"RAY_TMPDIR": str(ray_folder)},
        )

    def said(self) -> str:
        """All of stderr up to now."""
        return os.pread(self.stderr.fileno(), 1 << 20, 0).decode()

    def wait_until(self, holds: Callable[["Command"], object]) -> None:
        """Wait for evidence; a process that ends without it is a failure."""
        while not holds(self):
            assert self.process.poll() is None or holds(self), f"ended with {self.process.returncode}: {self.said()}"
            time.sleep(0.05)

    def ends_with(self, code: int) -> None:
        """Wait for its end and for that of all processes of its Ray."""
        assert self.process.wait() == code, self.said()
        while processes_in(self.ray_folder):
            time.sleep(0.05)


@contextmanager
def running(manifest: Path, output: Path, ray_folder: Path) -> Iterator[Command]:
    command = Command(manifest, output, ray_folder)
    with command.stderr:
        try:
            yield command
        finally:
            command.process.kill()
            command.process.wait()


def processes_in(folder: Path) -> list[int]:
    """Ids of the processes with an open file below the folder: all those of a Ray that keeps its logs there."""
    return [int(process.name) for process in Path("/proc").glob("[0-9]*") if any(open_below(process, folder))]


def open_below(process: Path, folder: Path) -> Iterator[bool]:
    with suppress(OSError):  # it ended, or belongs to somebody else
        for link in (process / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                yield os.readlink(link).startswith(f"{folder.resolve()}/")


def kill_all_in(folder: Path) -> None:
    """What the machine going down does. Of a killed command only, some of Ray's processes would live on for a minute."""
    while found := processes_in(folder):
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where the Ray of a command keeps its files; a short path, because of the names of its sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
        kill_all_in(Path(folder))


@pytest.fixture
def deaf_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A store that takes connections and never answers, until it is closed and refuses them."""
    names = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        for name, value in {**names, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{listening.getsockname()[1]}"}.items():
            monkeypatch.setenv(name, value)
        yield listening


def with_late_picture(manifest: Path) -> Path:
    """The last row's picture lies in the store."""
    table = pq.read_table(manifest)
    addresses = [*table["image_uri"].to_pylist()[:-1], LATE]
    column = pa.array(addresses, pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("image_uri"), "image_uri", column), manifest)
    return manifest


@pytest.mark.timeout(400)
def test_killed_then_stopped_then_finished_every_row_is_there_once(
    tmp_path: Path, ray_folder: Path, deaf_store: socket.socket
) -> None:
    entries = [entry_of(case) for case in cases("validation", "medium", ROWS, (0.3, 0.5))]
    manifest, output = with_late_picture(write_archive(tmp_path / "archive", entries)), tmp_path / "out"
    with running(manifest, output, ray_folder) as command:
        command.wait_until(lambda command: part_names(command.output))
        command.process.kill()
        kill_all_in(ray_folder)
    first = set(readable_parts(output))
    assert first and not (output / "index.json").exists()
    with running(manifest, output, ray_folder) as command:
        command.wait_until(is_at_work)
        command.process.terminate()
        command.ends_with(STOPPED)
        assert f"{len(first) * PART_ROWS} of {ROWS} rows are there from an earlier run" in command.said()
        assert command.said().count("stopped by SIGTERM") == 1 and "Traceback" not in command.said()
    assert first <= set(readable_parts(output)) and not (output / "index.json").exists()
    deaf_store.close()
    with running(manifest, output, ray_folder) as command:
        command.ends_with(0)
    rows = [row for name in readable_parts(output) for row in pq.read_table(output / "results" / name).to_pylist()]
    assert [row["id"] for row in rows] == [entry.id for entry in entries]
    assert [row["status"] for row in rows] == ["ok"] * (ROWS - 1) + ["fetch_failed"]
    assert verify.main(["--output", str(output), "--manifest", str(manifest)]) == 0


def part_names(output: Path) -> list[str]:
    """Names of all result files, sorted."""
    return sorted(path.name for path in (output / "results").glob("*"))


def readable_parts(output: Path) -> list[str]:
    """The same; each must be whole at any moment."""
    names = part_names(output)
    for name in names:
        assert pq.read_table(output / "results" / name).num_rows == PART_ROWS
    return names


def is_at_work(command: Command) -> bool:
    """Whether rows came back to this very process, whoever else may have committed some; or none but the late one can."""
    earlier = re.search(r"^(\d+) of \d+ rows are there", command.said(), re.MULTILINE)
    done = re.findall(r"^(\d+)/\d+ rows", command.said(), re.MULTILINE)
    if not earlier:
        return False
    return int(earlier[1]) == ROWS - PART_ROWS or bool(done and int(done[-1]) > int(earlier[1]))


def hears_signals(command: Command) -> bool:
    """Whether the process handles SIGTERM; Python alone does not."""
    status = Path(f"/proc/{command.process.pid}/status").read_text()
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


MOMENTS: list[tuple[str, signal.Signals, Callable[[Command], object]]] = [
    ("main has begun", signal.SIGTERM, hears_signals),
    ("main has begun", signal.SIGINT, hears_signals),
    ("the run is written down", signal.SIGINT, lambda command: (command.output / "run.json").exists()),
    ("Ray starts", signal.SIGTERM, lambda command: list(command.ray_folder.glob("ray/session_2*"))),
]


@pytest.mark.parametrize(("number", "moment"), [(number, moment) for _, number, moment in MOMENTS], ids=[m[0] for m in MOMENTS])
def test_a_signal_at_any_moment_and_a_volley_after_it(
    number: signal.Signals, moment: Callable[[Command], object], tmp_path: Path, ray_folder: Path, deaf_store: socket.socket
) -> None:
    pq.write_table(pa.table({"id": ["late"], "image_uri": [LATE], "question": ["q"]}), tmp_path / "m.parquet")
    with running(tmp_path / "m.parquet", tmp_path / "out", ray_folder) as command:
        command.wait_until(moment)
        command.process.send_signal(number)
        while command.process.poll() is None:
            time.sleep(0.01)
            command.process.send_signal(signal.SIGINT)
            command.process.send_signal(signal.SIGTERM)
        command.ends_with(STOPPED)
        assert re.fullmatch(r"stopped by SIG(TERM|INT); the same command goes on from what is committed\n", command.said())
    assert not (tmp_path / "out" / "results").exists()


@pytest.mark.usefixtures("ray_session")
def test_a_signal_while_a_run_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All parts are there. Before the index is, the run goes on; after it, there is nothing left to do."""
    monkeypatch.setattr(ray_pipeline.worker.WorkOrder.__init__, "__defaults__", (False, load_planted))
    pq.write_table(pa.table({"id": ["a"], "image_uri": ["absent.jpg"], "question": ["q"]}), tmp_path / "m.parquet")
    arguments = ["--manifest", str(tmp_path / "m.parquet"), "--output", str(tmp_path / "out")]
    index = tmp_path / "out" / "index.json"
    with monkeypatch.context() as patch:
        patch.setattr(jobs.run, "complete", lambda *arguments: signal.raise_signal(signal.SIGTERM))
        assert answer.main(arguments) == STOPPED and not index.exists()
    complete = jobs.run.complete
    with monkeypatch.context() as patch:
        patch.setattr(jobs.run, "complete", lambda *arguments: complete(*arguments) and signal.raise_signal(signal.SIGINT))
        assert answer.main(arguments) == STOPPED and index.exists()
    assert capsys.readouterr().err.count("stopped by") == 2
    assert answer.main(arguments) == 0
    assert "nothing to do: 1 rows" in capsys.readouterr().out
