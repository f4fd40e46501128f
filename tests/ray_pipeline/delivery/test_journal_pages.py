"""Pages of documents in the journal: found again one by one, with how many there are; suspects like any row."""

import json
from pathlib import Path
from typing import Any

import pytest

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.journal import Journal, Recovered, record_line
from schemas.manifest import Part

PART = Part(3, 30, 10)


def written(output: Output, *records: tuple[str, Any]) -> None:
    """A writer that writes this and is gone."""
    journal = Journal(output, PART)
    for name, values in records:
        getattr(journal, name)(*values)
    journal.close()


def test_pages_come_back_with_their_count(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    written(output, ("finish", [{30: {"a": 1}, (31, 0): {"a": 2}}, {31: 100}]), ("finish", [{(31, 1): {"a": 3}}, {31: 100}]))
    written(output, ("finish", [{(32, 7): {"a": 4}}, {32: 8}]))
    found = Journal(output, PART).read()
    assert found == Recovered({30: {"a": 1}, (31, 0): {"a": 2}, (31, 1): {"a": 3}, (32, 7): {"a": 4}}, [], {31: 100, 32: 8})


def test_pages_are_suspects_until_they_end(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    written(output, ("suspect", [[(31, 0), (31, 1), 32]]), ("finish", [{(31, 1): {}}, {31: 3}]))
    written(output, ("suspect", [[(31, 2)]]), ("release", [[(31, 2)]]))
    assert Journal(output, PART).read().suspects == [((31, 0), 32)]


def test_a_record_spells_pages_by_row_and_page(tmp_path: Path) -> None:
    written(Output(str(tmp_path)), ("suspect", [[30, (31, 2)]]), ("finish", [{(31, 2): {}}, {31: 3}]))
    (path,) = (tmp_path / ".journal").iterdir()
    records = [json.loads(line)["record"] for line in path.read_text().splitlines()]
    assert (records[0]["suspect"], records[1]["finish"], records[1]["pages"]) == ([30, "31.2"], {"31.2": {}}, {"31": 3})


def test_pages_of_other_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="are not of part-00003; expected 30 to 39"):
        Journal(Output(str(tmp_path)), PART).suspect([(30, 5), (40, 0)])


FOREIGN = [
    {"finish": {"31.": {}, ".5": {}, "31.x": {}, "31.1.1": {}, "31.-1": {}, "40.0": {}, "31.9999999999": {}, "31.1": 7}},
    {"suspect": ["31", "x", "40.1", [31, 2], None], "release": ["31.5.5"]},
    {"finish": {"30": {}}, "pages": {"30": 0, "31": "3", "x": 4, "40": 5, "32": True}},
    {"finish": {"30": {}}, "pages": [31, 4]},
]


@pytest.mark.parametrize("record", FOREIGN, ids=range(len(FOREIGN)))
def test_strange_records_are_passed_over(tmp_path: Path, record: dict[str, Any]) -> None:
    written(Output(str(tmp_path)), ("finish", [{(31, 0): {}}, {31: 2}]))
    line = record_line({"journal": 1, "age": 0, "base": None} | record)
    (tmp_path / ".journal" / f"part-00003.{'0' * 32}.jsonl").write_bytes(line)
    found = Journal(Output(str(tmp_path)), PART).read()
    assert found.pages == {31: 2} and set(found.rows) - {30} == {(31, 0)}
    assert found.suspects in ([], [(31,)])
