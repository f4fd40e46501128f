"""Truth read from manifests: every row in its order, and one line for what is no truth."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.intake.manifest import ManifestRefused, open_manifest
from ray_pipeline.intake.references import read_truths
from schemas.truth import TrueBox, Truth

BOX = {"x0": 1.0, "y0": 2.0, "x1": 3.0, "y1": 5.0}
BOX_TYPE = pa.struct([(name, pa.float32()) for name in BOX])


def truths(folder: Path, limit: int | None = None, row_group: int = 100, **columns: Any) -> list[Truth]:
    rows = max(len(values) for values in columns.values())
    fixed = {"id": [f"row-{k}" for k in range(rows)], "image_uri": ["a.png"] * rows}
    pq.write_table(pa.table(fixed | columns), folder / "m.parquet", row_group_size=row_group)
    return list(read_truths(open_manifest(str(folder / "m.parquet"), limit, (), ())))


def test_both_columns(tmp_path: Path) -> None:
    boxes = pa.array([[BOX | {"label": "exit"}, BOX | {"label": None}], None, []])
    found = truths(tmp_path, references=[["a", "b"], [], None], reference_boxes=boxes, page=pa.array([None, 3, 0], pa.int32()))
    box = (1.0, 2.0, 3.0, 5.0)
    assert found == [
        Truth(0, "row-0", None, ("a", "b"), (TrueBox(box, "exit"), TrueBox(box, ""))),
        Truth(1, "row-1", 3, (), ()),
        Truth(2, "row-2", 0, (), ()),
    ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["a"], ["b"]], pa.large_list(pa.large_string())),
        pa.array([["a"], ["b"]], pa.list_(pa.string(), 1)),
        pa.array([["a"], ["b"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    ],
)
def test_other_ways_to_store_texts(tmp_path: Path, column: pa.Array) -> None:
    assert [one.references for one in truths(tmp_path, references=column)] == [("a",), ("b",)]


def test_a_column_without_values(tmp_path: Path) -> None:
    boxes = pa.array([[BOX], None], pa.list_(BOX_TYPE))
    assert [len(one.boxes) for one in truths(tmp_path, references=pa.nulls(2), reference_boxes=boxes)] == [1, 0]
    assert [len(one.boxes) for one in truths(tmp_path, references=[["a"], None], reference_boxes=pa.nulls(2))] == [0, 0]


def test_limit_files_and_row_groups(tmp_path: Path) -> None:
    columns = {"references": [[str(k)] for k in range(10)]}
    assert [one.references[0] for one in truths(tmp_path, row_group=3, limit=7, **columns)] == list("0123456")
    (tmp_path / "n.parquet").write_bytes((tmp_path / "m.parquet").read_bytes())
    table = pq.read_table(tmp_path / "n.parquet").set_column(0, "id", pa.array([f"other-{k}" for k in range(10)]))
    pq.write_table(table, tmp_path / "n.parquet")
    found = list(read_truths(open_manifest(str(tmp_path), 12, (), ())))
    assert [one.number for one in found] == list(range(12)) and found[11].id == "other-1"


def test_no_truth_at_all(tmp_path: Path) -> None:
    with pytest.raises(
        ManifestRefused, match="no column 'references' or 'reference_boxes', expected one of them beside id, image"
    ):
        truths(tmp_path, question=["?"])


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("references", pa.array(["a"]), "column 'references' is string, expected list<string>"),
        ("references", pa.array([[1]]), "is list<element: int64>, expected list<string>|is list<item: int64>"),
        ("reference_boxes", pa.array([[[0, 0, 1, 1]]]), "expected list<struct<x0, y0, x1, y1: float32, label: string>>"),
        ("reference_boxes", pa.array([[{"x0": 1.0, "y0": 1.0, "x1": 2.0}]]), "expected list<struct<x0"),
        ("reference_boxes", pa.array([[BOX | {"x1": "3"}]]), "expected list<struct<x0"),
        ("reference_boxes", pa.array([[BOX | {"label": 3}]]), "expected list<struct<x0"),
    ],
)
def test_wrong_types(tmp_path: Path, name: str, column: pa.Array, message: str) -> None:
    with pytest.raises(ManifestRefused, match=message):
        truths(tmp_path, **{name: column})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("references", ["a", None], "a reference is null, expected a text"),
        ("references", ["x" * 100_001], "a reference of 100001 characters, expected at most 100000"),
        ("reference_boxes", [None], "a reference box is null or lacks a corner"),
        ("reference_boxes", [BOX | {"y1": None}], "a reference box is null or lacks a corner"),
        ("reference_boxes", [BOX | {"x1": 1.0}], "reference box 1, 2, 1, 5, expected x0 < x1 and y0 < y1"),
        ("reference_boxes", [BOX, BOX | {"y0": 9.0}], "reference box 1, 9, 3, 5, expected"),
        ("reference_boxes", [BOX | {"x1": float("nan")}], "reference box 1, 2, nan, 5, expected"),
        ("reference_boxes", [BOX | {"x0": float("-inf")}], "reference box -inf, 2, 3, 5, expected"),
    ],
)
def test_wrong_values_name_the_row(tmp_path: Path, name: str, value: Any, message: str) -> None:
    kind = pa.list_(pa.string() if name == "references" else BOX_TYPE)
    with pytest.raises(ManifestRefused, match=rf"m\.parquet: row 1 \(id 'row-1'\): {message}") as refused:
        truths(tmp_path, **{name: pa.array([None, value], kind)})
    assert "\n" not in str(refused.value)
