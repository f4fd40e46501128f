"""A job's manifest: opened, refused or numbered, and cut into parts."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_pipeline.intake.manifest_columns import OWN, Columns, chosen_columns, is_list_of_text
from ray_pipeline.intake.manifest_files import ManifestFiles, find_files, store_of
from ray_pipeline.intake.manifest_refused import ManifestRefused
from ray_pipeline.intake.parquet_file import batches, opened
from ray_pipeline.intake.redaction import redacted
from schemas.labelling import LONGEST_PHRASE, MOST_PHRASES
from schemas.manifest import ManifestRow, Part

__all__ = ["Manifest", "ManifestRefused", "cut_parts", "open_manifest", "read_rows", "refuse_unsafe_environment"]

_UNSAFE_VARIABLES = ("RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA", "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE")
_FALSE = ("", "0", "false", "no", "off")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LARGEST_PAGE = 2**31 - 1
_FIRST_LOOK_ROWS = 1 << 16
_CANONICAL = json.JSONEncoder(separators=(",", ":"), default=repr)  # built once: json.dumps would build one per row


@dataclass(frozen=True)
class Manifest:
    """What was found and checked. Plain values: it travels to other processes, which open the files again.

    `files` are (path inside the store, rows in the file) in manifest order; `rows` is their sum, or the limit.
    `digest` is sha256 in hex over the read columns of these rows, whatever the files' layout. `base` is the folder
    relative image addresses start from: absolute, or `scheme://folder` where `remote`.
    """

    uri: str
    files: tuple[tuple[str, int], ...]
    rows: int
    digest: str
    base: str
    remote: bool
    passthrough: pa.Schema


def refuse_unsafe_environment() -> None:
    """Refuse the two switches by which a Parquet file's schema may bring code into Ray.

    Raises:
        ManifestRefused: one of them is set to anything but a false value.
    """
    for name in _UNSAFE_VARIABLES:
        value = os.environ.get(name, "").strip()
        if value.lower() not in _FALSE:
            raise ManifestRefused(f"environment variable {name} is {value!r}, expected unset: it lets a manifest run code")


def open_manifest(uri: str, limit: int | None, needs: tuple[str, ...], passthrough: tuple[str, ...]) -> Manifest:
    """Find, check and digest the first `limit` rows (null = all). `needs` are columns besides `id` and `image_uri`.

    Reads every needed column once, a few thousand rows at a time; of the ids, eight bytes each are kept.

    Raises:
        ManifestRefused: with the value found and what was expected.
    """
    refuse_unsafe_environment()
    if limit is not None and limit < 1:
        raise ManifestRefused(f"limit is {limit}, expected at least 1")
    found = find_files(uri)
    survey = _Survey(passthrough)
    store, _ = store_of(uri)
    for path in found.paths:
        if limit is not None and survey.rows >= limit:
            break
        with opened(store, path) as parquet:
            shown = redacted(path)
            columns = chosen_columns(parquet.schema, needs, passthrough, shown)
            survey.start_file(path, parquet.rows, columns, shown)
            stop = parquet.rows if limit is None else min(parquet.rows, limit - survey.rows)
            for batch in batches(parquet, columns.names, 0, stop):
                survey.add(_values(batch, columns, shown), shown)
                if survey.is_due():
                    _refuse_repeated_ids(survey.manifest(uri, found), survey.id_hashes)
    if not survey.rows:
        raise ManifestRefused(f"manifest {redacted(uri)} has 0 rows, expected at least 1")
    manifest = survey.manifest(uri, found)
    _refuse_repeated_ids(manifest, survey.id_hashes)
    return manifest


def read_rows(manifest: Manifest, first_row: int, rows: int) -> list[ManifestRow]:
    """Rows [first_row, first_row + rows), in any process. Opens only the files and row groups that hold them.

    Raises:
        ManifestRefused: out of range, or a file is no longer what it was.
    """
    stop = first_row + rows
    if not 0 <= first_row <= stop <= manifest.rows:
        raise ManifestRefused(f"rows {first_row} to {stop} asked, the manifest has {manifest.rows}")
    store, _ = store_of(manifest.uri)
    result: list[ManifestRow] = []
    start = 0
    for path, size in manifest.files:
        low, high = max(first_row, start), min(stop, start + size)
        if low < high:
            for values in _file_rows(store, path, manifest.passthrough, low - start, high - start):
                result.append(_row(first_row + len(result), values, manifest.passthrough.names))
        start += size
    return result


def cut_parts(rows: int, part_rows: int) -> list[Part]:
    """Consecutive parts of `part_rows`, the last one smaller where it does not divide."""
    if part_rows < 1:
        raise ValueError(f"part_rows is {part_rows}, expected at least 1")
    return [Part(number, first, min(part_rows, rows - first)) for number, first in enumerate(range(0, rows, part_rows))]


def _file_rows(store: Any, path: str, passthrough: pa.Schema, first: int, stop: int) -> Iterator[list[Any]]:
    shown = redacted(path)
    with opened(store, path) as parquet:
        columns = chosen_columns(parquet.schema, (), passthrough.names, shown)
        if parquet.rows < stop:
            raise ManifestRefused(f"{shown}: {parquet.rows} rows, expected at least {stop} as when it was opened")
        for batch in batches(parquet, columns.names, first, stop):
            yield from _values(batch, columns, shown)


def _row(number: int, values: list[Any], extra: list[str]) -> ManifestRow:
    identifier, image_uri, page, question, phrases, *rest = values
    phrases = None if phrases is None else tuple(phrases)
    return ManifestRow(number, identifier, image_uri, page, question, dict(zip(extra, rest, strict=True)), phrases)


def _values(batch: pa.RecordBatch, columns: Columns, shown: str) -> Iterator[list[Any]]:
    """Rows as [id, image_uri, page, question, phrases, pass-through …]; null where the manifest has no such column."""
    absent = [None] * batch.num_rows
    try:
        by_name = {name: _undictionaried(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        _refuse_many_phrases(by_name.get("phrases"), shown)
        own = [by_name[name].to_pylist() if name in columns.own else absent for name in OWN]
        rest = [by_name[name].to_pylist() for name in columns.passthrough.names]
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise ManifestRefused(f"{shown}: a value cannot be read ({type(error).__name__}: {error})") from None
    return map(list, zip(*own, *rest, strict=True))


def _refuse_many_phrases(column: pa.Array | None, shown: str) -> None:
    """Before they become Python's: a long text that a file keeps once, in a list that names it a million times, would unfold."""
    if column is not None and is_list_of_text(column.type):
        most = pc.max(pc.list_value_length(column)).as_py() or 0
        if most > MOST_PHRASES:
            raise ManifestRefused(f"{shown}: a row has {most} phrases, expected at most {MOST_PHRASES}")


