"""One Parquet file of a manifest, opened so that nothing in it can run, and read in small batches of rows."""

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_pipeline.intake.manifest_columns import is_text
from ray_pipeline.intake.manifest_refused import ManifestRefused
from ray_pipeline.intake.redaction import redacted, redacted_text

LONGEST_TEXT_BYTES = 1 << 16
_BATCH_ROWS = 4096
_LARGEST_FOOTER_BYTES = 64 << 20
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/=]{40,}")
_EXTENSION_MARK = b"ARROW:extension:"


@contextlib.contextmanager
def opened(store: Any, path: str) -> Iterator[pq.ParquetFile]:
    """The file at `path` of an fsspec store.

    Raises:
        ManifestRefused: missing, unreadable, encrypted, no Parquet, or with Arrow extension types.
    """
    shown = redacted(path)
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(store.open(path, "rb"))
            footer = _footer(source, shown)
            _refuse_extension_types(footer, shown)
            parquet = stack.enter_context(pq.ParquetFile(source, pre_buffer=False))
            # Text stays in its dictionary: a few bytes that repeat one long value a million times stay a few bytes.
            text = [field.name for field in parquet.schema_arrow if is_text(field.type)]
            source.seek(0)
            parquet = stack.enter_context(pq.ParquetFile(source, pre_buffer=False, read_dictionary=text))
        except ManifestRefused:
            raise
        except Exception as error:  # stores and Parquet libraries raise many things; all mean: not a usable manifest
            raise ManifestRefused(f"{shown}: cannot be read as Parquet ({_named(error)})") from None
        yield parquet


def batches(parquet: pq.ParquetFile, shown: str, names: list[str], first: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Rows [first, stop) of the file, some thousands at a time; reads only the row groups that hold them.

    Raises:
        ManifestRefused: a page cannot be read, a text is too long, or there are fewer rows than the footer says.
    """
    missing = stop - first
    for group, skip, take in _row_groups(parquet, first, stop):
        try:
            for batch in _group_rows(parquet, group, names, skip, take):
                _refuse_long_text(batch, shown)
                missing -= batch.num_rows
                yield batch
        except ManifestRefused:
            raise
        except Exception as error:
            raise ManifestRefused(f"{shown}: row group {group} cannot be read ({_named(error)})") from None
    if missing:
        raise ManifestRefused(f"{shown}: {stop - first - missing} rows read, expected {stop - first} as its footer says")


def _row_groups(parquet: pq.ParquetFile, first: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(row group, rows to skip in it, rows to take)."""
    start = 0
    for group in range(parquet.metadata.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        low, high = max(first, start), min(stop, start + rows)
        if low < high:
            yield group, low - start, high - low
        start += rows


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


def _refuse_long_text(batch: pa.RecordBatch, shown: str) -> None:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        values = column.dictionary if pa.types.is_dictionary(column.type) else column
        if not (is_text(values.type) or pa.types.is_binary(values.type)):
            continue
        longest = pc.max(pc.binary_length(values)).as_py() or 0
        if longest > LONGEST_TEXT_BYTES:
            raise ManifestRefused(f"{shown}: {longest} bytes in column {name!r}, expected at most {LONGEST_TEXT_BYTES}")


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {redacted_text(str(error).splitlines()[0] if str(error) else '')}"
