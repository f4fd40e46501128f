"""The journal of one open part: rows that are finished, and rows that are with the model and may be about to kill it.

A record is one line, and its checksum tells a whole one from a torn or changed one:
  {"crc32":"89abcdef","record":{"journal":1,"age":0,"base":null,"finish":{"12":{…},"13":{…}}}}
  {"crc32":"01234567","record":{"journal":1,"age":0,"base":null,"suspect":[14,15]}}
  {"crc32":"00aa11bb","record":{"journal":1,"age":0,"base":null,"release":[15]}}
Pages of a document that was taken apart go by row and page, and what is finished of them says how many there are:
  {"crc32":"22cc33dd","record":{"journal":1,"age":0,"base":null,"finish":{"16.0":{…},"16.1":{…}},"pages":{"16":100}}}
  {"crc32":"44ee55ff","record":{"journal":1,"age":0,"base":null,"suspect":["16.2","16.3"]}}
`age` orders writers without a clock: each is one older than all it has read. `base` is the sha256 of the committed file that
a recomputed part shall take the place of; where the committed file is another one, the record has done its duty.
"""

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.committed_part import sha256_of
from ray_pipeline.delivery.trail import Trail
from schemas.manifest import Key, Part

VERSION = 1
_Key = TypeVar("_Key", bound=Key)
NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
KEY = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?", re.ASCII)
LINE = re.compile(rb'\{"crc32":"([0-9a-f]{8})","record":(.*)\}', re.DOTALL)


@dataclass(frozen=True)
class Recovered:
    """What earlier writers left of a part. `suspects` has one entry per hand-over to the model that never finished, oldest
    first, with its unfinished rows only: rows that come several times were with the model at several deaths. `pages` has, by
    row number, how many pages the documents have of which `rows` holds some.
    """

    rows: dict[Key, dict[str, Any]] = field(default_factory=dict)
    suspects: list[tuple[Key, ...]] = field(default_factory=list)
    pages: dict[int, int] = field(default_factory=dict)


class Journal:
    """Finished rows and suspects of one open part, durable at every return. Nothing is touched before the first call.

    Rows go by their number in the manifest, pages by that and their own. One journal is one writer; several at once, here or
    elsewhere, do no harm.
    """

    def __init__(self, output: Output, part: Part) -> None:
        self.output, self.part = output, part
        self._stem = part.name.removesuffix(".parquet")
        self._end = output.start_trail(self._stem)
        self._age = 0
        self._base: str | None = None
        self._asked_base = False

    def read(self) -> Recovered:
        """The union of what all writers left. Torn and changed records and foreign files are passed over.

        Hand-overs of a writer that is known to live, on POSIX, are no suspects: the model has them in hand.
        """
        base = self._committed()
        left = [self._left(trail, base) for trail in self.output.read_trails(self._stem)]
        left.sort(key=lambda one: (one.age, one.writer))
        self._age = max((one.age + 1 for one in left), default=0)
        rows = {key: row for one in left for key, row in one.rows.items()}
        pages = {number: count for one in left for number, count in one.pages.items()}
        open_ones = (handed for one in left for handed in one.handed)
        suspects = [tuple(key for key in handed if key not in rows) for handed in open_ones]
        return Recovered(rows, [one for one in suspects if one], pages)

    def suspect(self, keys: Sequence[Key]) -> None:
        """These rows are about to be handed to the model together.

        Raises:
            ValueError: a row is not of this part.
            OSError: it could not be written; the model must not get them.
        """
        self._append({"suspect": [_spelt(key) for key in self._checked(keys)]})

    def release(self, keys: Sequence[Key]) -> None:
        """These rows came back from the model unfinished and unharmed: their last hand-over speaks no longer against them."""
        self._append({"release": [_spelt(key) for key in self._checked(keys)]})

    def finish(self, rows: Mapping[_Key, dict[str, Any]], pages: Mapping[int, int] | None = None) -> None:
        """Result rows; they also stop being suspects. `pages` says how many pages the documents among them have in all.

        Raises:
            ValueError: a row is not of this part, or has a value that JSON does not carry exactly (NaN, infinity).
            TypeError: a value that JSON does not know.
            OSError: it could not be written; the rows may count as unfinished after a crash.
        """
        self._checked(list(rows))
        counted = {"pages": {str(number): count for number, count in pages.items()}} if rows and pages else {}
        self._append({"finish": {str(_spelt(key)): row for key, row in rows.items()}} | counted)

    def clear(self) -> None:
        """Remove all journals of this part, also those of other writers. Only after the part is committed."""
        self.close()
        self.output.remove_trails(self._stem)

    def close(self) -> None:
        """Stop counting as a living writer; what was written stays. A journal that is forgotten closes itself."""
        self._end.close()

    def _append(self, what: dict[str, Any]) -> None:
        if any(what.values()):
            self._end.append(record_line({"journal": VERSION, "age": self._age, "base": self._committed()} | what))

    def _committed(self) -> str | None:
        """The sha256 of the part's file as it was when the journal was first used; None where there was none."""
        if not self._asked_base:
            name = f"results/{self.part.name}"
            self._base = sha256_of(self.output.read(name)) if self.output.exists(name) else None
            self._asked_base = True
        return self._base

    def _checked(self, keys: Sequence[Key]) -> Sequence[Key]:
        outside = [key for key in keys if not self._holds(key)]
        if outside:
            first, last = self.part.first_row, self.part.first_row + self.part.rows - 1
            raise ValueError(f"rows {outside[:5]} are not of {self._stem}; expected {first} to {last}")
        return keys

    def _holds(self, key: Key) -> bool:
        number = key[0] if isinstance(key, tuple) else key
        return self.part.first_row <= number < self.part.first_row + self.part.rows

    def _left(self, trail: Trail, base: str | None) -> "_Left":
        left = _Left(trail.writer)
        for record in records(trail.data):
            if record.get("base") != base:
                continue
            left.age = max(left.age, _count(record.get("age")))
            left.rows |= {key: row for key, row in _rows(record.get("finish")) if self._holds(key)}
            left.pages |= {number: count for number, count in _pages(record.get("pages")) if self._holds(number)}
            if handed := [key for key in _keys(record.get("suspect")) if self._holds(key)]:
                left.handed.append(handed)
            left.release(_keys(record.get("release")))
        if trail.living:
            left.handed.clear()
        return left


