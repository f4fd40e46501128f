"""A run killed half way and run again: `python -m benchmarks.kill_once [--pictures 24] [--kills 1]`.

Kills the driver with SIGKILL once half of what is left is committed, as often as asked, then lets the same command
finish; a watcher opens every visible result file every 50 ms. Bars: every row exactly once, in manifest order; no
unreadable file at any moment; the bytes equal those of a run that nobody killed; verify finds nothing.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq

from ray_pipeline.synthesis.archive import entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases

PART_ROWS = 2


class Watcher(threading.Thread):
    """Opens every visible result file again and again; `partial` lists what could not be read."""

    def __init__(self, results: Path) -> None:
        super().__init__(daemon=True)
        self.results, self.looks, self.stop = results, 0, threading.Event()
        self.partial: list[str] = []

    def run(self) -> None:
        while not self.stop.wait(0.05):
            for path in sorted(self.results.glob("*")):
                self.looks += 1
                try:
                    pq.read_table(path)
                except Exception as error:
                    self.partial.append(f"{path.name}: {type(error).__name__}: {error}")


def command(manifest: Path, output: Path) -> list[str]:
    options = ["--manifest", str(manifest), "--output", str(output), "--actors", "2", "--set", f"run.part_rows={PART_ROWS}"]
    return [sys.executable, "-m", "jobs.answer", *options]


def run_and_kill(manifest: Path, output: Path, parts: int) -> int:
    """Start, wait for half of the missing parts, kill -9. Returns how many parts were there then."""
    before = len(list((output / "results").glob("*.parquet")))
    goal = before + max(1, (parts - before) // 2)
    process = subprocess.Popen(command(manifest, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(list((output / "results").glob("*.parquet"))) < goal and process.poll() is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{goal} parts not committed within 300 s")
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return len(list((output / "results").glob("*.parquet")))


def digests(output: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((output / "results").glob("*"))}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--kills", type=int, default=1)
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="fovea-kill-"))
    try:
        return measure(folder, options.pictures, options.kills)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, pictures: int, kills: int) -> int:
    entries = [entry_of(case) for case in cases("demo", "medium", pictures, (0.5, 2.0))]
    manifest = write_archive(folder / "archive", entries)
    parts = -(-pictures // PART_ROWS)
    killed, calm = folder / "killed", folder / "calm"
    (killed / "results").mkdir(parents=True)
    watcher = Watcher(killed / "results")
    watcher.start()
    for number in range(kills):
        there = run_and_kill(manifest, killed, parts)
        print(
            f"kill {number + 1}: {there} of {parts} parts committed; index.json there: {(killed / 'index.json').exists()}",
            flush=True,
        )
    again = subprocess.run(command(manifest, killed), capture_output=True, text=True, timeout=600)
    subprocess.run(command(manifest, calm), check=True, capture_output=True, timeout=600)
    watcher.stop.set()
    watcher.join()
    ids = [row for path in sorted((killed / "results").glob("*.parquet")) for row in pq.read_table(path)["id"].to_pylist()]
    verify = subprocess.run(
        [sys.executable, "-m", "jobs.verify", "--output", str(killed)], capture_output=True, text=True, timeout=300
    )
    figures = {
        "exit of the last run": again.returncode,
        "rows lost": len({entry.id for entry in entries} - set(ids)),
        "rows doubled": len(ids) - len(set(ids)),
        "out of order": int(ids != [entry.id for entry in entries]),
        "partial files seen": len(watcher.partial),
        "files differing from a calm run": sum(digests(calm).get(name) != digest for name, digest in digests(killed).items()),
        "verify exit": verify.returncode,
    }
    for name, value in figures.items():
        print(f"{'ok    ' if value == 0 else 'MISSED'} {name:32s} {value}")
    print(again.stdout.strip().splitlines()[-1:] or again.stderr[-500:], verify.stdout.strip() or verify.stderr.strip())
    print(json.dumps({**figures, "kills": kills, "rows": pictures, "file reads by the watcher": watcher.looks}))
    return 0 if not any(figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
