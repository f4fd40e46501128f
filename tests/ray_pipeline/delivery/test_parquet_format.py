"""Result files: explicit columns, the same bytes everywhere."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.delivery.formats.parquet import results_bytes
from ray_pipeline.delivery.rows import PictureFacts, failed_row, ok_row
from schemas.manifest import ManifestRow
from schemas.result import RESULT_COLUMNS, CandidateRecord, Perception, Refinement
from schemas.status import RowFailure, Status

EXTRA = pa.schema(
    [pa.field("shelf", pa.string(), metadata={"left": "by another tool"}), ("year", pa.int16())], metadata={"pandas": "{}"}
)


def some_rows(count: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(count):
        row = ManifestRow(
            number, f"id-{number}", f"pages/{number}.png", None, "wie groß?", {"shelf": "a" * number, "year": 1900 + number}
        )
        if number % 5 == 4:
            rows.append(failed_row(row, RowFailure(Status.FETCH_TIMEOUT, f"took {number} s"), None))
            continue
        candidate = CandidateRecord(None, f"{number} €", -number / 7, None, None, True)
        said = Perception(
            f"{number} €", 1 / (number + 1), (0.1, 0.2, number + 1.3, 9.7), None, None, None,
            Refinement("none", (), False, "off"), (candidate,), 1, 196,
        )  # fmt: skip
        rows.append(ok_row(row, PictureFacts(1000 + number, 50, "0" * 64), said))
    return rows


def digest(count: int) -> str:
    return hashlib.sha256(results_bytes(some_rows(count), EXTRA)).hexdigest()


def test_the_same_rows_give_the_same_bytes_in_a_fresh_process() -> None:
    here = str(Path(__file__).parent)
    program = (
        f"import sys; sys.path.insert(0, {here!r}); from test_parquet_format import digest; print(*map(digest, (0, 1, 700)))"
    )
    fresh = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert fresh.stdout.split() == [digest(count) for count in (0, 1, 700)]
    assert len({digest(count) for count in (0, 1, 1, 700, 700)}) == 3


def test_rows_come_back_in_order_with_the_declared_columns() -> None:
    rows = some_rows(64)
    file = pq.ParquetFile(pa.BufferReader(results_bytes(rows, EXTRA)))
    assert file.num_row_groups == 1
    assert file.schema_arrow.equals(pa.schema([*RESULT_COLUMNS, ("shelf", pa.string()), ("year", pa.int16())]))
    assert not file.schema_arrow.metadata and not file.schema_arrow.field("shelf").metadata
    table = file.read()
    assert table["id"].to_pylist() == [row["id"] for row in rows]
    assert table["shelf"].to_pylist() == [row["shelf"] for row in rows]


def test_columns_are_the_same_where_every_row_failed() -> None:
    row = failed_row(ManifestRow(0, "a", "b"), RowFailure(Status.SKIPPED, "no"), None)
    read = pq.read_schema(pa.BufferReader(results_bytes([row], pa.schema([]))))
    assert read.equals(RESULT_COLUMNS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": None}, "id"),
        ({"surplus": 1}, "surplus"),
        ({"views": 2**31}, "2147483648"),
        ({"answer": 7}, "int"),
    ],
)
def test_a_row_its_columns_cannot_hold_is_refused(change: dict[str, Any], says: str) -> None:
    rows = some_rows(3)
    with pytest.raises((ValueError, pa.ArrowException, OSError), match=says):
        results_bytes([*rows, rows[0] | change], EXTRA)


def test_a_lacking_column_is_refused() -> None:
    rows = some_rows(2)
    del rows[1]["shelf"]
    with pytest.raises(ValueError, match=r"row 1 .*shelf"):
        results_bytes(rows, EXTRA)


@pytest.mark.parametrize("names", [["answer"], ["x", "x"]])
def test_a_column_cannot_stand_twice(names: list[str]) -> None:
    with pytest.raises(ValueError, match="twice"):
        results_bytes([], pa.schema([(name, pa.string()) for name in names]))
