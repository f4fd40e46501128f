"""One committed result file, read back: its bytes measured, its rows counted."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from ray_pipeline.delivery.escapes import one_line


class PartUnreadable(ValueError):
    """The file is no Parquet file, or lacks the columns of a result; one line says what."""


@dataclass(frozen=True)
class CommittedPart:
    """What the bytes of a result file say. Statuses count rows by status."""

    bytes: int
    sha256: str
    rows: int
    ids: list[str]
    statuses: Counter[str]
    schema: pa.Schema


def read_part(data: bytes) -> CommittedPart:
    """Read the columns that prove completeness; the others are covered by the digest.

    Raises:
        PartUnreadable: the bytes are no readable result file.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            schema = file.schema_arrow
            table = file.read(columns=["id", "status"])
        ids, statuses = table["id"].to_pylist(), Counter(map(str, table["status"].to_pylist()))
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise PartUnreadable(one_line(f"unreadable: {error}", 200)) from None
    return CommittedPart(len(data), sha256_of(data), table.num_rows, ids, statuses, schema)


def sha256_of(data: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(data).hexdigest()
