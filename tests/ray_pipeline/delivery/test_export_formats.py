"""Each export format read back by another program: the same regions, whatever the texts and the boxes."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_pipeline.delivery.exported_row import ExportedRow, Origin, category, exported_row
from ray_pipeline.delivery.formats.alto import alto_page, write_alto
from ray_pipeline.delivery.formats.coco import write_coco
from ray_pipeline.delivery.formats.csv import write_csv
from ray_pipeline.delivery.formats.hocr import hocr_page, quotable, write_hocr
from ray_pipeline.delivery.formats.json_text import json_text, plain
from ray_pipeline.delivery.formats.jsonl import write_jsonl
from ray_pipeline.delivery.formats.label_studio import write_label_studio
from ray_pipeline.delivery.formats.page_files import page_name
from ray_pipeline.delivery.formats.searchable_pdf import pdf_page
from ray_pipeline.delivery.formats.words import is_right_to_left, line_words
from ray_pipeline.delivery.formats.xml_text import writable
from ray_pipeline.delivery.rows import PictureFacts, ok_row
from schemas.manifest import ManifestRow
from schemas.picture import Box
from schemas.result import RESULT_COLUMNS, Region
from tests.faults.naughty_strings import STORABLE
from tests.stand_ins.export_readers import (
    ReadPage,
    alto_page_of,
    coco_pages,
    hocr_page_of,
    label_studio_pages,
    pages_in,
    pdf_page_of,
)
from tests.stand_ins.finished_runs import said

ORIGIN = Origin("embedded@0123456789ab", "1.2.3", tuple(RESULT_COLUMNS.names))
FORMULA_SIGNS = tuple("=+-@\t\r\n")


def row_of(
    regions: list[Region],
    size: tuple[int, int] = (640, 480),
    number: int = 7,
    name: str = "a",
    answer: str = "x",
    page: int | None = None,
) -> ExportedRow:
    """A row as it comes out of the results."""
    facts = PictureFacts(*size, "ab" * 32)
    columns = ok_row(ManifestRow(number, name, f"{name}.png", page, "what?"), facts, said(answer, regions))
    assert columns["status"] == "ok", columns["error"]
    return exported_row(number, columns, None, columns["image_uri"])


def region(text: str | None, label: str | None = None, box: Box = (10.0, 20.0, 110.0, 40.0), sure: float | None = 0.5) -> Region:
    return Region(box, label, text, sure, "line")


TWO = row_of([region("Total: 12.00", "sum", (10.25, 20.5, 110.125, 40.0), 0.875), region(None, "stamp", (0, 0, 640, 480), None)])


def test_coco_says_what_the_row_says(tmp_path: Path) -> None:
    assert write_coco(tmp_path / "c.json", [TWO, row_of([], number=9)], ORIGIN).regions == 2
    written = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert [image["id"] for image in written["images"]] == [8, 10]
    assert written["images"][0] | {"attributes": 0} == {
        "id": 8, "file_name": "a.png", "width": 640, "height": 480, "attributes": 0
    }  # fmt: skip
    assert written["annotations"][0] == {
        "id": 1, "image_id": 8, "category_id": 1, "bbox": [10.25, 20.5, 99.875, 19.5], "area": 1947.562, "iscrowd": 0,
        "segmentation": [], "score": 0.875, "attributes": {"kind": "line", "text": "Total: 12.00"},
    }  # fmt: skip
    assert [(one["id"], one["name"], one["supercategory"]) for one in written["categories"]] == [
        (1, "sum", "line"),
        (2, "stamp", "line"),
    ]


def test_label_studio_says_what_the_row_says(tmp_path: Path) -> None:
    write_label_studio(tmp_path, [TWO], ORIGIN)
    (task,) = json.loads((tmp_path / "tasks.json").read_text("utf-8"))
    assert task["data"] == {"image": "a.png", "manifest_id": "a", "row": 7, "question": "what?", "answer": "x"}
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("embedded@0123456789ab", 0.75)
    value = {"x": 1.6015625, "y": 4.2708333, "width": 15.6054688, "height": 4.0625, "rotation": 0}
    frame = {"id": "region-0", "to_name": "image", "original_width": 640, "original_height": 480, "image_rotation": 0}
    rectangle = {"from_name": "label", "type": "rectanglelabels", "value": value | {"rectanglelabels": ["sum"]}, "score": 0.875}
    transcription = {"from_name": "transcription", "type": "textarea", "value": value | {"text": ["Total: 12.00"]}}
    assert prediction["result"][:2] == [frame | rectangle, frame | transcription]
    assert [one["type"] for one in prediction["result"][2:]] == ["rectanglelabels"] and "score" not in prediction["result"][2]


def test_hocr_says_what_the_row_says() -> None:
    page = hocr_page_of(hocr_page(TWO, ORIGIN))
    assert (page.image, page.size_px) == ("a.png", (640, 480))
    line, stamp = page.regions
    assert (line.text, line.label, line.confidence, line.box_px) == ("Total: 12.00", "sum", 0.88, (10, 20, 110, 40))
    # 12 characters over 99.875 pixels: 6 for the first word, one between, 5 for the second
    assert line.words == [("Total:", (10, 20, 60, 40)), ("12.00", (69, 20, 110, 40))]
    assert (stamp.text, stamp.label, stamp.box_px) == (None, "stamp", (0, 0, 640, 480))


def test_alto_says_what_the_row_says() -> None:
    page = alto_page_of(alto_page(TWO, ORIGIN).encode())
    assert (page.image, page.size_px) == ("a.png", (640, 480))
    line, stamp = page.regions
    assert (line.text, line.label, line.confidence, line.box_px) == ("Total: 12.00", "sum", 0.875, (10.25, 20.5, 110.125, 40.0))
    assert [word for word, _ in line.words] == ["Total:", "12.00"]
    assert (stamp.text, stamp.label, stamp.box_px) == (None, "stamp", (0, 0, 640, 480))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Gr\u00fc\u00dfe aus \u6771\u4eac", "Gr\u00fc\u00dfe aus \u6771\u4eac"),
        ("\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd 12.50", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd 12.50"),
        ("\U0001f600 (ok) /Tj <</A>>", "\U0001f600 (ok) /Tj <</A>>"),
    ],
)  # fmt: skip
def test_a_searchable_page_says_it_in_any_script(text: str, read: str) -> None:
    data = pdf_page(row_of([region(text), region(None)]), None)
    assert pdf_page_of(data)[0] == read and data == pdf_page(row_of([region(text), region(None)]), None)


def test_a_searchable_page_has_each_character_in_its_place() -> None:
    text, size_pt, boxes_pt = pdf_page_of(pdf_page(row_of([region("ab cd", box=(10.5, 20.25, 110.5, 40.75))]), None))
    assert text == "ab cd" and size_pt == pytest.approx((640 * 0.24, 480 * 0.24), abs=1e-4)
    places = [tuple(edge / 0.24 for edge in box) for box in boxes_pt]
    assert places == [pytest.approx((10.5 + 20 * k, 20.25, 30.5 + 20 * k, 40.75), abs=0.02) for k in range(5)]
    wide = pdf_page_of(pdf_page(row_of([region("x", box=(0, 0, 90_000, 10))], (90_000, 10)), None))
    assert wide[1][0] == pytest.approx(14_400) and wide[2][0][2] == pytest.approx(14_400, abs=0.5)


def test_naughty_texts_do_not_break_a_searchable_page() -> None:
    for row in naughty_rows():
        data = pdf_page(row, None)
        assert pdf_page_of(data)[1] == pytest.approx((640 * 0.24, 480 * 0.24), abs=1e-4)
        assert data.count(b"obj") == 2 * 14 and not re.search(rb"/(?:JS|JavaScript|OpenAction|URI|Launch|AA)\b", data)


def test_pages_of_documents_have_their_numbers() -> None:
    row = row_of([], page=4)
    assert "; ppageno 4" in hocr_page(row, ORIGIN) and 'PHYSICAL_IMG_NR="5"' in alto_page(row, ORIGIN)


def test_a_page_without_regions_and_a_line_without_words() -> None:
    for regions in ([], [region(" \n ")], [region("")]):
        for page in (alto_page_of(alto_page(row_of(regions), ORIGIN).encode()), hocr_page_of(hocr_page(row_of(regions), ORIGIN))):
            assert [(one.text or "").strip() for one in page.regions] == ["" for _ in regions]


def test_the_box_of_an_answer_is_a_region() -> None:
    columns = ok_row(ManifestRow(0, "a", "a.png", None, "?"), PictureFacts(60, 50, "ab"), said("Ada", [], (1, 2, 30, 40), 0.5))
    row = exported_row(0, columns, None, "a.png")
    assert row.regions == (Region((1, 2, 30, 40), None, "Ada", 0.5, "answer"),) and category(row.regions[0]) == "answer"
    with_same = columns | {"regions": [{"box": columns["box"], "label": "l", "text": None, "confidence": 0.25, "kind": "k"}]}
    assert [one.kind for one in exported_row(0, with_same, None, "").regions] == ["k"]
    other = [{"box": columns["box"] | {"x0": 0.5}, "label": "l", "text": None, "confidence": 0.25, "kind": "k"}]
    assert [one.kind for one in exported_row(0, columns | {"regions": other}, None, "").regions] == ["answer", "k"]


def test_least_confidence_leaves_out_what_is_not_known_to_be_sure() -> None:
    regions = [region("a", sure=0.5), region("b", sure=0.25, box=(1, 1, 2, 2)), region("c", sure=None, box=(2, 2, 3, 3))]
    columns = row_of(regions).columns | {"box": {"x0": 5, "y0": 5, "x1": 9, "y1": 9}, "box_confidence": 0.375}
    kept = exported_row(0, columns, 0.375, "")
    assert [one.text for one in kept.regions] == ["x", "a"] and kept.columns["box"] is not None
    kept = exported_row(0, columns, 0.4, "")
    assert [one.text for one in kept.regions] == ["a"]
    assert kept.columns["box"] is kept.columns["box_confidence"] is None and len(kept.columns["regions"]) == 1
    assert len(columns["regions"]) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ab cd", [("ab", (0, 0, 40, 10)), ("cd", (60, 0, 100, 10))]),
        ("a\nb\u2003c", [("a", (0, 0, 20, 10)), ("b", (40, 0, 60, 10)), ("c", (80, 0, 100, 10))]),
        ("\u05d0\u05d1 12", [("\u05d0\u05d1", (60, 0, 100, 10)), ("12", (0, 0, 40, 10))]),
        ("(\u0627) ab", [("(\u0627)", (50, 0, 100, 10)), ("ab", (0, 0, 33.3333, 10))]),
        ("e\u0301 f", [("e\u0301", (0, 0, 33.3333, 10)), ("f", (66.6667, 0, 100, 10))]),
        ("\u0301 f", [("\u0301", (0, 0, 33.3333, 10)), ("f", (66.6667, 0, 100, 10))]),
        ("12.00", [("12.00", (0, 0, 100, 10))]),
        ("  ", []),
    ],
)  # fmt: skip
def test_words_share_the_line(text: str, words: list[tuple[str, Box]]) -> None:
    found = line_words(text, (0.0, 0.0, 100.0, 10.0))
    assert [word.text for word in found] == [word for word, _ in words]
    for word, (_, box) in zip(found, words, strict=True):
        assert word.box_px == pytest.approx(box, abs=1e-4)
    assert is_right_to_left(text) is (len(found) > 1 and found[0].box_px[0] > found[1].box_px[0])


def box_in(width: int, height: int) -> st.SearchStrategy[Box]:
    """Boxes as results hold them: float32, inside, not empty."""

    def edges(limit: int) -> st.SearchStrategy[tuple[float, float]]:
        edge = st.floats(0, limit, width=32)
        return st.tuples(edge, edge).map(sorted).filter(lambda pair: pair[0] < pair[1])

    return st.tuples(edges(width), edges(height)).map(lambda both: (both[0][0], both[1][0], both[0][1], both[1][1]))


texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(STORABLE)


@st.composite
def rows(draw: st.DrawFn) -> ExportedRow:
    size = draw(st.tuples(st.integers(1, 70_000), st.integers(1, 70_000)))
    one = st.builds(Region, box_in(*size), texts, texts, st.none() | st.floats(0, 1, width=32), st.sampled_from(("line", "box")))
    return row_of(draw(st.lists(one, max_size=4)), size, name=draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)))


def assert_page(row: ExportedRow, page: ReadPage, box_px: float, sure: float) -> None:
    """An XML page has the row's regions in order: boxes and confidences this near, texts but for white space."""
    assert len(page.regions) == len(row.regions)
    for one, read in zip(row.regions, page.regions, strict=True):
        assert read.box_px == pytest.approx(one.box_px, abs=box_px)
        assert read.label == (None if one.label is None else writable(one.label))
        assert (read.text is None) is (one.text is None)
        words = writable(" ".join((one.text or "").split())).split()
        assert (read.text or "").split() == words
        if words:
            assert read.confidence == (None if one.confidence is None else pytest.approx(one.confidence, abs=sure))
        x0, y0, x1, y1 = read.box_px
        for _, box in read.words:
            assert box[1::2] == (pytest.approx(y0), pytest.approx(y1)) and x0 - 0.002 <= box[0] <= box[2] <= x1 + 0.002


