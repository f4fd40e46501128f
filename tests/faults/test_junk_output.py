"""Whatever a model hands over becomes a row that fits the columns: as it is where it is allowed, else `invalid_output`."""

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.delivery.checks import ROW_TEXT_LIMIT, TEXT_LIMIT
from ray_pipeline.delivery.formats.parquet import results_bytes
from ray_pipeline.delivery.rows import PictureFacts, ok_row
from schemas.manifest import ManifestRow
from schemas.result import RESULT_COLUMNS
from tests.faults.junk_answers import SOUND, junk_answers

ROW = ManifestRow(7, "scan-7", "s3://b/7.tif", 3, "who?", {})
FACTS = PictureFacts(640, 480, "ab" * 32)


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, Any, dict[str, Any]]]:
    return [(name, said, ok_row(ROW, FACTS, said)) for name, said in junk_answers()]


def leaves(value: object) -> Iterator[object]:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if members is None:
        yield value
    else:
        for member in members:
            yield from leaves(member)


def test_no_junk_breaks_the_schema(rows: list[tuple[str, Any, dict[str, Any]]]) -> None:
    table = pq.read_table(pa.BufferReader(results_bytes([row for _, _, row in rows], pa.schema([]))))
    assert table.num_rows == len(rows) > 1000
    assert table.schema.names == RESULT_COLUMNS.names
    assert {status.as_py() for status in table["status"]} == {"ok", "invalid_output"}


def test_what_passes_is_sound(rows: list[tuple[str, Any, dict[str, Any]]]) -> None:
    """The promises of the columns, checked again on what was let through."""
    passed = [(name, row) for name, _, row in rows if row["status"] == "ok"]
    for name, row in passed:
        numbers = [leaf for leaf in leaves(row) if isinstance(leaf, float)]
        texts = [leaf for leaf in leaves(row) if isinstance(leaf, str)]
        assert all(math.isfinite(number) for number in numbers), name
        assert all(len(text) <= TEXT_LIMIT and text.encode() is not None for text in texts), name
        assert sum(len(text) for text in texts) <= ROW_TEXT_LIMIT + 1000, name
        for box in boxes(row):
            assert 0 <= box["x0"] < box["x1"] <= 640 and 0 <= box["y0"] < box["y1"] <= 480, name
        assert all(row[key] is None or 0 <= row[key] <= 1 for key in row if key.endswith("_confidence")), name
    assert 0 < len(passed) < len(rows) / 4


def boxes(value: object) -> Iterator[dict[str, float]]:
    if isinstance(value, dict):
        if "x0" in value:
            yield value
        for member in value.values():
            yield from boxes(member)
    elif isinstance(value, list):
        for member in value:
            yield from boxes(member)


def test_what_fails_says_why(rows: list[tuple[str, Any, dict[str, Any]]]) -> None:
    for name, _, row in rows:
        if row["status"] != "ok":
            assert row["error"].isprintable() and len(row["error"]) <= 500
            assert "expected" in row["error"], name
            assert row["answer"] is None and row["regions"] is None


def test_cut_json_as_an_answer_is_text() -> None:
    """The model's own words, right or wrong, are kept: only their form is judged here."""
    said = next(one for one in junk_answers() if one[0] == "answer" and one[1].answer == '{"box": [1, 2')[1]
    assert ok_row(ROW, FACTS, said)["answer"] == '{"box": [1, 2'
    assert ok_row(ROW, FACTS, SOUND)["status"] == "ok"
