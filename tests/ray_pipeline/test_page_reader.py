"""Whole pages through the conversation: tiles, merging, reading again, order; and pages with nothing on them."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ray_pipeline.batching import converse
from ray_pipeline.delivery.rows import PictureFacts, ok_row
from ray_pipeline.methods.page_turns import as_it_lies, turned
from ray_pipeline.models.contract import ReadLines, TextLine, TextLines
from ray_pipeline.page_reader import read_page
from ray_pipeline.perceiver import Plan, Seen
from schemas.manifest import ManifestRow
from schemas.methods import RefineSettings
from schemas.model import PromptSettings, ViewSettings
from schemas.picture import Picture
from schemas.reading import ReadingSettings
from schemas.result import Perception
from schemas.status import RowFailure, Status
from tests.stand_ins.reading_model import READING_PX, SURE, UNSURE, WELL_READ, ReadingModel, drawn

LEFT = ["it was a night of rain", "and wind and nobody", "came to the old house"]
RIGHT = ["until the clock had", "struck twelve times", "and one light went on"]
COLUMNS = [(x, 20 + 24 * k, text) for x, texts in ((30, LEFT), (420, RIGHT)) for k, text in enumerate(texts)]
RECEIPT = [(20, 20, "BREAD"), (520, 20, "2.49"), (20, 44, "MILK 1L"), (520, 44, "1.09"), (20, 68, "TOTAL"), (520, 68, "3.58")]


def plan(**reading: object) -> Plan:
    chosen = ReadingSettings.model_validate(reading)
    return Plan(ViewSettings(), RefineSettings(), PromptSettings(), ReadingModel.defaults, reading=chosen)


def said(picture: Picture, model: Any = None, **reading: object) -> Perception:
    seen = converse(model or ReadingModel(), {0: read_page(picture, plan(**reading))})[0]
    assert isinstance(seen, Seen), seen
    return seen.perception


def test_a_small_page_is_one_view() -> None:
    model = ReadingModel()
    page = said(drawn(280, 200, [(10, 10, "first line"), (10, 40, "and the second")]), model)
    assert page.answer == "first line\nand the second" and (page.views, page.visual_tokens) == (1, 4)
    assert [region.text for region in page.regions] == ["first line", "and the second"]
    assert page.regions[1].box_px == (10, 40, 10 + 14 * 8, 56) and page.regions[1].kind == "line"
    assert page.answer_confidence == pytest.approx(math.exp(SURE)) and page.regions[0].label is None
    assert (page.box_px, page.baseline_answer, page.candidates) == (None, None, ())
    assert page.refinement.method == "reread" and not page.refinement.used and page.refinement.reason == "no line below 0.8"
    assert model.requests[0].box_px == (0, 0, 280, 200) and not model.requests[0].single


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 1.5), (0.5, 1.0)])
def test_a_page_of_many_tiles_is_read_once_and_in_order(scales: tuple[float, ...]) -> None:
    page = said(
        drawn(640, 480, [*COLUMNS, (30, 300, "and here a line across the whole page which several tiles cut")]), scales=scales
    )
    assert page.answer.splitlines() == [text for _, _, text in COLUMNS] + [
        "and here a line across the whole page which several tiles cut"
    ]
    assert page.views >= 6


def test_a_receipt_is_read_across_and_columns_only_where_asked() -> None:
    assert said(drawn(600, 120, RECEIPT)).answer == "BREAD 2.49\nMILK 1L 1.09\nTOTAL 3.58"
    across = said(drawn(640, 200, COLUMNS), columns=False).answer
    assert across.splitlines()[0] == f"{LEFT[0]} {RIGHT[0]}"


def test_faint_lines_are_read_again_and_the_surer_reading_stands() -> None:
    lines = [(10, 10, "a clear line"), (10, 60, "a faint line"), (10, 110, "another faint one")]
    model = ReadingModel()
    page = said(drawn(280, 200, lines, faint=(1, 2)), model)
    assert page.answer == "a clear line\na faint line\nanother faint one"
    assert page.baseline_answer == "a clear line\na ?ai?t ?in?\nan?th?r ?ai?t ?ne"
    assert page.refinement.used and page.refinement.reason == "2 of 2 lines below 0.8 read again, 2 surer"
    single = [request for request in model.requests if request.single]
    assert len(single) == len(page.refinement.crops_px) == 2 and page.views == 3
    assert page.refinement.crops_px[0] == pytest.approx((10 - 6.4, 60 - 3.2, 10 + 12 * 8 + 6.4, 76 + 3.2))
    assert [region.confidence for region in page.regions] == pytest.approx([math.exp(x) for x in (SURE, WELL_READ, WELL_READ)])
    weights = [12, 12, 17]
    mean = sum(w * x for w, x in zip(weights, (SURE, UNSURE, UNSURE), strict=True)) / sum(weights)
    assert page.baseline_confidence == pytest.approx(math.exp(mean))


def test_reading_again_has_its_bounds() -> None:
    lines = [(10, 10 + 20 * k, f"faint {k}") for k in range(9)]
    picture = drawn(280, 200, lines, faint=range(9))
    some = said(picture, max_rereads=4, orientation="as_is")
    assert some.refinement.reason == "4 of 9 lines below 0.8 read again, 4 surer" and some.views == 5
    assert ["?" in (region.text or "") for region in some.regions] == [False] * 4 + [True] * 5, "of equals the first ones"
    none = said(picture, max_rereads=0, orientation="as_is")
    assert none.refinement.method == "none" and none.views == 1 and none.baseline_answer is None
    assert said(picture, max_rereads=0, min_confidence=0.6).regions == ()
    assert len(said(picture, min_confidence=0.6).regions) == 9, "what is unsure is read again before it is dropped"


class Worse(ReadingModel):
    """What it reads alone is surer and lacks most letters."""

    def read_lines(self, requests: list[ReadLines]) -> list[TextLines]:
        short = TextLines((TextLine((0, 0, 9, 9), "a", -0.001),), 1, True)
        return [short if request.single else self._read(request) for request in requests]


def test_a_second_reading_that_lost_the_line_does_not_stand() -> None:
    page = said(drawn(280, 100, [(10, 10, "a faint line")], faint=[0]), Worse())
    assert page.answer == "a ?ai?t ?in?" and not page.refinement.used and page.baseline_answer is None


def test_a_tile_that_does_not_fit_into_one_answer_is_read_in_quarters() -> None:
    lines = [(10, 10 + 24 * k, f"line number {k} of them") for k in range(10)]
    model = ReadingModel(room=120)
    assert said(drawn(290, 260, lines), model).answer == "\n".join(text for _, _, text in lines)
    assert model.requests[0].box_px == (0, 0, 290, 260) and len(model.requests) == 5


class Looping(ReadingModel):
    """Writes its first line again and again where a region is larger than so many pixels."""

    def _read(self, request: ReadLines) -> TextLines:
        found = super()._read(request)
        wide = request.box_px[2] - request.box_px[0] > 200
        return TextLines(found.lines[:1] * 50, found.tokens, False) if wide and found.lines else found


def test_a_model_caught_in_a_loop_is_asked_for_less() -> None:
    lines = [(10, 10 + 24 * k, f"line {k}") for k in range(8)]
    assert said(drawn(290, 260, lines), Looping()).answer == "\n".join(text for _, _, text in lines)


@pytest.mark.parametrize("shade", [0, 255, 128])
@pytest.mark.parametrize("size", [(1, 1), (700, 3), (640, 480)])
def test_an_empty_page_is_a_page_without_text(shade: int, size: tuple[int, int]) -> None:
    picture = Picture(np.full((size[1], size[0], 3), shade, np.uint8), "0" * 64)
    page = said(picture)
    assert (page.answer, page.answer_confidence, page.regions, page.baseline_answer) == ("", None, (), None)
    row = ok_row(ManifestRow(0, "a", "a.png", None, None), PictureFacts(*size, "0" * 64), page)
    assert row["status"] == "ok" and row["answer"] == "" and row["regions"] == [] and row["question"] is None


class Wild(ReadingModel):
    """Boxes beyond the page, numbers that are none, characters that cannot be written."""

    def read_lines(self, requests: list[ReadLines]) -> list[TextLines]:
        lines = (
            TextLine((-50.0, -3.0, 40.0, 20.0), "beyond", -0.1),
            TextLine((300.0, 0.0, 400.0, 20.0), "elsewhere", -0.1),
            TextLine((10.0, 30.0, math.nan, 50.0), "nowhere", -0.1),
            TextLine((10.0, 30.0, 90.0, 50.0), "half \ud83d a pair", -0.1),
            TextLine((10.0, 60.0, 90.0, 80.0), "unheard of", -math.inf),
            TextLine((10.0, 60.0, 90.0, 80.0), " \n ", -0.1),
            TextLine((10.0, 85.0, 90.0, 99.0), "surer\nthan sure", 1e-9),
        )
        return [TextLines(lines, 1, True) for _ in requests]


def test_what_a_model_makes_of_a_page_always_becomes_a_row() -> None:
    picture = drawn(200, 100, [])
    page = said(picture, Wild())
    assert [region.text for region in page.regions] == ["beyond", "half ? a pair", "surer than sure"]
    assert page.regions[0].box_px == (0, 0, 40, 20)
    row = ok_row(ManifestRow(0, "a", "a.png", None, None), PictureFacts(200, 100, "0" * 64), page)
    assert row["status"] == "ok", row["error"]


class Failing(ReadingModel):
    """Cannot read one page, and takes no company with it."""

    def read_lines(self, requests: list[ReadLines]) -> list[TextLines]:
        if any(request.picture.width == 77 for request in requests):
            raise RuntimeError("planted failure")
        return super().read_lines(requests)


def test_pages_side_by_side_are_as_if_alone_and_fail_alone() -> None:
    pictures = [drawn(280 + 90 * k, 200, [(10, 10, f"page {k}"), (10, 50, "a faint line")], faint=[1]) for k in range(4)]
    pictures.insert(2, drawn(77, 77, []))
    ended = converse(Failing(), {k: read_page(picture, plan()) for k, picture in enumerate(pictures)})
    failed = ended.pop(2)
    assert isinstance(failed, RowFailure) and failed.status == Status.MODEL_CRASH
    for k, seen in ended.items():
        assert isinstance(seen, Seen) and seen.perception == said(pictures[k])


class Upright(ReadingModel):
    """Sure of lines that stand upright, whose first cell is even; of lines upside down it is not, on their side it sees none."""

    def _read(self, request: ReadLines) -> TextLines:
        found = super()._read(request)
        pixels = request.picture.pixels_YX3
        lines = [(line, pixels[round(line.box_px[1]), round(line.box_px[0]), 2] % 2) for line in found.lines]
        return replace(found, lines=tuple(replace(line, logprob=UNSURE) if odd else line for line, odd in lines))


class Slices(Upright):
    """Upright, and without boxes of its own."""

    def _read(self, request: ReadLines) -> TextLines:
        return replace(super()._read(request), placed="none")


TURNABLE = [(20, 20 + 40 * k, text) for k, text in enumerate(["the page lies", "as it was put", "upon the glass"] * 5)]
EVEN = [(x, y, text + "." * (len(text) % 2)) for x, y, text in TURNABLE]  # whose last cell is odd


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_page_that_lies_turned_is_read_as_if_it_stood(turn: int) -> None:
    upright = drawn(280, 640, EVEN)
    expected = said(upright, Upright())
    assert expected.answer.splitlines() == [text for _, _, text in EVEN] and expected.views == 3
    lies = turned(upright, 4 - turn)
    model = Upright()
    page = said(lies, model)
    assert page.answer == expected.answer and page.answer_confidence == pytest.approx(math.exp(SURE))
    assert page.refinement.reason == f"no line below 0.8; the page lies turned by {90 * turn} degrees clockwise"
    for region, before in zip(page.regions, expected.regions, strict=True):
        assert as_it_lies(before.box_px, turn, lies.width, lies.height) == region.box_px
        x0, y0, x1, y1 = (round(edge) for edge in region.box_px)
        assert (lies.pixels_YX3[y0:y1, x0:x1, 2] < 2).all(), "nothing but ink of the line"
    assert page.views == len(model.requests) >= 3 + 4 + 3 and page.visual_tokens == 4 * page.views
    row = ok_row(ManifestRow(0, "a", "a.png", None, None), PictureFacts(lies.width, lies.height, "0" * 64), page)
    assert row["status"] == "ok", row["error"]


def test_crops_of_a_turned_page_are_where_they_lie() -> None:
    upright = drawn(280, 160, [*EVEN[:2], (20, 110, "a line so faint.")], faint=[2])
    page, stands = said(turned(upright, 1), Upright()), said(upright, Upright())
    assert page.answer == stands.answer and len(page.refinement.crops_px) == 1
    assert page.refinement.crops_px == tuple(as_it_lies(box, 3, 160, 280) for box in stands.refinement.crops_px)


@pytest.mark.parametrize(
    ("model", "reading", "page", "views"),
    [
        (Upright(), {}, drawn(280, 640, EVEN), 3),
        (Upright(), {"orientation": "as_is"}, turned(drawn(280, 300, EVEN[:7]), 1), 1),
        (Slices(), {}, turned(drawn(280, 300, EVEN[:7]), 1), 1),
        (Upright(), {}, drawn(280, 200, []), 5),
        (Upright(), {}, turned(drawn(280, 200, [(20, 20, "speck")]), 1), 5),
    ],
    ids=["sure", "as it is", "no boxes of its own", "blank", "a speck"],
)  # fmt: skip
def test_what_is_not_turned(model: ReadingModel, reading: dict[str, str], page: Picture, views: int) -> None:
    found = said(page, model, **reading)
    assert found.views == views and "turned" not in found.refinement.reason


class Fickle(Upright):
    """Reads the middle of a page better on its side, and the page itself worse."""

    def _read(self, request: ReadLines) -> TextLines:
        alone = request.picture.pixels_YX3.shape[:2] == (READING_PX, 280)
        line = TextLine((0, 0, 99, 19), "a line of the page", SURE if alone else -0.7 if request.picture.width > 280 else UNSURE)
        return TextLines((line,), 1, True)


def test_a_turned_page_that_is_read_no_better_does_not_stand() -> None:
    lies = drawn(280, 640, [])
    found = said(lies, Fickle(), max_rereads=0)
    assert "turned" not in found.refinement.reason and found.answer_confidence == pytest.approx(math.exp(UNSURE))