def assert_annotations(row: ExportedRow, page: ReadPage, box_px: float, name: Callable[[str], str]) -> None:
    """A JSON image has the row's regions in order: boxes this near, texts and confidences as they are, names of classes."""
    assert len(page.regions) == len(row.regions)
    for one, read in zip(row.regions, page.regions, strict=True):
        assert read.box_px == pytest.approx(one.box_px, abs=box_px)
        assert (read.text, read.label) == (one.text, name(category(one)))
        assert read.confidence == (None if one.confidence is None else pytest.approx(one.confidence, rel=1e-6))


def assert_same_pages(row: ExportedRow) -> None:
    assert_page(row, alto_page_of(alto_page(row, ORIGIN).encode()), 0.0016, 1e-6)
    page = hocr_page_of(hocr_page(row, ORIGIN))
    assert_page(row, page, 0.5, 0.0051)
    assert page.image == quotable(row.image)


def assert_same_annotations(rows: list[ExportedRow], folder: Path) -> None:
    wanted = (len(rows), sum(len(row.regions) for row in rows))
    for written in (write_coco(folder / "c.json", rows, ORIGIN), write_label_studio(folder, rows, ORIGIN)):
        assert (written.rows, written.regions) == wanted
    for row, coco, task in zip(rows, coco_pages(folder / "c.json"), label_studio_pages(folder), strict=True):
        assert coco.image == task.image == row.image and coco.size_px == row.size_px
        assert_annotations(row, coco, 0.0016, str)
        assert_annotations(row, task, 0.001, writable)


