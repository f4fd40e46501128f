"""The same results whatever happens on the way: `python -m benchmarks.faults.same_bytes [--rows 16]`.

The embedded model over a small archive, with 1, 2 and 4 workers, without kills and with 5 (model processes and workers by
turns), in batches of 1, 4 and 8. Strict runs must all give the same bytes; of loose ones the share of equal rows is told.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.faults.driver import Driver
from benchmarks.faults.figures import Figure, Figures, table
from ray_pipeline.synthesis.archive import entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases

ACTORS, KILLS, BATCHES, PART_ROWS = (1, 2, 4), (0, 5), (1, 4, 8), 4
LONGEST_RUN_S = 900.0


def measure(rows: int = 16) -> Figures:
    """How many different results there are."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_archive(folder, map(entry_of, cases("evaluation", "small", rows, (0.5, 1.0))))
        digests, tables, killed = set(), {}, 0
        for strict in (True, False):
            for actors, kills, batch in (
                itertools.product(ACTORS, KILLS, BATCHES) if strict else ((1, 0, 1), (2, 0, 4), (1, 0, 8))
            ):
                output = folder / f"{strict}-{actors}-{kills}-{batch}"
                killed += _run(manifest, output, actors, kills, [f"run.batch={batch}", f"run.strict={str(strict).lower()}"])
                files = sorted((output / "results").iterdir())
                if strict:
                    digests.add(hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest())
                else:
                    tables[batch] = pq.read_table(output / "results").to_pylist()
                print(f"  {output.name}: {len(digests)} digests", file=sys.stderr, flush=True)
    runs = len(ACTORS) * len(KILLS) * len(BATCHES)
    return [
        Figure(f"strict runs: different results, {killed} kills", len(digests), 1, runs),
        Figure("loose runs: equal rows, batch 4 and 8 against 1", _agreement(tables), 0.0, 2 * rows, at_most=False),
    ]


def _agreement(tables: dict[int, list[dict[str, Any]]]) -> float:
    pairs = [(a, b) for batch in (4, 8) for a, b in zip(tables[1], tables[batch], strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)


def _run(manifest: Path, output: Path, actors: int, kills: int, settings: list[str]) -> int:
    """One run to its end, with so many kills if it lives long enough; how many there were."""
    chance, killed = random.Random(str(output)), 0
    driver = Driver("jobs.answer", manifest, output, actors, [f"run.part_rows={PART_ROWS}", *settings], {})
    try:
        while killed < kills and driver.process.poll() is None:
            time.sleep(chance.uniform(0.5, 3.0))
            found = driver.victims(("model", "worker")[killed % 2])
            if not found or not driver.victims("model"):
                continue
            with suppress(ProcessLookupError):
                os.kill(chance.choice(found), signal.SIGKILL)
                killed += 1
        if driver.process.wait(LONGEST_RUN_S):
            raise RuntimeError(f"ended with {driver.process.returncode}: {driver.log.read_text()[-2000:]}")
    finally:
        driver.end()
    return killed


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16)
    figures = measure(parser.parse_args(argv).rows)
    print(table("P7 same bytes", figures))
    print(json.dumps({one.name: round(one.value, 3) for one in figures}))
    return 0 if all(one.held for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
