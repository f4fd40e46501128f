"""The proof that an output folder is complete and untouched: each committed byte is read and compared with the index.

Everything found is one line of text; no line means proven. One part is in memory at a time.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.committed_part import (
    CommittedPart,
    PartUnreadable,
    documents_of,
    manifest_rows,
    read_part,
    sha256_of,
)
from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.delivery.fingerprint import fingerprint_digest
from ray_pipeline.delivery.index import INDEX_VERSION, index_bytes
from schemas.manifest import Part
from schemas.result import RESULT_COLUMNS
from schemas.status import Status

STATUSES = frozenset(status.value for status in Status)
INDEX_KEYS = {
    "version": int, "rows": int, "statuses": dict, "manifest_digest": str, "fingerprint_sha256": str,
    "run_sha256": str, "parts": list,
}  # fmt: skip
PART_KEYS = {"name": str, "first_row": int, "rows": int, "bytes": int, "sha256": str}


@dataclass(frozen=True)
class Expected:
    """What the manifest demands: its digest, and the ids of its rows in order (read once, from start to end).

    `pages` is its column of that name, in the same order; null: pages are not compared with the manifest.
    """

    digest: str
    ids: Iterable[str]
    pages: Iterable[int | None] | None = None


@dataclass
class _Totals:
    """Sums over the parts read so far. `schema` is that of the first one; all must share it.

    `apart`: the run takes documents apart where the manifest names no page.
    """

    statuses: Counter[str]
    apart: bool
    rows: int = 0
    manifest_rows: int = 0
    schema: Any = None


class _Manifest:
    """Ids and pages of the manifest, part by part."""

    def __init__(self, expected: Expected) -> None:
        self._ids, self._pages = iter(expected.ids), None if expected.pages is None else iter(expected.pages)

    def next(self, rows: int) -> tuple[list[str], list[int | None] | None]:
        """Of so many rows, or as many as are left."""
        return list(islice(self._ids, rows)), None if self._pages is None else list(islice(self._pages, rows))

    def left(self) -> int:
        """How many rows nobody has asked for."""
        return sum(1 for _ in self._ids)


def verify_output(output: Output, expected: Expected | None) -> list[str]:
    """Everything that speaks against this output; with None the ids are not compared with a manifest."""
    index, findings = _index(output)
    run, run_findings = _run(output)
    findings += run_findings
    if index is None:
        return findings
    findings += _header(index, run, output, expected)
    totals = _Totals(Counter(), apart=run is not None and run["settings"].get("task") == "ocr")
    manifest = _Manifest(expected) if expected else None
    for number, entry in enumerate(index["parts"]):
        findings += _place(number, entry, totals.manifest_rows)
        findings += _part(output, entry, totals, manifest)
        totals.rows += entry["rows"]
        totals.manifest_rows += manifest_rows(entry["rows"], documents_of(entry.get("documents", {})))
    findings += _sums(index, totals, manifest)
    findings += _columns(totals.schema, run)
    known = {entry["name"] for entry in index["parts"]}
    return findings + [f"results/{name} is not in the index" for name in output.list_results() if name not in known]


def _index(output: Output) -> tuple[dict[str, Any] | None, list[str]]:
    try:
        data = output.read("index.json")
    except FileNotFoundError:
        return None, ["index.json is missing: the run is not complete"]
    except OSError as error:
        return None, [one_line(f"index.json cannot be read: {error}")]
    index = _json_object(data)
    if index is None or not _typed(index, INDEX_KEYS) or not all(_is_entry(entry) for entry in index["parts"]):
        return None, ["index.json is unreadable: expected the index of a run"]
    if index["version"] != INDEX_VERSION:
        return None, [f"index.json has version {index['version']}; expected {INDEX_VERSION}"]
    changed = index_bytes(index) != data
    return index, ["index.json is not as it was written: same values, other bytes"] if changed else []


def _run(output: Output) -> tuple[dict[str, Any] | None, list[str]]:
    try:
        run = _json_object(output.read("run.json"))
    except FileNotFoundError:
        return None, ["run.json is missing"]
    except OSError as error:
        return None, [one_line(f"run.json cannot be read: {error}")]
    if run is None or not _typed(run, {"fingerprint": dict, "settings": dict}):
        return None, ["run.json is unreadable: expected settings and fingerprint of a run"]
    return run, []


def _json_object(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_entry(entry: Any) -> bool:
    """Whether it describes a part, with at least one result row for each row of the manifest."""
    if not _typed(entry, PART_KEYS):
        return False
    try:
        return manifest_rows(entry["rows"], documents_of(entry.get("documents", {}))) >= 0
    except ValueError:
        return False


def _typed(value: Any, kinds: dict[str, type]) -> bool:
    """Whether it is a dict with these keys, each of its type; a number must be a count."""
    return isinstance(value, dict) and all(
        isinstance(value.get(key), kind) and (kind is not int or (value[key] >= 0 and not isinstance(value[key], bool)))
        for key, kind in kinds.items()
    )


def _header(index: dict[str, Any], run: dict[str, Any] | None, output: Output, expected: Expected | None) -> list[str]:
    findings = []
    if run is not None:
        facts = run["fingerprint"]
        if fingerprint_digest(facts) != index["fingerprint_sha256"]:
            findings.append("run.json: its fingerprint is not the one in index.json")
        if sha256_of(output.read("run.json")) != index["run_sha256"]:
            findings.append("run.json: its sha256 is not the one in index.json")
        if facts.get("manifest.digest") != index["manifest_digest"]:
            findings.append("index.json: its manifest digest is not the one in run.json")
    if expected and expected.digest != index["manifest_digest"]:
        findings.append(f"manifest digest is {expected.digest}; index.json has {one_line(index['manifest_digest'], 100)}")
    return findings


def _place(number: int, entry: dict[str, Any], first_row: int) -> list[str]:
    name, planned = one_line(entry["name"], 100), Part(number, first_row, entry["rows"]).name
    findings = [] if entry["name"] == planned else [f"index.json: part {number} is called {name}; expected {planned}"]
    if entry["first_row"] != first_row:
        findings.append(f"index.json: {name} starts at row {entry['first_row']}; expected {first_row}")
    return findings


def _part(output: Output, entry: dict[str, Any], totals: _Totals, manifest: _Manifest | None) -> list[str]:
    label, documents = f"results/{one_line(entry['name'], 100)}", documents_of(entry.get("documents", {}))
    # Taken even if the file is not there to compare.
    wanted = None if manifest is None else manifest.next(manifest_rows(entry["rows"], documents))
    try:
        data = output.read_result(entry["name"])
    except FileNotFoundError:
        return [f"{label} is missing"]
    except (OSError, ValueError) as error:
        return [one_line(f"{label} cannot be read: {error}")]
    if len(data) != entry["bytes"]:
        return [f"{label} has {len(data)} bytes; expected {entry['bytes']}"]
    if sha256_of(data) != entry["sha256"]:
        return [f"{label} has another sha256 than in index.json"]
    try:
        part = read_part(data)
    except PartUnreadable as error:
        return [f"{label} is {error}"]
    totals.statuses.update(part.statuses)
    return [f"{label} {finding}" for finding in _content(part, entry, totals, wanted)]


def _content(
    part: CommittedPart, entry: dict[str, Any], totals: _Totals, wanted: tuple[list[str], list[int | None] | None] | None
) -> Iterator[str]:
    if part.rows != entry["rows"]:
        yield f"has {part.rows} rows; expected {entry['rows']}"
    if part.documents != documents_of(entry.get("documents", {})):
        yield "has other documents than index.json says"
    totals.schema = part.schema if totals.schema is None else totals.schema
    if not part.schema.equals(totals.schema):
        yield "has other columns than the first part"
    for status in sorted(set(part.statuses) - STATUSES, key=str):
        yield f"has the unknown status {one_line(str(status), 60)} in {part.statuses[status]} rows"
    yield from part.torn_documents(entry["first_row"])
    if part.documents and not totals.apart:
        yield "has documents taken apart; the run in run.json takes none apart"
    if wanted is not None:
        yield from _rows(part, entry["first_row"], wanted[0], wanted[1], totals.apart)


def _rows(part: CommittedPart, first_row: int, ids: list[str], pages: list[int | None] | None, apart: bool) -> Iterator[str]:
    """Ids and pages, row by row, with what the manifest has; one finding, the first."""
    counts = [part.documents.get(number, 1) for number in range(first_row, first_row + len(ids))]
    expanded = [one for one, count in zip(ids, counts, strict=True) for _ in range(count)]
    if part.ids != expanded:
        yield _first_difference(part.ids, expanded, first_row)
        return
    place = 0
    for number, wanted, count in zip(range(first_row, first_row + len(ids)), pages or (), counts, strict=False):
        found, place = part.pages[place : place + count], place + count
        fits = count > 1 or found in ([None], [0]) if apart and wanted is None else found == [wanted]
        if not fits:
            yield f"has page {_shown(found)} for row {number}; the manifest has {_shown([wanted])}"
            return


def _shown(pages: list[int | None]) -> str:
    return "null" if pages == [None] else str(pages[0]) if len(pages) == 1 else f"{pages[0]} to {pages[-1]}"


def _first_difference(ids: list[str], wanted: list[str], first_row: int) -> str:
    place = next((k for k, (got, want) in enumerate(zip(ids, wanted, strict=False)) if got != want), min(len(ids), len(wanted)))
    got, want = (one_line(repr(values[place]), 80) if place < len(values) else "nothing" for values in (ids, wanted))
    return f"row {first_row + place} has id {got}; the manifest has {want}"


def _sums(index: dict[str, Any], totals: _Totals, manifest: _Manifest | None) -> Iterator[str]:
    if totals.rows != index["rows"]:
        yield f"index.json: {index['rows']} rows; its parts have {totals.rows}"
    if dict(totals.statuses) != index["statuses"]:
        read, said = (json.dumps(counts, sort_keys=True) for counts in (dict(totals.statuses), index["statuses"]))
        yield f"rows per status are {one_line(read, 300)}; index.json has {one_line(said, 300)}"
    left = manifest.left() if manifest is not None else 0
    if left:
        yield f"{left} rows of the manifest are not in the results"


def _columns(schema: Any, run: dict[str, Any] | None) -> Iterator[str]:
    """The first part stands for all: that they agree is checked as they are read."""
    if schema is None:
        return
    count = len(RESULT_COLUMNS)
    for field, wanted in zip(schema, RESULT_COLUMNS, strict=False):
        if not field.equals(wanted):
            yield one_line(f"column {field.name}: {field.type}; expected {wanted.name}: {wanted.type}")
    if len(schema) < count:
        yield f"{len(schema)} columns; expected at least {count}"
    passed = run["settings"].get("passthrough") if run else None
    if run and sorted(schema.names[count:]) != sorted(passed if isinstance(passed, list) else [], key=str):
        yield one_line(f"pass-through columns are {schema.names[count:]}; run.json has {passed}")