@given(rows())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_pages_carry_every_row(row: ExportedRow) -> None:
    assert_same_pages(row)


@given(st.lists(rows(), max_size=3))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_annotations_carry_every_row(tmp_path: Path, made: list[ExportedRow]) -> None:
    assert_same_annotations([replace(row, number=number) for number, row in enumerate(made)], tmp_path)


def naughty_rows() -> Iterator[ExportedRow]:
    """Every text in every place of a row that holds text, ten to a row."""
    for number, start in enumerate(range(0, len(STORABLE), 10)):
        chosen = STORABLE[start : start + 10]
        regions = [region(text, text, (float(k), 1.0, k + 5.0, 9.0)) for k, text in enumerate(chosen)]
        yield row_of(regions, number=number, name=f"{number} {chosen[0]}", answer=chosen[-1])


def test_naughty_texts_are_only_texts(tmp_path: Path) -> None:
    made = list(naughty_rows())
    for row in made:
        assert_same_pages(row)
    assert_same_annotations(made, tmp_path)


def test_files_of_pages_are_named_by_numbers(tmp_path: Path) -> None:
    assert page_name(1_234_567, "hocr") == "001234/001234567.hocr"
    made = [row_of([region("x")], number=number, name=name) for number, name in ((0, "../../up"), (999, "/a"), (1000, "a\0b"))]
    for write, ending in ((write_hocr, "hocr"), (write_alto, "alto.xml")):
        folder = tmp_path / ending
        folder.mkdir()
        assert write(folder, made, ORIGIN).rows == 3
        found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        assert found == [f"000000/000000000.{ending}", f"000000/000000999.{ending}", f"000001/000001000.{ending}", "pages.jsonl"]
        assert [(entry["id"], entry["row"]) for entry, _ in pages_in(folder)] == [(row.id, row.number) for row in made]