def _undictionaried(column: pa.Array) -> pa.Array:
    """Plain values: ten times faster to turn into Python's than dictionary entries one by one."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


class _Survey:
    """Everything learned while the rows stream by: sizes, digest, and eight bytes of each id's hash."""

    def __init__(self, passthrough: tuple[str, ...]) -> None:
        self.files: list[tuple[str, int]] = []
        self.rows = 0
        self.passthrough = pa.schema([])
        self._hash = hashlib.sha256(json.dumps(["fovea manifest 1", *passthrough]).encode())
        self._id_hashes = bytearray()
        self._next_look_rows = _FIRST_LOOK_ROWS

    @property
    def id_hashes(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        return np.frombuffer(self._id_hashes, dtype=np.uint64)

    def manifest(self, uri: str, found: ManifestFiles) -> Manifest:
        """What has been seen so far."""
        digest = self._hash.hexdigest()
        return Manifest(uri, tuple(self.files), self.rows, digest, found.base, found.remote, self.passthrough)

    def is_due(self) -> bool:
        """Whether ids should be compared before more are read: whenever their number has doubled.

        So a small file that repeats a few ids a thousand million times is not read to its end.
        """
        if self.rows < self._next_look_rows:
            return False
        self._next_look_rows = 2 * self.rows
        return True

    def start_file(self, path: str, rows: int, columns: Columns, shown: str) -> None:
        if not self.files:
            self.passthrough = columns.passthrough
            self._hash.update(json.dumps([str(field.type) for field in columns.passthrough]).encode())
        for field, first in zip(columns.passthrough, self.passthrough, strict=True):
            if field.type != first.type:
                raise ManifestRefused(
                    f"{shown}: column {field.name!r} is {field.type}, expected {first.type} as in the first file"
                )
        self.files.append((path, rows))

    def add(self, rows: Iterator[list[Any]], shown: str) -> None:
        """One JSON array per row goes into the digest: unambiguous, whatever the values hold."""
        for values in rows:
            _refuse_row(values, self.rows, shown)
            self._hash.update(_CANONICAL.encode(_digested(values)).encode() + b"\n")
            self._id_hashes += hashlib.blake2b(values[0].encode(), digest_size=8).digest()
            self.rows += 1


def _digested(values: list[Any]) -> list[Any]:
    """Phrases stand last, where a row has any: so those without keep the digest that they had before there were phrases."""
    own, phrases, rest = values[: len(OWN) - 1], values[len(OWN) - 1], values[len(OWN) :]
    return [*own, *rest] if phrases is None else [*own, *rest, phrases]


def _refuse_row(values: list[Any], number: int, shown: str) -> None:
    identifier, image_uri, page, _, phrases = values[: len(OWN)]
    if not identifier:
        raise ManifestRefused(f"{shown}: id of row {number} is {'null' if identifier is None else 'empty'}, expected a text")
    if _CONTROL.search(identifier):
        raise ManifestRefused(f"{shown}: id {identifier!r} of row {number} has a control character, expected none")
    if image_uri is None:
        raise ManifestRefused(f"{shown}: image_uri of row {number} (id {identifier!r}) is null, expected an address")
    if page is not None and not -_LARGEST_PAGE <= page <= _LARGEST_PAGE:
        raise ManifestRefused(f"{shown}: page {page} of row {number} (id {identifier!r}) does not fit int32")
    if found := _unfit(phrases or ()):
        raise ManifestRefused(f"{shown}: phrases of row {number} (id {identifier!r}) {found}")


def _unfit(phrases: Sequence[str | None]) -> str | None:
    """What is wrong with a row's phrases, and what was expected."""
    if None in phrases:
        return "hold a null, expected texts"
    longest = max((len(phrase) for phrase in phrases if phrase is not None), default=0)
    return f"hold one of {longest} characters, expected at most {LONGEST_PHRASE}" if longest > LONGEST_PHRASE else None


def _refuse_repeated_ids(manifest: Manifest, id_hashes: np.ndarray[Any, np.dtype[np.uint64]]) -> None:
    """Equal ids have equal hashes; the few equal hashes are looked up, so that a chance collision accuses nobody."""
    order = np.argsort(id_hashes, kind="stable")
    ordered = id_hashes[order]
    for place in np.flatnonzero(ordered[1:] == ordered[:-1]):
        first, second = int(order[place]), int(order[place + 1])
        identifier = read_rows(manifest, first, 1)[0].id
        if identifier == read_rows(manifest, second, 1)[0].id:
            raise ManifestRefused(f"id {identifier!r} stands in rows {first} and {second}, expected unique ids")
