"""One committed result file, read back: its bytes measured, its rows counted, its documents put together again."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.delivery.formats.parquet import PAGES_KEY


class PartUnreadable(ValueError):
    """The file is no Parquet file, or lacks the columns of a result; one line says what."""


@dataclass(frozen=True)
class CommittedPart:
    """What the bytes of a result file say. Statuses count rows by status.

    `documents` has, by the number of the manifest row, how many rows each document with several pages has.
    """

    bytes: int
    sha256: str
    rows: int
    ids: list[str]
    statuses: Counter[str]
    schema: pa.Schema
    pages: list[int | None]
    documents: dict[int, int]

    @property
    def manifest_rows(self) -> int:
        """How many rows of the manifest these are."""
        return manifest_rows(self.rows, self.documents)

    def torn_documents(self, first_row: int) -> Iterator[str]:
        """What speaks against each document's being whole: one line for each, where rows begin with this one of the manifest."""
        last = first_row + self.manifest_rows - 1
        place, at = first_row, 0
        for number, count in sorted(self.documents.items()):
            if not first_row <= number <= last:
                yield f"has {count} pages for row {number}, which is none of its own"
                continue
            at, place = at + number - place, number + 1
            if self.pages[at : at + count] != list(range(count)) or len(set(self.ids[at : at + count])) > 1:
                yield f"has not the pages 0 to {count - 1} for row {number}, in this order and once each"
            at += count


def manifest_rows(rows: int, documents: dict[int, int]) -> int:
    """How many rows of the manifest so many result rows are."""
    return rows - sum(count - 1 for count in documents.values())


def documents_of(value: Any) -> dict[int, int]:
    """Pages by row number, from their spelling in JSON.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, dict):
        raise ValueError("expected an object from row numbers to pages")
    found = {int(number): count for number, count in value.items() if number.isascii() and number.isdigit()}
    if len(found) != len(value) or not all(isinstance(count, int) and count > 1 for count in found.values()):
        raise ValueError("expected row numbers and counts of more than one page")
    return found


def read_part(data: bytes) -> CommittedPart:
    """Read the columns that prove completeness; the others are covered by the digest.

    Raises:
        PartUnreadable: the bytes are no readable result file.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            schema = file.schema_arrow
            table = file.read(columns=["id", "page", "status"])
        ids, statuses = table["id"].to_pylist(), Counter(map(str, table["status"].to_pylist()))
        pages, documents = table["page"].to_pylist(), documents_of(json.loads((schema.metadata or {}).get(PAGES_KEY, b"{}")))
    except (pa.ArrowException, OSError, KeyError, ValueError, RecursionError) as error:
        raise PartUnreadable(one_line(f"unreadable: {error}", 200)) from None
    return CommittedPart(len(data), sha256_of(data), table.num_rows, ids, statuses, schema, pages, documents)


def sha256_of(data: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(data).hexdigest()
