"""Result rows as the bytes of one Parquet file: the same rows give the same bytes, on any machine, at any time.

Every choice that could vary is written down: schema, format version, codec and level, encodings, one row group. What
remains is the version of Arrow, which stands in the file's footer and in run.json.

A file in which documents were taken apart says in its metadata, under `fovea.pages`, how many pages each has: a JSON object
from the number of the manifest row to the count, for those with more than one. So it can be seen that none is missing.
"""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.result import RESULT_COLUMNS

PAGES_KEY = b"fovea.pages"


def results_schema(passthrough_schema: pa.Schema) -> pa.Schema:
    """Result columns, then the pass-through columns, without the metadata other tools left on them.

    Raises:
        ValueError: a pass-through column has the name of a result column, or a name twice.
    """
    names = [*RESULT_COLUMNS.names, *passthrough_schema.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"columns {twice} would stand twice in the results")
    return pa.schema([*RESULT_COLUMNS, *(field.remove_metadata() for field in passthrough_schema)])


def results_bytes(rows: list[dict[str, Any]], passthrough_schema: pa.Schema, pages: Mapping[int, int] | None = None) -> bytes:
    """The file's bytes, rows in the given order. `pages`: how many each document has, by the number of its manifest row.

    Raises:
        ValueError: a row lacks a column, has one too many, or a value that its column cannot hold.
    """
    schema = results_schema(passthrough_schema)
    expected = set(schema.names)
    for place, row in enumerate(rows):
        if set(row) != expected:  # Arrow would fill and drop columns without a word
            raise ValueError(f"row {place} differs from the schema in the columns {sorted(set(row) ^ expected)}")
    table = pa.Table.from_pylist(rows, schema=schema)
    table.validate(full=True)
    if table.num_rows != len(rows):
        raise ValueError(f"{table.num_rows} rows in the table for {len(rows)} results")
    several = {str(number): count for number, count in sorted((pages or {}).items()) if count > 1}
    return _bytes(table.replace_schema_metadata({PAGES_KEY: json.dumps(several)} if several else None))


def results_rows(data: bytes) -> list[dict[str, Any]]:
    """The rows of a committed part, as `results_bytes` took them."""
    rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(data)).to_pylist()
    return rows


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=max(1, table.num_rows),
        version="2.6",
        data_page_version="1.0",
        data_page_size=1 << 20,
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
        write_statistics=True,
        store_schema=True,
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data
