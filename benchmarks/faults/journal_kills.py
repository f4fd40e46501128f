"""A thousand kills of drivers at random moments, with a reader that watches all the while; and what the journal costs."""

import random
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.faults.figures import Figure, Figures
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.journal import Journal
from schemas.manifest import Part
from tests.faults.delivery_runs import BATCH, DeliveryRuns, findings, recomputed, scratch_folder, watch

KILLS, KILLS_EACH = 1000, 8
RECORDS, RECORD_ROWS = 200, 16


def measure() -> Figures:
    """Outputs that are not as they must be, partial files seen, rows recomputed per kill, milliseconds per batch."""
    chance, kills, outputs = random.Random(1), 0, 0
    wrong = partial = looks = 0
    worst = 0.0
    with DeliveryRuns() as runs, scratch_folder() as name:
        while kills < KILLS:
            folder = Path(name) / str(outputs)
            outputs += 1
            here, seen = _killed(runs, folder, chance)
            kills += here
            wrong += len(findings(folder))
            worst = max(worst, recomputed(folder) / max(here, 1))
            looks += int(seen[-1].split()[1])
            partial += len(seen) - 1
    return [
        Figure("rows lost or doubled, other findings, leftovers", wrong, 0, kills),
        Figure("partial or changed files seen by the reader", partial, 0, looks),
        Figure("rows recomputed per kill, worst output", worst, BATCH, outputs),
        Figure("journal of a batch: suspects and finished rows", _cost_ms(), 25, RECORDS, unit="ms"),
    ]


def _killed(runs: DeliveryRuns, folder: Path, chance: random.Random) -> tuple[int, list[str]]:
    """Kills until the output is complete, and what the reader saw."""
    (folder / "out").mkdir(parents=True)
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(watch(folder, folder / "stop")))
    reader.start()
    try:
        kills = [runs.run(folder, kill_s=chance.uniform(0, 0.08), pause_s=0.001) for _ in range(KILLS_EACH)].count([-9])
        if runs.run(folder) != [0]:
            raise RuntimeError(f"{folder}: a driver that nobody disturbed failed")
    finally:
        (folder / "stop").touch()
        reader.join()
    return kills, seen


def _cost_ms() -> float:
    """Median milliseconds that one batch of rows of 1 kB costs, on the disk of the temporary folder."""
    took = []
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Output(folder), Part(0, 0, RECORDS * RECORD_ROWS))
        for batch in range(RECORDS):
            rows = {batch * RECORD_ROWS + k: {"id": str(k), "answer": "x" * 1000} for k in range(RECORD_ROWS)}
            started = time.perf_counter()
            journal.suspect(list(rows))
            journal.finish(rows)
            took.append(time.perf_counter() - started)
        journal.close()
    return sorted(took)[len(took) // 2] * 1000
