"""slurm.sh on this machine, with stand-ins for Slurm's own commands: a real Ray with its token and certificates, a real run."""

import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.synthesis.archive import entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases
from tests.cluster.local_head import ROOT, clean_environment, processes_below
from tests.cluster.shipped import FOLDER

STAND_INS = {
    "srun": 'while [[ $1 == -* ]]; do case $1 in -w | -x) shift 2 ;; *) shift ;; esac; done; exec "$@"',
    "scontrol": 'case $1 in show) echo localhost ;; requeue) echo "$2" > "$REQUEUED" ;; esac',
    "hostname": "echo 127.0.0.1",
}


@dataclass
class Allocation:
    """One node: where the job is submitted, its scratch folder, and the file that says that it was queued again."""

    folder: Path
    number: int

    @property
    def shared(self) -> Path:
        return self.folder / f".fovea-slurm-{self.number}"

    @property
    def scratch(self) -> Path:
        return self.folder / f"fovea-{self.number}-0"

    @property
    def requeued(self) -> Path:
        return self.folder / "requeued"

    def run(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        environment = clean_environment() | {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(self.folder),
            "REQUEUED": str(self.requeued), "SLURM_JOB_ID": str(self.number), "SLURM_JOB_NODELIST": "localhost",
            "SLURM_SUBMIT_DIR": str(self.folder), "SLURM_CPUS_PER_TASK": "4", "SLURM_TMPDIR": str(self.folder),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0",
        }  # fmt: skip
        command = ["nice", "-n", "10", str(FOLDER / "slurm.sh"), *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=environment | settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


@pytest.fixture
def allocation() -> Iterator[Allocation]:
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "bin").mkdir()
        for command, lines in STAND_INS.items():
            (folder / "bin" / command).write_text(f"#!/usr/bin/env bash\n{lines}\n")
            (folder / "bin" / command).chmod(0o755)
        for part in ("jobs", "ray_pipeline", "schemas", ".venv"):
            (folder / part).symlink_to(ROOT / part)
        yield Allocation(folder, 100_000 + secrets.randbelow(800_000))
        while left := processes_below(folder):
            for process in left:
                os.kill(process, signal.SIGKILL)
            time.sleep(0.05)


def test_outside_an_allocation_it_explains_itself() -> None:
    done = subprocess.run([FOLDER / "slurm.sh", "answer"], env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 2 and "sbatch --nodes=4" in done.stderr


def test_no_such_command(allocation: Allocation) -> None:
    process = allocation.run("no_such_command")
    said, _ = process.communicate()
    assert process.returncode == 2 and "no command 'no_such_command'" in said and not allocation.shared.exists()


def modes(*paths: Path) -> list[str]:
    return [oct(path.stat().st_mode & 0o777) for path in paths]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_and_what_it_leaves(allocation: Allocation) -> None:
    manifest = write_archive(
        allocation.folder / "archive", [entry_of(case) for case in cases("validation", "large", 2, (0.3, 0.5))]
    )
    output = allocation.folder / "out"
    process = allocation.run("answer", "--manifest", str(manifest), "--output", str(output))
    while not (output / "run.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    private = [allocation.shared, allocation.scratch, allocation.shared / "auth_token", allocation.shared / "node.key"]
    assert modes(*private) == ["0o700", "0o700", "0o600", "0o600"]
    assert not (allocation.shared / "ca.key").exists()
    said, _ = process.communicate()
    assert process.returncode == 0 and "complete: 2 rows" in said, said
    assert not allocation.shared.exists() and not allocation.scratch.exists() and not allocation.requeued.exists()
    assert processes_below(allocation.folder) == []


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("number", "again"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_the_time_limit_queues_it_again_and_a_person_does_not(
    number: signal.Signals, again: bool, allocation: Allocation
) -> None:
    fifo, output = allocation.folder / "never.jpg", allocation.folder / "out"
    os.mkfifo(fifo)  # opening it waits for ever, so the run cannot be over before the signal
    pq.write_table(pa.table({"id": ["a"], "image_uri": [str(fifo)], "question": ["q"]}), allocation.folder / "m.parquet")
    process = allocation.run("answer", "--manifest", str(allocation.folder / "m.parquet"), "--output", str(output))
    while not (output / "run.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(number)
    said, _ = process.communicate()
    assert process.returncode == 4 and "goes on from what is committed" in said, said
    assert allocation.requeued.exists() is again
    assert not allocation.shared.exists()
