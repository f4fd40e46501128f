"""Naughty texts in every place of a report, a log, a results file and a message, in pictures and as names: what becomes more."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from benchmarks.faults.figures import Figure, Figures
from ray_pipeline import events
from ray_pipeline.delivery.escapes import visible
from ray_pipeline.delivery.formats.parquet import results_bytes, results_rows
from ray_pipeline.delivery.rows import failed_row
from schemas.manifest import ManifestRow
from schemas.status import RowFailure, Status
from tests.faults import hostile_names, written_instructions
from tests.faults.naughty_strings import INJECTIONS, NAUGHTY, STORABLE
from tests.faults.page_elements import Elements, page_with

LETTERS = "<>\"'"  # of markup


def measure() -> Figures:
    """Every text alone: on a page of its own, in a line of its own, in a row of its own."""
    elements, letters, lost = _pages()
    forged, odd, hidden = _lines()
    return [
        Figure("extra or lost elements, attributes and addresses", elements, 0, len(NAUGHTY)),
        Figure("extra letters of markup", letters, 0, len(NAUGHTY)),
        Figure("texts that a report does not show", lost, 0, len(NAUGHTY)),
        Figure("forged, lost or broken log lines", forged, 0, 2 * len(NAUGHTY)),
        Figure("characters of a log that are not plain", odd, 0, 2 * len(NAUGHTY)),
        Figure("log lines whose texts, decoded, hide characters", hidden, 0, 2 * len(NAUGHTY)),
        Figure("texts that results do not keep as they were", _changed(), 0, 3 * len(STORABLE)),
        Figure("messages of more than one visible line", _messages(), 0, len(NAUGHTY)),
        Figure("rows changed by words in a neighbour's picture", _neighbours(), 0, 2 * len(INJECTIONS)),
        *_names(),
    ]


def _pages() -> tuple[int, int, int]:
    plain = page_with("a plain word")
    expected = Counter(Elements(plain).found)
    elements = letters = lost = 0
    for text in NAUGHTY:
        page = page_with(text)
        parsed = Elements(page)
        found = Counter(parsed.found)
        elements += (found - expected).total() + (expected - found).total() + (list(found) != list(expected))
        letters += sum(abs(page.count(letter) - plain.count(letter)) for letter in LETTERS)
        lost += visible(text, keep="\n") not in "".join(parsed.text)
    return elements, letters, lost


def _lines() -> tuple[int, int, int]:
    """Lines that are not the event they should be; characters that are neither printable ASCII nor the line's end; lines
    whose texts, once a reader has decoded them, could still steer a terminal or turn the direction of reading.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "log")
        log = events.logger(file, run="r")
        for number, text in enumerate(NAUGHTY):
            log.info("row_ended", number=number, text=text, held={text: text})
            log.error("row_failed", number=number, error=RuntimeError(text))
        data = file.read_bytes()
    odd = sum(byte != 10 and not 32 <= byte < 127 for byte in data)
    lines = data.decode("ascii", "replace").split("\n")[:-1]
    wanted = [(event, number) for number in range(len(NAUGHTY)) for event in ("row_ended", "row_failed")]
    wrong = sum(_told(line) != (*want, "r") for line, want in zip(lines, wanted, strict=False))
    hidden = sum(any(text != visible(text) for text in _texts(json.loads(line))) for line in lines)
    return wrong + abs(len(lines) - len(wanted)), odd, hidden


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _told(line: str) -> tuple[object, ...]:
    try:
        fields = json.loads(line)
    except ValueError:
        return ()
    return fields.get("event"), fields.get("number"), fields.get("run")


def _changed() -> int:
    rows = [ManifestRow(k, f"{k}{text}", text, None, text) for k, text in enumerate(STORABLE)]
    failed = [failed_row(row, RowFailure(Status.FETCH_FAILED, "x"), None) for row in rows]
    back = results_rows(results_bytes(failed, pa.schema([])))
    return sum(
        (one["id"] != row.id) + (one["image_uri"] != row.image_uri) + (one["question"] != row.question)
        for one, row in zip(back, rows, strict=True)
    )


def _messages() -> int:
    row = ManifestRow(0, "a", "a.png")
    said = [failed_row(row, RowFailure(Status.MODEL_CRASH, text), None)["error"] for text in NAUGHTY]
    return sum(not text or text != visible(text) or len(text) > 500 for text in said)


def _neighbours() -> int:
    actor = written_instructions.asker()
    plain = written_instructions.neighbours(actor, ["", ""])
    told = [written_instructions.neighbours(actor, [text, text[::-1]]) for text in INJECTIONS]
    return sum(len(plain) - sum(a == b for a, b in zip(plain, seen, strict=False)) for seen in told)


def _names() -> Figures:
    """A worker with ids and addresses that would like to be names of files."""
    with tempfile.TemporaryDirectory() as place:
        ids = hostile_names.usable_ids()
        addresses = [*hostile_names.ADDRESSES, *["a.jpg"] * (len(ids) - len(hostile_names.ADDRESSES))]
        settings = hostile_names.written(Path(place), ids, addresses)
        before = hostile_names.files_below(Path(place))
        hostile_names.parts_alone(settings)
        foreign = hostile_names.foreign_files(Path(place), before)
        rows = [row for path in sorted(Path(place, "out", "results").iterdir()) for row in results_rows(path.read_bytes())]
    lost = len(ids) - len({row["id"] for row in rows} & set(ids))
    return [
        Figure("files that a run may not make, or changed ones", len(foreign), 0, len(ids)),
        Figure("ids lost to others that look alike", lost, 0, len(ids)),
    ]
