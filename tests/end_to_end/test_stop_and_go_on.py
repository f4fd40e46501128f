"""The real command with the embedded model: killed, stopped, and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_pipeline.synthesis.archive import entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases

ROWS, PART_ROWS = 16, 2


@pytest.mark.timeout(300)
def test_killed_then_stopped_then_finished_every_row_is_there_once(tmp_path: Path) -> None:
    entries = [entry_of(case) for case in cases("validation", "medium", ROWS, (0.3, 0.5))]
    manifest, output = write_archive(tmp_path / "archive", entries), tmp_path / "out"
    arguments = ["--manifest", str(manifest), "--output", str(output), "--set", f"run.part_rows={PART_ROWS}"]
    command = [sys.executable, "-m", "jobs.answer", *arguments]
    assert signalled(command, output, 1, signal.SIGKILL) == -signal.SIGKILL
    first = set(readable_parts(output))
    assert not (output / "index.json").exists()
    code = signalled(command, output, len(first) + 1, signal.SIGTERM)
    assert code == 4 and first <= set(readable_parts(output))
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    ids = [row for name in sorted(readable_parts(output)) for row in pq.read_table(output / "results" / name)["id"].to_pylist()]
    assert ids == [entry.id for entry in entries]
    again = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0 and f"nothing to do: {ROWS} rows" in again.stdout
    proof = subprocess.run(
        [sys.executable, "-m", "jobs.verify", "--output", str(output)], capture_output=True, text=True, timeout=100
    )
    assert proof.returncode == 0, proof.stdout + proof.stderr


def readable_parts(output: Path) -> list[str]:
    """Names of all result files; each must be whole at any moment."""
    names = sorted(path.name for path in (output / "results").glob("*"))
    for name in names:
        assert pq.read_table(output / "results" / name).num_rows == PART_ROWS
    return names


def signalled(command: list[str], output: Path, parts: int, number: signal.Signals) -> int:
    """Start, wait until so many parts are there, send the signal; the exit code."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})
    deadline = time.monotonic() + 150
    while len(readable_parts(output)) < parts:
        assert process.poll() is None, f"ended with {process.returncode} before {parts} parts were there"
        assert time.monotonic() < deadline, f"{parts} parts not there in time"
        time.sleep(0.05)
    process.send_signal(number)
    return process.wait(60)
