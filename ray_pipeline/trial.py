"""A few rows of a manifest through a real worker, timed: what a forecast of the whole run is made from.

Everything is as in the run (fetching, decoding, the model in its own process, journal, commit); only the output folder is a
temporary one. The first block warms caches and the model and is not timed.
"""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from ray_pipeline.delivery.formats.parquet import results_rows
from ray_pipeline.worker import PartOutcome, Worker, WorkOrder
from schemas.manifest import ManifestRow, Part
from schemas.status import Status

OPEN_BLOCKS = 2  # as many parts as a worker of the run holds open


@dataclass(frozen=True)
class Block:
    """One timed block: its manifest rows, its result rows (pages count one by one), and the model's time for them."""

    rows: int
    results: int
    model_s: float


@dataclass(frozen=True)
class Trial:
    """What one worker did: `load_s` from nothing to a loaded model, `warm_s` for the first block of `warm_rows`, `work_s` for all
    the others.

    `results` are short dicts of every result row, the warm-up's too: id, status, size in pixels, views, visual tokens.
    """

    load_s: float
    warm_s: float
    warm_rows: int
    work_s: float
    blocks: tuple[Block, ...]
    results: tuple[dict[str, Any], ...]


def try_out(order: WorkOrder, blocks: list[list[ManifestRow]]) -> Trial:
    """Run the blocks, at least two of them, the first as warm-up.

    Raises:
        ModelUnavailable: the model cannot be loaded here.
        RuntimeError: a block could not be worked on; one line says why.
    """
    with tempfile.TemporaryDirectory(prefix="fovea-trial-") as folder:
        settings = order.settings.model_copy(update={"output": folder})
        started = time.monotonic()
        worker = Worker(replace(order, settings=settings, retry_failed=False))
        load_s = time.monotonic() - started
        try:
            return _tried(worker, blocks, load_s)
        finally:
            worker.close()


def _tried(worker: Worker, blocks: list[list[ManifestRow]], load_s: float) -> Trial:
    parts = _renumbered(blocks)
    began = time.monotonic()
    _run(worker, *parts[0])
    started = time.monotonic()
    with ThreadPoolExecutor(OPEN_BLOCKS) as pool:
        outcomes = list(pool.map(lambda one: _run(worker, *one), parts[1:]))
    work_s = time.monotonic() - started
    files = {part.number: results_rows(worker.output.read(f"results/{part.name}")) for part, _ in parts}
    timed = tuple(
        Block(len(rows), len(files[part.number]), outcome.model_seconds)
        for (part, rows), outcome in zip(parts[1:], outcomes, strict=True)
    )
    return Trial(
        load_s,
        started - began,
        len(blocks[0]),
        work_s,
        timed,
        tuple(_short(row) for part, _ in parts for row in files[part.number]),
    )


def _renumbered(blocks: list[list[ManifestRow]]) -> list[tuple[Part, list[ManifestRow]]]:
    """Sampled rows as if they were a manifest of their own, one part a block."""
    parts, first = [], 0
    for number, rows in enumerate(blocks):
        own = [replace(row, number=first + k) for k, row in enumerate(rows)]
        parts.append((Part(number, first, len(rows)), own))
        first += len(rows)
    return parts


def _run(worker: Worker, part: Part, rows: list[ManifestRow]) -> PartOutcome:
    outcome = worker.run(part, rows)
    if outcome.failure:
        raise RuntimeError(outcome.failure)
    return outcome


def _short(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("id", "status", "image_width", "image_height", "views", "visual_tokens")}
    return kept | {"ok": row["status"] == Status.OK}
