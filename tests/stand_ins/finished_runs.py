"""Finished runs without a model: rows as they are said to have ended, committed and indexed by the delivery code."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.fingerprint import fingerprint
from ray_pipeline.delivery.formats.parquet import results_bytes
from ray_pipeline.delivery.index import build_index, write_index
from ray_pipeline.delivery.rows import PictureFacts, failed_row, ok_row
from schemas.job import JobSettings
from schemas.manifest import ManifestRow, Part
from schemas.picture import Box
from schemas.result import CandidateRecord, Perception, Refinement, Region
from schemas.status import RowFailure, Status

Ended = tuple[ManifestRow, PictureFacts | None, Perception | RowFailure]


def said(answer: str, regions: Sequence[Region] = (), box_px: Box | None = None, confidence: float | None = 0.75) -> Perception:
    """A perception with this answer in every text, and these boxes."""
    refinement = Refinement("rel_att", (box_px,) if box_px else (), True, answer)
    candidates = (CandidateRecord(box_px, answer, -1.5, 0.25, None, True),)
    sure = confidence if box_px else None
    return Perception(answer, confidence, box_px, sure, answer, 0.25, refinement, candidates, 2, 64, tuple(regions))


def lost(status: Status = Status.FETCH_NOT_FOUND) -> RowFailure:
    """A row that failed."""
    return RowFailure(status, "it was not there")


def write_run(
    folder: Path, rows: Sequence[Ended], part_rows: int = 64, passthrough: pa.Schema | None = None, **settings: Any
) -> str:
    """Write the run to `folder`; its address. The settings name a manifest that need not be there."""
    passed = passthrough if passthrough is not None else pa.schema([])
    chosen = {"manifest": str(folder.parent / "manifest.parquet"), "output": str(folder), "passthrough": list(passed.names)}
    whole = JobSettings.model_validate(chosen | settings)
    output, facts = Output(str(folder)), fingerprint(whole, "5a" * 32, {})
    run = {"settings": whole.model_dump(mode="json"), "fingerprint": facts, "versions": {"fovea": "1.2.3"}}
    output.create("run.json", json.dumps(run).encode())
    parts = [Part(k, at, min(part_rows, len(rows) - at)) for k, at in enumerate(range(0, len(rows), part_rows))]
    for part in parts:
        ended = [_row(*one) for one in rows[part.first_row : part.first_row + part.rows]]
        output.create(f"results/{part.name}", results_bytes(ended, passed))
    write_index(output, build_index(output, parts, "5a" * 32, facts))
    return str(folder)


def _row(row: ManifestRow, facts: PictureFacts | None, end: Perception | RowFailure) -> Mapping[str, Any]:
    if isinstance(end, RowFailure) or facts is None:
        assert isinstance(end, RowFailure)
        return failed_row(row, end, facts)
    made = ok_row(row, facts, end)
    assert made["status"] == Status.OK, made["error"]
    return made
