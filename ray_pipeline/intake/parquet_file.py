"""One Parquet file of a manifest, opened so that nothing in it can run, and read in small batches of rows."""

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_pipeline.intake.manifest_columns import is_list_of_text, is_text
from ray_pipeline.intake.manifest_refused import ManifestRefused
from ray_pipeline.intake.parquet_footer import GroupFacts, read_footer
from ray_pipeline.intake.redaction import redacted, redacted_text

LONGEST_TEXT_BYTES = 1 << 16
LONGER_TEXT_BYTES = {"references": 1 << 19}  # each may be the true text of a whole page
MOST_NESTED_VALUES = 1 << 27  # of one column in one row group: 1 GB of numbers, should a single row hold them all
_BATCH_ROWS = 4096
_BATCH_TEXT_BYTES = 32 << 20
_PAGE_HEADERS_BYTES = 1 << 20
_LARGEST_FOOTER_BYTES = 16 << 20
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/=]{40,}")
_EXTENSION_MARK = b"ARROW:extension:"


@dataclass(frozen=True)
class OpenParquet:
    """An open file, the row groups its footer names, and how messages call it.

    pyarrow's own view of a column's sizes is never asked for: on a damaged footer it ends the process.
    """

    reader: pq.ParquetFile
    groups: tuple[GroupFacts, ...]
    shown: str

    @property
    def schema(self) -> pa.Schema:
        return self.reader.schema_arrow

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)


@contextlib.contextmanager
def opened(store: Any, path: str) -> Iterator[OpenParquet]:
    """The file at `path` of an fsspec store.

    Raises:
        ManifestRefused: missing, unreadable, encrypted, contradicting itself, no Parquet, or with Arrow extension types.
    """
    shown = redacted(path)
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(store.open(path, "rb"))
            footer = _footer(source, shown)
            _refuse_extension_types(footer, shown)
            groups = _groups(footer, shown)
            parquet = stack.enter_context(pq.ParquetFile(source, pre_buffer=False))
            # Text stays in its dictionary: a few bytes that repeat one long value a million times stay a few bytes.
            text = [field.name for field in parquet.schema_arrow if is_text(field.type)]
            text += _texts_in_lists(parquet.schema_arrow, groups)
            source.seek(0)
            options = {"pre_buffer": False, "page_checksum_verification": True}
            parquet = stack.enter_context(pq.ParquetFile(source, read_dictionary=text, **options))
        except ManifestRefused:
            raise
        except Exception as error:  # stores and Parquet libraries raise many things; all mean: not a usable manifest
            raise ManifestRefused(f"{shown}: cannot be read as Parquet ({_named(error)})") from None
        yield OpenParquet(parquet, groups, shown)


def batches(parquet: OpenParquet, names: list[str], first: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Rows [first, stop) of the file, some thousands at a time; reads only the row groups that hold them.

    Fewer at a time where texts are long, so that a text kept once for all of them does not unfold.

    Raises:
        ManifestRefused: a page cannot be read or holds what its type forbids, a text is too long, a row group holds too much,
            or there are fewer rows than the footer says.
    """
    missing, shown = stop - first, parquet.shown
    for group, skip, take in _row_groups(parquet.groups, first, stop):
        try:
            _refuse_large_columns(parquet.groups[group], names, f"{shown}: row group {group}")
            for batch in _group_rows(parquet.reader, group, names, skip, take):
                batch.validate(full=True)
                missing -= batch.num_rows
                rows = max(1, _BATCH_TEXT_BYTES // (_row_text_bytes(batch, shown) + 1))
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)
        except ManifestRefused:
            raise
        except Exception as error:
            raise ManifestRefused(f"{shown}: row group {group} cannot be read ({_named(error)})") from None
    if missing:
        raise ManifestRefused(f"{shown}: {stop - first - missing} rows read, expected {stop - first} as its footer says")


def _row_groups(groups: tuple[GroupFacts, ...], first: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(row group, rows to skip in it, rows to take)."""
    start = 0
    for number, group in enumerate(groups):
        low, high = max(first, start), min(stop, start + group.rows)
        if low < high:
            yield number, low - start, high - low
        start += group.rows


def _group_rows(parquet: pq.ParquetFile, group: int, names: list[str], skip: int, take: int) -> Iterator[pa.RecordBatch]:
    reader = parquet.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=names, use_threads=False)
    for batch in reader:
        rows = batch.slice(skip, take)
        skip, take = max(0, skip - batch.num_rows), take - rows.num_rows
        if rows.num_rows:
            yield rows
        if not take:
            return