def test_json_lines_give_every_text_back(tmp_path: Path) -> None:
    made = list(naughty_rows())
    write_jsonl(tmp_path / "r.jsonl", made, ORIGIN)
    text = (tmp_path / "r.jsonl").read_text("utf-8")
    assert len(text.splitlines()) == len(made)  # which also ends lines at U+0085 and U+2028
    for line, row in zip(text.splitlines(), made, strict=True):
        back = json.loads(line)
        assert list(back) == RESULT_COLUMNS.names
        assert [one["text"] for one in back["regions"]] == [one.text for one in row.regions]
        assert [one["box"] for one in back["regions"]] == [one["box"] for one in row.columns["regions"]]
        assert back["answer"] == row.columns["answer"] and back["id"] == row.id


@pytest.mark.parametrize(
    ("value", "single", "expected"),
    [(0.30000001192092896, True, 0.3), (0.30000001192092896, False, 0.30000001192092896), (math.nan, False, None),
     (-math.inf, True, None), ([{"a": math.nan, "b": (1, "x")}], False, [{"a": None, "b": [1, "x"]}]), (b"\xff", False, "/w=="),
     (True, True, True), (2**60 + 1, True, 2**60 + 1)],
)  # fmt: skip
def test_values_become_plain(value: Any, single: bool, expected: Any) -> None:
    assert plain(value, single) == expected and type(plain(value, single)) is type(expected)
    json.loads(json_text(plain(value, single)))


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    made = list(naughty_rows())
    write_csv(tmp_path / "t.csv", made, ORIGIN)
    data = (tmp_path / "t.csv").read_bytes().decode("utf-8")
    head, *lines = list(csv.reader(io.StringIO(data, newline=""), strict=True))
    assert len(lines) == len(made) and {len(line) for line in lines} == {len(head)} and len(set(head)) == len(head)
    cells = [cell for line in lines for cell in line]
    assert [cell for cell in cells if cell.lstrip(" ").startswith(FORMULA_SIGNS)] == []
    assert any(cell.startswith("'=") for cell in cells)
    for line, row in zip(lines, made, strict=True):
        named = dict(zip(head, line, strict=True))
        assert named["answer"].removeprefix("'") == row.columns["answer"].replace("\0", "\ufffd").removeprefix("'")
        assert [one["text"] for one in json.loads(named["regions"])] == [one.text for one in row.regions]


