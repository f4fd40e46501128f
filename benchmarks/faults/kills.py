"""Kills at random moments, whole system: `python -m benchmarks.faults.kills [--kills 300] [--rows 5000]`.

Two workers with the digest model; the victim is by turns the driver with everything it started (a machine going down), a
worker, a model process or the node's raylet. The same command is run again until it ends well; then the next output folder
is begun, until all kills are spent. A watcher opens every visible result file every 50 ms. The ledger of the model counts
how often each row was computed.
"""

import argparse
import collections
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.faults.driver import Driver
from benchmarks.faults.figures import Figure, Figures, table
from benchmarks.kill_once import Watcher
from tests.faults.small_archive import SETTINGS, write_small_archive

KINDS = ("worker", "driver", "model", "node")
BATCH, PART_ROWS, ACTORS, PREFETCH = 8, 250, 2, 2
DELAY_S = 0.01
LONGEST_WAIT_S = 2.0
RUN = (*SETTINGS, f"run.batch={BATCH}", f"run.part_rows={PART_ROWS}")
LONGEST_RUN_S = 600.0


class Campaign:
    """All runs and kills, and what was seen."""

    def __init__(self, folder: Path, rows: int, kills: int, seed: int) -> None:
        self.folder, self.rows, self.left, self.random = folder, rows, kills, random.Random(seed)
        self.manifest = write_small_archive(folder / "archive", rows)
        self.kills: collections.Counter[str] = collections.Counter()
        self.recomputed = self.lost = self.doubled = self.partial = self.looks = self.runs = self.given_up = 0
        self.digests: set[str] = set()

    def __str__(self) -> str:
        rows = f"rows: {self.lost} lost, {self.doubled} doubled, {self.given_up} given up, {self.recomputed} computed twice"
        seen = f"{self.partial} partial files, {len(self.digests)} results"
        return f"{sum(self.kills.values())} kills in {self.runs} runs; {rows}; {seen}"

    def go(self) -> None:
        """Run after run until every kill is spent; the last run ends undisturbed, and the first one has no kills at all."""
        self._one_output(0)
        while self.left:
            self._one_output(self.random.randint(4, 12))
            print(f"  {self}", file=sys.stderr, flush=True)  # a campaign that is broken off has said so far

    def _one_output(self, kills: int) -> None:
        output, ledger = self.folder / f"out{self.runs}", self.folder / f"ledger{self.runs}"
        watcher = Watcher(output / "results")
        watcher.start()
        kills = min(kills, self.left)
        while True:
            noted = {"HASH_MODEL_LEDGER": str(ledger), "HASH_MODEL_DELAY_S": str(DELAY_S)}
            driver = Driver("tests.faults.hash_job", self.manifest, output, ACTORS, RUN, noted)
            try:
                kills -= self._killed(driver, ledger, kills)
                code = driver.process.wait(LONGEST_RUN_S) if driver.process.poll() is None else driver.process.returncode
            finally:
                driver.end()
            if code == 0:
                break
            if not kills and code not in (-signal.SIGKILL, 3):
                raise RuntimeError(f"ended with {code}: {driver.log.read_text()[-2000:]}")
        watcher.stop.set()
        watcher.join()
        self.runs += 1
        self.partial, self.looks = self.partial + len(watcher.partial), self.looks + watcher.looks
        self._count(output, ledger)
        shutil.rmtree(output)

    def _killed(self, driver: Driver, ledger: Path, most: int) -> int:
        """Kill in this process of the command until it ends or the kills are spent; how many."""
        killed = 0
        while killed < most and driver.process.poll() is None:
            kind = KINDS[sum(self.kills.values()) % len(KINDS)]
            if not self._worked(driver, ledger):
                break
            found = driver.victims(kind)
            if not found:
                time.sleep(0.1)
                continue
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(found), signal.SIGKILL)
            killed, self.left = killed + 1, self.left - 1
            self.kills[kind] += 1
            if kind in ("driver", "node"):  # without its raylet the driver may wait long for what has gone
                time.sleep(self.random.uniform(0.0, 1.0))
                driver.end()
        return killed

    def _worked(self, driver: Driver, ledger: Path) -> bool:
        """Wait until rows are computed, and a random moment longer; False if the command ended before."""
        before = ledger.stat().st_size if ledger.exists() else 0
        while not ledger.exists() or ledger.stat().st_size == before:
            if driver.process.poll() is not None:
                return False
            time.sleep(0.02)
        time.sleep(self.random.uniform(0.0, LONGEST_WAIT_S))
        return driver.process.poll() is None

    def _count(self, output: Path, ledger: Path) -> None:
        found = pq.read_table(output / "results")
        ids = found["id"].to_pylist()
        self.lost += self.rows - len(set(ids))
        self.doubled += len(ids) - len(set(ids))
        self.given_up += sum(status != "ok" for status in found["status"].to_pylist())
        parts = b"".join(path.read_bytes() for path in sorted((output / "results").iterdir()))
        self.digests.add(hashlib.sha256(parts).hexdigest())
        self.recomputed += len(ledger.read_text().splitlines()) - self.rows


def measure(kills: int = 300, rows: int = 5000, seed: int = 0) -> Figures:
    """Rows lost, doubled, recomputed; partial files; different results."""
    with tempfile.TemporaryDirectory() as name:
        campaign = Campaign(Path(name), rows, kills, seed)
        campaign.go()
    n = sum(campaign.kills.values())
    print("kills: " + ", ".join(f"{kind} {count}" for kind, count in sorted(campaign.kills.items())), f"in {campaign.runs} runs")
    return [
        Figure("kills: rows lost", campaign.lost, 0, n),
        Figure("kills: rows doubled", campaign.doubled, 0, n),
        Figure("kills: rows given up", campaign.given_up, 0, n),
        Figure(f"kills: partial files in {campaign.looks} looks", campaign.partial, 0, n),
        Figure("kills: different results", len(campaign.digests), 1, n),
        Figure("kills: rows recomputed a kill, mean", campaign.recomputed / max(n, 1), 2 * BATCH * PREFETCH, n),
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    figures = measure(options.kills, options.rows, options.seed)
    print(table("P1 kills", figures))
    print(json.dumps({one.name: round(one.value, 3) for one in figures}))
    return 0 if all(one.held for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