def _footer(source: Any, shown: str) -> bytes:
    """The raw footer: Thrift metadata, unparsed."""
    size = source.seek(0, 2)
    source.seek(max(0, size - 8))
    tail = source.read(8)
    if tail[4:] == b"PARE":
        raise ManifestRefused(f"{shown}: encrypted Parquet, expected a plain file")
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or length > size - 12:
        raise ManifestRefused(f"{shown}: {size} bytes that do not end as Parquet does")
    if length > _LARGEST_FOOTER_BYTES:
        raise ManifestRefused(f"{shown}: a footer of {length} bytes, expected at most {_LARGEST_FOOTER_BYTES}")
    source.seek(size - 8 - length)
    footer: bytes = source.read(length)
    source.seek(0)
    return footer


def _refuse_extension_types(footer: bytes, shown: str) -> None:
    """Opening the file would hand an extension type's bytes to whatever code registered its name.

    So they are looked for before any library parses the footer, in every run of base64, which is how Arrow stores its
    schema there. The run may begin with stray letters: hence four offsets.
    """
    found = _EXTENSION_MARK in footer
    for run in _BASE64_RUN.findall(footer):
        found = found or any(_EXTENSION_MARK in _decoded(run[shift:]) for shift in range(4))
    if found:
        raise ManifestRefused(f"{shown}: has columns of Arrow extension types, expected plain types only")


def _decoded(run: bytes) -> bytes:
    whole = run.rstrip(b"=")
    try:
        return base64.b64decode(whole[: len(whole) // 4 * 4])
    except binascii.Error:
        return b""


def _groups(footer: bytes, shown: str) -> tuple[GroupFacts, ...]:
    try:
        return read_footer(footer)
    except ValueError as error:
        raise ManifestRefused(f"{shown}: cannot be read as Parquet: {error}") from None


def _texts_in_lists(schema: pa.Schema, groups: tuple[GroupFacts, ...]) -> list[str]:
    """How the footer calls the values of columns that hold lists of text; writers name the steps between as they like."""
    lists = {field.name for field in schema if is_list_of_text(field.type)}
    return [".".join(column.path) for group in groups[:1] for column in group.columns if column.path[0] in lists]


def _refuse_large_columns(group: GroupFacts, names: list[str], shown: str) -> None:
    """What the footer already admits: texts that must be too long, and lists too large to be looked at."""
    flat_bytes = group.rows * (LONGEST_TEXT_BYTES + 8) + _PAGE_HEADERS_BYTES
    for column in group.columns:
        name = column.path[0]
        if name not in names:
            continue
        if len(column.path) == 1 and column.unpacked_bytes > flat_bytes:
            size = column.unpacked_bytes
            raise ManifestRefused(f"{shown}: {size} bytes in {group.rows} rows of column {name!r}, expected at most {flat_bytes}")
        if column.values > max(MOST_NESTED_VALUES, group.rows):
            found = f"{column.values} values in column {name!r}"
            raise ManifestRefused(f"{shown}: {found}, expected at most {MOST_NESTED_VALUES} in a row group")


def _row_text_bytes(batch: pa.RecordBatch, shown: str) -> int:
    """Bytes of text that a row of this batch may come to; refuses texts that are too long."""
    total = 0
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        many, most = 1, LONGER_TEXT_BYTES.get(name, LONGEST_TEXT_BYTES)
        if is_list_of_text(column.type):
            many, column = pc.max(pc.list_value_length(column)).as_py() or 0, column.flatten()
        values = column.dictionary if pa.types.is_dictionary(column.type) else column
        if not (is_text(values.type) or pa.types.is_binary(values.type)):
            continue
        longest = pc.max(pc.binary_length(values)).as_py() or 0
        if longest > most:
            raise ManifestRefused(f"{shown}: {longest} bytes in column {name!r}, expected at most {most}")
        total += many * longest
    return total


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {redacted_text(str(error).splitlines()[0] if str(error) else '')}"
