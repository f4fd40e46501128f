"""The footer's own words: they agree with pyarrow's on sound files, and lies and nonsense are ValueErrors, quickly."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.intake.parquet_footer import read_footer


def footer(content: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(content, buffer, **options)
    whole = buffer.getvalue()
    return whole[-8 - int.from_bytes(whole[-8:-4], "little") : -8]


CONTENT = pa.table(
    {
        "id": [f"r{number}" for number in range(50)],
        "count": pa.array([None, *range(49)], pa.int64()),
        "boxes": [[{"x0": 1.0, "y0": 2.0}] * (number % 3) for number in range(50)],
        "flags": [{"on": True, "names": ["a", "b"]}] * 50,
    }
)


@pytest.mark.parametrize(
    "options",
    [{}, {"row_group_size": 7}, {"version": "1.0", "compression": "none"}, {"write_page_index": True, "use_dictionary": False}],
    ids=str,
)
def test_agrees_with_pyarrow(options: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    pq.write_table(CONTENT, buffer, **options)
    expected = pq.ParquetFile(buffer).metadata
    groups = read_footer(footer(CONTENT, **options))
    assert [group.rows for group in groups] == [expected.row_group(place).num_rows for place in range(expected.num_row_groups)]
    for number, group in enumerate(groups):
        columns = [expected.row_group(number).column(place) for place in range(expected.num_columns)]
        assert [".".join(column.path) for column in group.columns] == [column.path_in_schema for column in columns]
        assert [column.values for column in group.columns] == [column.num_values for column in columns]
        assert [column.unpacked_bytes for column in group.columns] == [column.total_uncompressed_size for column in columns]


# fields of FileMetaData by hand: version 1, an empty schema, then rows (zigzag) and row groups
HEAD = b"\x15\x02\x19\x0c"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cannot be read"),
        (b"\0", "cannot be read"),
        (HEAD + b"\x16\x0a\x19\x0c\0", "5 rows in its footer and 0"),
        (HEAD + b"\x16\x00\x19\x1c\x19\x0c\x26\x01\x00\0", "0 rows in its footer and -1"),
        (HEAD + b"\x16\x00\x19\x0c\x4c\0\0", "encrypted columns"),
        (HEAD + b"\x16\x00\x19\xfc\xff\xff\xff\xff\x07\0", "promises 2147483647 values"),
        (HEAD + b"\x16" + b"\xff" * 12, "more than 64 bits"),
        (b"\x1c" * 100, "24 levels"),
        (b"\x1f", "type 15"),
        (HEAD + b"\x16\x00\x15\x0c\0", "cannot be read"),
    ],
)
def test_nonsense_is_said(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_footer(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2000))
def test_any_bytes_end_as_groups_or_a_value_error(noise: bytes, place: int) -> None:
    sound = footer(CONTENT.slice(0, 5))
    for data in (noise, sound[:place] + noise + sound[place:], sound[:place]):
        try:
            groups = read_footer(data)
        except ValueError:
            continue
        assert all(group.rows >= 0 for group in groups)
