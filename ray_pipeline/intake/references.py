"""The truth of a labelled manifest, row by row: its columns `references` and `reference_boxes`, checked.

Boxes are checked for their order here; whether they lie inside the picture can only be said once its size is known.
"""

from collections.abc import Iterator
from math import isfinite
from typing import Any

import pyarrow as pa

from ray_pipeline.intake.manifest import Manifest
from ray_pipeline.intake.manifest_columns import is_text, plain
from ray_pipeline.intake.manifest_files import store_of
from ray_pipeline.intake.manifest_refused import ManifestRefused
from ray_pipeline.intake.parquet_file import batches, opened
from ray_pipeline.intake.redaction import redacted
from schemas.truth import TrueBox, Truth

TEXTS, BOXES = "references", "reference_boxes"
LONGEST_REFERENCE = 100_000  # characters, as of an answer: edit distances take the product of both
_BOX_TYPE = "list<struct<x0, y0, x1, y1: float32, label: string>>"
_CORNERS = ("x0", "y0", "x1", "y1")


def read_truths(manifest: Manifest) -> Iterator[Truth]:
    """Every row of an opened manifest in its order, a batch in memory at a time.

    Raises:
        ManifestRefused: neither column is there, one has another type, or a value is no truth; the row is named.
    """
    store, _ = store_of(manifest.uri)
    number = 0
    for path, rows in manifest.files:
        shown = redacted(path)
        with opened(store, path) as parquet:
            names = ["id", *_truth_columns(parquet.schema, shown)]
            names += ["page"] if "page" in parquet.schema.names else []
            for batch in batches(parquet, names, 0, min(rows, manifest.rows - number)):
                for values in batch.to_pylist():
                    yield _truth(number, values, shown)
                    number += 1


def _truth_columns(schema: pa.Schema, shown: str) -> list[str]:
    """Those that are there, with the types the interface demands."""
    there = [name for name in (TEXTS, BOXES) if name in schema.names]
    if not there:
        columns = ", ".join(schema.names[:20])
        raise ManifestRefused(f"{shown}: no column {TEXTS!r} or {BOXES!r}, expected one of them beside {columns}")
    for name in there:
        if len(schema.get_all_field_indices(name)) != 1:
            raise ManifestRefused(f"{shown}: column {name!r} stands there more than once, expected once")
        kind = schema.field(name).type
        fits, expected = (_is_texts(kind), "list<string>") if name == TEXTS else (_is_boxes(kind), _BOX_TYPE)
        if not (fits or pa.types.is_null(kind)):
            raise ManifestRefused(f"{shown}: column {name!r} is {plain(kind)}, expected {expected}")
    return there


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_texts(kind: pa.DataType) -> bool:
    return _is_list(kind) and (is_text(plain(kind.value_type)) or pa.types.is_null(kind.value_type))


def _is_boxes(kind: pa.DataType) -> bool:
    if not (_is_list(kind) and pa.types.is_struct(kind.value_type)):
        return False
    types = {field.name: field.type for field in kind.value_type}
    numbers = all(name in types and (pa.types.is_floating(types[name]) or pa.types.is_integer(types[name])) for name in _CORNERS)
    return numbers and ("label" not in types or is_text(plain(types["label"])) or pa.types.is_null(types["label"]))


def _truth(number: int, values: dict[str, Any], shown: str) -> Truth:
    where = f"{shown}: row {number} (id {values['id']!r})"
    references = tuple(_reference(value, where) for value in values.get(TEXTS) or ())
    boxes = tuple(_box(value, where) for value in values.get(BOXES) or ())
    return Truth(number, values["id"], values.get("page"), references, boxes)


def _reference(value: str | None, where: str) -> str:
    if value is None:
        raise ManifestRefused(f"{where}: a reference is null, expected a text")
    if len(value) > LONGEST_REFERENCE:
        raise ManifestRefused(f"{where}: a reference of {len(value)} characters, expected at most {LONGEST_REFERENCE}")
    return value


def _box(value: dict[str, Any] | None, where: str) -> TrueBox:
    if value is None or any(value[name] is None for name in _CORNERS):
        raise ManifestRefused(f"{where}: a reference box is null or lacks a corner, expected x0, y0, x1, y1")
    x0, y0, x1, y1 = (float(value[name]) for name in _CORNERS)
    if not (all(map(isfinite, (x0, y0, x1, y1))) and x0 < x1 and y0 < y1):
        raise ManifestRefused(f"{where}: reference box {x0:g}, {y0:g}, {x1:g}, {y1:g}, expected x0 < x1 and y0 < y1 in pixels")
    return TrueBox((x0, y0, x1, y1), value.get("label") or "")
