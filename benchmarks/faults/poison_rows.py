"""Rows that kill, hang or overfill the model process: what they cost, and that they cost nobody else.

One worker, batches of 16, the digest model; poison at 1, 2 and 5 rows of 1,000 (kills by signal 9 and 11 and hangs by
turns), and memory that runs out for one row in ten, in company only. Good rows must be byte-identical to a clean run's.
"""

import tempfile
from collections.abc import Mapping
from contextlib import closing
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.faults.figures import Figure, Figures
from ray_pipeline.intake.manifest import cut_parts, open_manifest, read_rows
from ray_pipeline.worker import PartOutcome, Worker, WorkOrder
from schemas.job import JobSettings
from schemas.status import Status
from tests.faults.small_archive import write_small_archive
from tests.stand_ins.hash_model import load_hash

BATCH, ROWS, CALL_TIMEOUT_S = 16, 1000, 3.0
KINDS = ("segv", "kill", "hang")


def measure() -> Figures:
    """Restarts a poison row, good rows lost or changed, and the time against a clean run's."""
    figures: Figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clean, clean_rows = _run(folder / "clean", {})
        for count in (1, 2, 5):
            places = np.random.default_rng(count).choice(ROWS, count, replace=False)
            poison = {int(place): KINDS[k % len(KINDS)] for k, place in enumerate(places)}
            figures += _poisoned(folder / f"poison{count}", poison, clean, clean_rows)
        figures += _crowded(folder / "crowded", clean_rows)
    return figures


def _poisoned(folder: Path, poison: Mapping[int, str], clean: PartOutcome, clean_rows: list[dict[str, Any]]) -> Figures:
    outcome, rows = _run(folder, poison)
    ends = {"segv": Status.MODEL_CRASH, "kill": Status.MODEL_CRASH, "hang": Status.MODEL_TIMEOUT}
    wrong = sum(rows[k]["status"] != ends[kind] for k, kind in poison.items())
    lost = sum(rows[k] != clean_rows[k] for k in range(ROWS) if k not in poison)
    each = outcome.starts / len(poison)
    title = f"{len(poison)} in {ROWS}"
    return [
        Figure(f"{title}: restarts a poison row", each, log2(BATCH) + 2, len(poison)),
        Figure(f"{title}: good rows lost or changed", lost, 0, ROWS - len(poison)),
        Figure(f"{title}: poison rows with another status", wrong, 0, len(poison)),
        Figure(f"{title}: seconds, clean run {clean.seconds:.1f}", outcome.seconds, float("inf"), 1, unit="s"),
    ]


def _crowded(folder: Path, clean_rows: list[dict[str, Any]]) -> Figures:
    """Out of memory in company: batches halve, nothing dies, every row is answered as if alone."""
    outcome, rows = _run(folder, dict.fromkeys(range(0, ROWS, 10), "oom"))
    kept = [{key: value for key, value in row.items() if key != "question"} for row in rows]
    wanted = [{key: value for key, value in row.items() if key != "question"} for row in clean_rows]
    changed = sum(a != b for a, b in zip(kept, wanted, strict=True))
    return [
        Figure("memory short for 1 in 10: rows lost or changed", changed, 0, ROWS),
        Figure("memory short for 1 in 10: processes lost", outcome.starts, 0, ROWS // 10),
    ]


def _run(folder: Path, poison: Mapping[int, str]) -> tuple[PartOutcome, list[dict[str, Any]]]:
    manifest = write_small_archive(folder, ROWS, dict(poison))
    run = {"batch": BATCH, "part_rows": ROWS, "call_timeout_s": CALL_TIMEOUT_S}
    chosen = {"manifest": str(manifest), "output": str(folder / "out"), "run": run, "refine": {"method": "none"}}
    settings = JobSettings.model_validate(chosen)
    opened = open_manifest(settings.manifest, None, ("question",), ())
    (part,) = cut_parts(opened.rows, ROWS)
    with closing(Worker(WorkOrder(settings, opened.base, opened.remote, opened.passthrough, False, load_hash))) as worker:
        outcome = worker.run(part, read_rows(opened, part.first_row, part.rows))
    if outcome.failure:
        raise RuntimeError(outcome.failure)
    rows: list[dict[str, Any]] = pq.read_table(folder / "out" / "results").to_pylist()
    return outcome, rows