def test_a_table_has_flat_columns(tmp_path: Path) -> None:
    columns = ok_row(
        ManifestRow(0, "a", "a.png", None, "?"), PictureFacts(60, 50, "ab"), said('say "A",\nB', [], (1, 2, 30.1, 40))
    )
    row = ExportedRow(0, columns | {"=x": -3, "when": None, "list": ["-1"]}, (), "a.png")
    origin = Origin("m", "v", (*ORIGIN.columns, "=x", "when", "list"))
    write_csv(tmp_path / "t.csv", [row], origin)
    data = (tmp_path / "t.csv").read_bytes()
    assert data.count(b"\r\n") == 2 and b'"say ""A"",\nB"' in data
    (named,) = csv.DictReader(io.StringIO(data.decode(), newline=""))
    assert [named[f"box_{edge}"] for edge in ("x0", "y0", "x1", "y1")] == ["1.0", "2.0", "30.1", "40.0"]
    assert (named["refinement_used"], named["'=x"], named["when"], named["list"]) == ("true", "-3", "", '["-1"]')
    assert (named["page"], named["regions"], named["calibrated"]) == ("", "[]", "false")
    with pytest.raises(ValueError, match="box_x0"):
        write_csv(tmp_path / "t.csv", [], Origin("m", "v", (*ORIGIN.columns, "box_x0")))


@pytest.mark.parametrize(
    ("address", "expected"),
    [('s3://b/a b;c".png', "s3://b/a%20b%3Bc%22.png"), ("é%20x.png", "é%20x.png"), ("a\x85b\u2028", "a%C2%85b%E2%80%A8")],
)
def test_addresses_are_quoted(address: str, expected: str) -> None:
    assert quotable(address) == expected
