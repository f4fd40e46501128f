"""A folder of rendered pictures with a manifest of questions about them, as a user's archive would look.

Some files are broken on purpose where asked for: a missing one, a truncated JPEG, and a picture whose name lies about
its type.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_pipeline.synthesis.evaluation import CROWD_TASKS, Case

_BOX = pa.struct([("x0", pa.float32()), ("y0", pa.float32()), ("x1", pa.float32()), ("y1", pa.float32()), ("label", pa.string())])
MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image_uri", pa.string(), nullable=False),
        ("question", pa.string()),
        ("references", pa.list_(pa.string())),
        ("reference_boxes", pa.list_(_BOX)),
    ]
)


@dataclass(frozen=True)
class Entry:
    """One manifest row with its picture's encoded bytes, None for a file that does not exist, and the boxes of its answer."""

    id: str
    file: str
    data: bytes | None
    question: str
    reference: str
    boxes: tuple[dict[str, Any], ...]


def entry_of(case: Case, quality: int = 92) -> Entry:
    """A case as a JPEG file with its truth."""
    packed = io.BytesIO()
    case.rendering.image.convert("RGB").save(packed, "JPEG", quality=quality)
    kind = f"{case.question.task}-" if case.question.task in CROWD_TASKS else ""
    name = f"{kind}{case.bucket}-{case.seed % 1_000_000:04d}"
    return Entry(name, f"{name}.jpg", packed.getvalue(), case.question.text, case.question.answer, _boxes(case))


def _boxes(case: Case) -> tuple[dict[str, Any], ...]:
    """The answer's box; of a count, the box of every thing counted."""
    question, rendering = case.question, case.rendering
    labelled = [(question.box_px, question.answer or question.task)]
    if question.task == "count":
        labelled = [(rendering.thing_boxes_px[k], rendering.scene.things[k].name) for k in question.counted]
    return tuple(dict(zip(("x0", "y0", "x1", "y1"), box, strict=True), label=label) for box, label in labelled)


def broken_entries(healthy: Entry) -> list[Entry]:
    """A missing file, a JPEG cut in half, and a web page that calls itself a PNG."""
    if healthy.data is None:
        raise ValueError(f"entry {healthy.id!r} has no picture; expected one to cut in half")
    question = "What is the text on the red sign?"
    page = b"<!doctype html><html><body>Not found</body></html>"
    return [
        Entry("missing", "missing.jpg", None, question, "", ()),
        Entry("truncated", "truncated.jpg", healthy.data[: len(healthy.data) // 2], healthy.question, "", ()),
        Entry("lying", "lying.png", page, question, "", ()),
    ]


def write_archive(folder: Path, entries: Iterable[Entry]) -> Path:
    """Write the pictures below `folder` and return the path of the manifest beside them."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for entry in entries:
        if entry.data is not None:
            (folder / "pictures" / entry.file).write_bytes(entry.data)
        rows.append(
            {
                "id": entry.id,
                "image_uri": f"pictures/{entry.file}",
                "question": entry.question,
                "references": [entry.reference],
                "reference_boxes": list(entry.boxes),
            }
        )
    manifest = folder / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA), manifest)
    return manifest
