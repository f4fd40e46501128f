"""What a part has of its rows and pages, put together from several writers, and what it still lacks."""

from typing import Any

from ray_pipeline.intake.document import Document
from ray_pipeline.part_rows import PartRows
from schemas.manifest import Key, ManifestRow

ROWS = [ManifestRow(5, "a", "a.pdf", extra={"x": 1}), ManifestRow(6, "b", "b.png", page=3), ManifestRow(7, "c", "c.pdf")]


def part() -> PartRows:
    return PartRows(ROWS, lambda row: row.page is None)


def row(status: str = "ok", sha256: str | None = "s", **more: Any) -> dict[str, Any]:
    return {"status": status, "image_sha256": sha256} | more


def document(data: bytes, pages: int) -> Document:
    with Document(data) as made:
        made.pages = pages
        return made


def numbers(found: list[ManifestRow]) -> list[int]:
    return [one.number for one in found]


def test_a_part_is_finished_page_by_page() -> None:
    rows, letter = part(), document(b"letter", 3)
    assert numbers(rows.unfinished()) == [5, 6, 7] and rows.known(ROWS[0]) is None
    assert rows.further(ROWS[0], letter) == [1, 2]
    rows.end({(5, 0): row(sha256=letter.sha256), 6: row(), 7: row("fetch_timeout", None)})
    assert rows.known(ROWS[0]) == letter.sha256 and rows.further(ROWS[0], letter) == [1, 2]
    assert numbers(rows.unfinished()) == [5]
    rows.end({(5, 2): row(), (5, 1): row("decode_corrupt", page=1)})
    assert rows.unfinished() == [] and rows.pages() == {5: 3} and rows.pages([6, (5, 2)]) == {5: 3}
    assert [one.get("page") for one in rows.in_order()] == [None, 1, None, None, None]
    assert rows.in_order()[0]["x"] == 1
    assert rows.statuses == {"ok": 3, "decode_corrupt": 1, "fetch_timeout": 1}


def test_pages_without_a_count_or_of_two_files_count_for_nothing() -> None:
    found: dict[Key, dict[str, Any]] = {(5, 0): row(), (7, 0): row(sha256="s"), (7, 1): row(sha256="t"), (6, 0): row(), 8: row()}
    rows = part()
    rows.take(found, {7: 2, 6: 1})
    assert len(rows) == 0 and not +rows.statuses


def test_pages_beyond_the_count_and_words_on_the_whole_give_way() -> None:
    rows = part()
    rows.take({(5, 0): row(), (5, 1): row(), (5, 9): row(), 5: row("fetch_timeout")}, {5: 2})
    assert rows.statuses == {"ok": 2} and numbers(rows.unfinished()) == [6, 7]
    rows.take({5: row("fetch_denied")}, {})
    assert rows.statuses == {"ok": 2}


def test_later_pages_of_another_file_take_the_place_of_the_earlier_ones() -> None:
    rows = part()
    rows.take({(5, 0): row(sha256="old"), (5, 1): row(sha256="old")}, {5: 2})
    rows.take({(5, 0): row(sha256="new", n=1)}, {5: 3})
    assert rows.lacking(5) == [((5, 1), 1), ((5, 2), 2)] and rows.statuses["ok"] == 1 and rows.known(ROWS[0]) == "new"


def test_a_file_that_has_changed_makes_all_pages_missing() -> None:
    rows, other = part(), document(b"other", 2)
    rows.take({(5, 0): row(), (5, 1): row(), (5, 2): row("fetch_timeout", None)}, {5: 3})
    assert rows.further(ROWS[0], other) == [1] and len(rows) == 0
    assert rows.pages() == {5: 2}


def test_what_ends_with_a_file_that_cannot_be_had() -> None:
    rows = part()
    assert rows.lacking(5) == [(5, None)] and rows.lacking(6) == [(6, None)]
    rows.take({(5, 1): row()}, {5: 3})
    assert rows.lacking(5) == [((5, 0), 0), ((5, 2), 2)]