@dataclass
class _Left:
    """What one writer left. `handed` are its hand-overs in order, finished rows still among them."""

    writer: str
    age: int = 0
    rows: dict[Key, dict[str, Any]] = field(default_factory=dict)
    handed: list[list[Key]] = field(default_factory=list)
    pages: dict[int, int] = field(default_factory=dict)

    def release(self, keys: list[Key]) -> None:
        """Take each row out of the last hand-over that has it."""
        for key in keys:
            last = next((handed for handed in reversed(self.handed) if key in handed), None)
            if last:
                last.remove(key)


def record_line(record: dict[str, Any]) -> bytes:
    """One record as its line. Floats keep every bit.

    Raises:
        ValueError: NaN or infinity.
        TypeError: a value that JSON does not know.
    """
    body = json.dumps(record, allow_nan=False, separators=(",", ":")).encode()
    return b'{"crc32":"%08x","record":%s}\n' % (zlib.crc32(body), body)


def records(data: bytes) -> Iterator[dict[str, Any]]:
    """The sound records of a trail, in order; any other line is passed over."""
    for line in data.split(b"\n"):
        match = LINE.fullmatch(line)
        if match and zlib.crc32(match[2]) == int(match[1], 16):
            record = _object(match[2])
            if record.get("journal") == VERSION:
                yield record


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _spelt(key: Key) -> int | str:
    return f"{key[0]}.{key[1]}" if isinstance(key, tuple) else int(key)


def _read(spelt: str) -> Key | None:
    match = KEY.fullmatch(spelt)
    if match is None:
        return None
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def _keys(value: Any) -> list[Key]:
    found = value if isinstance(value, list) else []
    keys = (_read(one) if isinstance(one, str) else one for one in found)
    return [key for key in keys if isinstance(key, int | tuple) and not isinstance(key, bool)]


def _rows(value: Any) -> Iterator[tuple[Key, dict[str, Any]]]:
    for spelt, row in value.items() if isinstance(value, dict) else ():
        key = _read(spelt)
        if key is not None and isinstance(row, dict):
            yield key, row


def _pages(value: Any) -> Iterator[tuple[int, int]]:
    for number, count in value.items() if isinstance(value, dict) else ():
        if NUMBER.fullmatch(number) and _count(count):
            yield int(number), count
