"""Phrases through the conversation: read, located, both; what is not there; and one look at the picture for all of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from ray_pipeline.batching import converse
from ray_pipeline.delivery.rows import PictureFacts, ok_row
from ray_pipeline.models.contract import Encode, Generate, Generation, ReadLines, TextLine, TextLines, VisualTokens
from ray_pipeline.page_labeller import label_picture
from ray_pipeline.perceiver import Plan, Seen, Ways
from schemas.labelling import LabelSettings
from schemas.manifest import ManifestRow
from schemas.methods import RefineSettings, SelectSettings
from schemas.model import PromptSettings, ViewSettings
from schemas.picture import Picture
from schemas.result import Perception
from tests.stand_ins.planted_model import PlantedModel
from tests.stand_ins.reading_model import SURE, ReadingModel, drawn

READ, LOCATE, BOTH = Ways(True, False), Ways(False, True, "Where is the {question}?"), Ways(True, True, "{question}")
INVOICE = [(10, 10, "Invoice 4711"), (10, 40, "Total"), (160, 40, "12.50"), (10, 70, "total due")]
MARK = (200, 100, 230, 120)
DEFAULTS = replace(PlantedModel.defaults, reading_px=ReadingModel.defaults.reading_px)


class Both(PlantedModel):
    """Reads planted lines, points at magenta when it is asked for the seal, and writes nothing when asked for the ghost."""

    def __init__(self, placed: bool = True) -> None:
        self.placed, self.looks, self.questions = placed, 0, list[str]()
        self.reader = ReadingModel()

    def encode(self, requests: Sequence[Encode]) -> list[VisualTokens]:
        self.looks += sum(request.behind is None for request in requests)
        return super().encode(requests)

    def generate(self, requests: Sequence[Generate]) -> list[Generation]:
        self.questions += [request.question for request in requests]
        said = super().generate(requests)
        absent = Generation("", "", -0.1, None, None, 1, True)
        silent = Generation("", "", -np.inf, None, None, 0, True)
        special = {"unicorn": absent, "ghost": silent}
        return [
            next((reply for word, reply in special.items() if word in request.question), answer)
            for request, answer in zip(requests, said, strict=True)
        ]

    def read_lines(self, requests: Sequence[ReadLines]) -> list[TextLines]:
        replies = self.reader.read_lines(requests)
        return replies if self.placed else [TextLines(r.lines, r.tokens, r.finished, "none") for r in replies]


def picture(lines: Sequence[tuple[int, int, str]] = INVOICE) -> Picture:
    page = drawn(280, 140, lines)
    x0, y0, x1, y1 = MARK
    page.pixels_YX3[y0:y1, x0:x1] = 255, 0, 255
    return page


def said(phrases: Sequence[str], ways: Ways, model: PlantedModel, method: str = "none", **changes: object) -> Perception:
    label = LabelSettings.model_validate(changes.pop("label", {}))
    refine = RefineSettings.model_validate({"method": method})
    plan = Plan(ViewSettings(), refine, PromptSettings(), DEFAULTS, label=label, ways=ways, **changes)
    seen = converse(model, {0: label_picture(picture(), phrases, plan)})[0]
    assert isinstance(seen, Seen), seen
    return seen.perception


def test_phrases_are_found_in_what_is_read() -> None:
    model = Both()
    found = said(["total", "INVOICE 4711", "invoice", "total 12.50", "Unicorn", "TOTAL", " "], READ, model)
    assert [(region.label, region.text, region.box_px) for region in found.regions] == [
        ("total", "Total", (10, 40, pytest.approx(50), 56)),
        ("total", "total", (10, 70, pytest.approx(50, abs=6), 86)),
        ("INVOICE 4711", "Invoice 4711", (10, 10, pytest.approx(106), 26)),
        ("invoice", "Invoice", (10, 10, pytest.approx(66, abs=6), 26)),
        ("total 12.50", "Total 12.50", (10, 40, pytest.approx(200), 56)),
    ]
    assert {region.kind for region in found.regions} == {"label"}
    assert [region.confidence for region in found.regions] == [pytest.approx(np.exp(SURE))] * 5
    assert found.answer == "total\nINVOICE 4711\ninvoice\ntotal 12.50" and found.answer_confidence is None
    assert found.refinement.reason == "4 of 5 phrases read, 0 located" and found.candidates == ()
    assert model.looks == 0 and found.views == 1


@pytest.mark.parametrize("phrases", [["unicorn"], ["unicorn", "invoice 4712"], []])
def test_a_picture_without_the_phrases_is_a_row_without_boxes(phrases: list[str]) -> None:
    found = said(phrases, READ, Both())
    assert (found.regions, found.answer) == ((), "")
    row = ok_row(ManifestRow(0, "a", "a.png", phrases=tuple(phrases)), PictureFacts(280, 140, "0" * 64), found)
    assert (row["status"], row["answer"], row["regions"], row["answer_confidence"]) == ("ok", "", [], None)


def test_phrases_are_located_on_one_look_at_the_picture() -> None:
    model = Both()
    found = said(["red seal", "unicorn", "ghost", "stamp"], LOCATE, model)
    assert model.looks == 1 and model.questions == [f"Where is the {name}?" for name in ("red seal", "unicorn", "ghost", "stamp")]
    assert [(region.label, region.text) for region in found.regions] == [("red seal", None), ("stamp", None)]
    for region in found.regions:
        assert region.box_px == pytest.approx(MARK, abs=4) and region.confidence == pytest.approx(np.exp(-0.1))
    assert found.refinement.reason == "0 of 4 phrases read, 2 located"
    assert (found.views, found.visual_tokens) == (1, 144), "one look, however many phrases"
    assert [(one.text, one.chosen) for one in found.candidates] == [("red seal", True), ("unicorn", True), ("stamp", True)]


def test_the_least_sure_are_not_there() -> None:
    assert said(["seal"], LOCATE, Both(), label={"min_confidence": 0.95}).regions == ()
    assert said(["seal"], BOTH, Both(), label={"min_confidence": 0.9}).regions != ()
    assert said(["total"], READ, Both(), label={"min_confidence": 0.99}).regions == ()


def test_zooming_in_places_again_in_the_crop() -> None:
    model = Both()
    found = said(["seal", "stamp"], LOCATE, model, "rel_att")
    assert model.looks == 1 and found.refinement.used and len(found.refinement.crops_px) == 2
    assert found.views == 3, "one look and a crop for each phrase"
    plain = said(["seal"], LOCATE, Both())
    errors = [max(abs(a - b) for a, b in zip(one.regions[0].box_px, MARK, strict=True)) for one in (found, plain)]
    assert errors[0] <= errors[1]


def test_candidates_are_drawn_for_each_phrase() -> None:
    select = SelectSettings(method="medoid", samples=4)
    found = said(["seal", "stamp"], LOCATE, Both(), select=select)
    assert [one.text for one in found.candidates] == ["seal"] * 4 + ["stamp"] * 4
    chosen = [one.box_px for one in found.candidates if one.chosen]
    assert chosen == [region.box_px for region in found.regions] and len(chosen) == 2


def test_a_row_holds_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_pipeline.page_labeller.MOST", 3)
    found = said(["seal", "stamp", "due", "total", "12.50"], BOTH, Both(), select=SelectSettings(method="medoid", samples=4))
    assert (len(found.regions), len(found.candidates), len(found.answer.splitlines())) == (3, 3, 5)


def test_what_is_not_read_is_located() -> None:
    model = Both()
    found = said(["seal", "invoice"], BOTH, model)
    assert [(region.label, region.text) for region in found.regions] == [("seal", None), ("invoice", "Invoice")]
    assert model.questions == ["seal"] and found.views == 2 and found.answer == "seal\ninvoice"
    assert found.refinement.reason == "1 of 2 phrases read, 1 located"
    model = Both()
    assert len(said(["invoice"], BOTH, model).regions) == 1 and model.looks == 0, "nothing left to ask for"


@pytest.mark.parametrize(
    ("print_only", "phrase", "there"),
    [(False, "sael of gold", True), (True, "sael of gold", False), (True, "tatal duo", True), (True, "Invoice 9711", False)],
)
def test_what_can_only_be_print_must_look_like_it(print_only: bool, phrase: str, there: bool) -> None:
    """The model points at the last line; two thirds of the phrase must be read there, and no other number."""
    last = "Invoice 4711" if phrase[-1].isdigit() else "total due"
    shown = drawn(280, 140, [(10, 10, "Coffee"), (120, 102, last)])
    for top, bottom in ((96, 100), (120, 124)):  # what it points at, around the line
        shown.pixels_YX3[top:bottom, 120:200] = 255, 0, 255
    known = Plan(
        ViewSettings(), RefineSettings(method="none"), PromptSettings(), replace(DEFAULTS, print_only=print_only),
        label=LabelSettings(), ways=BOTH,
    )  # fmt: skip
    seen = converse(Both(), {0: label_picture(shown, [phrase], known)})[0]
    assert isinstance(seen, Seen) and bool(seen.perception.regions) is there


def test_slices_of_a_page_are_no_boxes_where_the_model_can_point() -> None:
    model = Both(placed=False)
    found = said(["seal", "invoice", "a unicorn"], BOTH, model)
    assert model.questions == ["seal", "invoice", "a unicorn"]
    assert found.regions[1].box_px == pytest.approx(MARK, abs=4)
    assert len(said(["invoice"], READ, Both(placed=False)).regions) == 1


class Failing(Both):
    """Cannot read one page, and takes no company with it."""

    def read_lines(self, requests: Sequence[ReadLines]) -> list[TextLines]:
        if any(request.picture.width == 77 for request in requests):
            raise RuntimeError("planted failure")
        return [TextLines((TextLine((0, 0, 9, 9), "total", -0.1),), 1, True) for _ in requests]


def test_pictures_side_by_side_fail_alone() -> None:
    plan = Plan(ViewSettings(), RefineSettings(method="none"), PromptSettings(), DEFAULTS, ways=BOTH)
    talks = {k: label_picture(drawn(size, 77, []), ["total"], plan) for k, size in enumerate((90, 77, 100))}
    ended = converse(Failing(), talks)
    assert [isinstance(ended[k], Seen) for k in range(3)] == [True, False, True]
