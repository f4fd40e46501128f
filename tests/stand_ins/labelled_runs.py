"""Small labelled manifests and finished runs on them, written through the project's own delivery, without a model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.fingerprint import fingerprint
from ray_pipeline.delivery.formats.parquet import results_bytes
from ray_pipeline.delivery.index import build_index, write_index
from ray_pipeline.delivery.rows import PictureFacts, failed_row, ok_row
from ray_pipeline.intake.manifest import cut_parts, open_manifest
from ray_pipeline.synthesis.archive import MANIFEST_SCHEMA
from schemas.job import JobSettings
from schemas.manifest import ManifestRow
from schemas.picture import Box
from schemas.result import CandidateRecord, Perception, Refinement, Region
from schemas.status import RowFailure, Status

WIDTH, HEIGHT = 200, 100
PART_ROWS = 3


@dataclass(frozen=True)
class Said:
    """What the model said about a row; None for `answer` where the row failed."""

    answer: str | None = ""
    before: str | None = None
    box_px: Box | None = None
    sure: float | None = None
    box_sure: float | None = None
    crops_px: tuple[Box, ...] = ()
    used: bool = False
    candidates: tuple[CandidateRecord, ...] = ()
    regions: tuple[Region, ...] = ()
    page: int | None = None
    picture: str = ""


@dataclass(frozen=True)
class Labelled:
    """A manifest row with its truth, and what was said of it: several for a document exploded into pages."""

    id: str
    references: Sequence[str] | None = None
    boxes: Sequence[Box] | None = None
    said: Sequence[Said] = field(default_factory=lambda: (Said(),))


def result_row(said: Said = Said(), identifier: str = "row") -> dict[str, Any]:
    """The row as delivery writes it, of a picture WIDTH x HEIGHT."""
    row = ManifestRow(0, identifier, f"{identifier}.png", said.page, "?")
    if said.answer is None:
        return failed_row(row, RowFailure(Status.FETCH_NOT_FOUND, "no such file"), None)
    refinement = Refinement("rel_att" if said.crops_px else "none", said.crops_px, said.used, "test")
    perception = Perception(
        said.answer, said.sure, said.box_px, said.box_sure, said.before, None, refinement, said.candidates, 1, 9, said.regions
    )
    digest = (said.picture or identifier).encode().hex().ljust(64, "0")[:64]
    return ok_row(row, PictureFacts(WIDTH, HEIGHT, digest), perception)


def write_manifest(path: Path, rows: Sequence[Labelled]) -> str:
    """A manifest with both columns of truth."""
    corners = ("x0", "y0", "x1", "y1")
    values = [
        {
            "id": row.id,
            "image_uri": f"{row.id}.png",
            "question": "?",
            "references": None if row.references is None else list(row.references),
            "reference_boxes": None
            if row.boxes is None
            else [dict(zip(corners, box, strict=True), label="") for box in row.boxes],
        }
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(values, schema=MANIFEST_SCHEMA), path)
    return str(path)


def finished_run(
    folder: Path, rows: Sequence[Labelled], name: str = "out", task: str = "answer", parts: int | None = None, **settings: Any
) -> str:
    """The output folder of a run on `folder/m.parquet`, which is written anew; with `parts` it broke off after so many."""
    uri = write_manifest(folder / "m.parquet", rows)
    job = JobSettings.model_validate({"manifest": uri, "output": str(folder / name), "task": task, **settings})
    manifest = open_manifest(uri, None, (), ())
    output, facts = Output(job.output), fingerprint(job, manifest.digest, {})
    output.create("run.json", json.dumps({"settings": job.model_dump(mode="json"), "fingerprint": facts}).encode())
    planned = cut_parts(manifest.rows, PART_ROWS)
    for part in planned[:parts]:
        members = rows[part.first_row : part.first_row + part.rows]
        results = [result_row(said, row.id) for row in members for said in row.said]
        pages = {part.first_row + place: len(row.said) for place, row in enumerate(members)}
        output.create(f"results/{part.name}", results_bytes(results, pa.schema([]), pages))
    if parts is None:
        write_index(output, build_index(output, planned, manifest.digest, facts))
    return job.output
