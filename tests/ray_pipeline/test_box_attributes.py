"""What is in a box: questions asked on a view of it, regions behind the box, bounds that say so; and the packaged model once."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from ray_pipeline.batching import converse
from ray_pipeline.delivery.rows import PictureFacts, ok_row
from ray_pipeline.models.contract import Encode, Generate, Generation, ReadLines, TextLines, VisualTokens
from ray_pipeline.models.families import load_family
from ray_pipeline.page_labeller import label_picture
from ray_pipeline.perceiver import Plan, Seen, Ways
from ray_pipeline.synthesis.evaluation import cases
from schemas.labelling import LabelSettings
from schemas.manifest import ManifestRow
from schemas.methods import RefineSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Picture
from schemas.result import Perception, Region
from tests.stand_ins.planted_model import INPUT_PX, PlantedModel
from tests.stand_ins.reading_model import ReadingModel, drawn

READ, LOCATE, BOTH = Ways(True, False), Ways(False, True), Ways(True, True)
LINES = [(100, 100, "Invoice 4711"), (100, 200, "total due"), (300, 300, "total")]
SEAL = (480, 200, 520, 230)
SIZE = (600, 400)
DEFAULTS = replace(PlantedModel.defaults, reading_px=ReadingModel.defaults.reading_px)
COLOUR = {"colour": "What colour is the {phrase}?"}


class Describing(PlantedModel):
    """Points at magenta, reads planted lines, and says the colour in the middle of the last view when it is asked for it."""

    def __init__(self) -> None:
        self.looks, self.views, self.asked, self.reader = 0, list[tuple[float, ...]](), list[tuple[str, int]](), ReadingModel()

    def encode(self, requests: Sequence[Encode]) -> list[VisualTokens]:
        self.looks += sum(request.behind is None for request in requests)
        self.views += [box for request in requests if request.behind for box in request.boxes_px]
        return super().encode(requests)

    def generate(self, requests: Sequence[Generate]) -> list[Generation]:
        replies = super().generate(requests)
        return [self._said(request) or reply for request, reply in zip(requests, replies, strict=True)]

    def _said(self, request: Generate) -> Generation | None:
        if not request.question.startswith(("What", "Silence")):
            return None
        self.asked.append((request.question, len(request.tokens.boxes_px)))
        red, green, blue = request.tokens.state.views[-1][INPUT_PX // 2, INPUT_PX // 2].astype(int)
        colour = "magenta" if min(red, blue) > 200 > green else "ink" if blue < 60 else "white"
        sure = -np.inf if request.question.startswith("Silence") else -0.2
        return Generation(colour, colour, sure, None, None, 1, True)

    def read_lines(self, requests: Sequence[ReadLines]) -> list[TextLines]:
        return self.reader.read_lines(requests)


def page() -> Picture:
    shown = drawn(*SIZE, LINES)
    x0, y0, x1, y1 = SEAL
    shown.pixels_YX3[y0:y1, x0:x1] = 255, 0, 255
    return shown


def found(model: PlantedModel, phrases: Sequence[str], ways: Ways, **label: object) -> Perception:
    settings = LabelSettings.model_validate(label)
    plan = Plan(ViewSettings(), RefineSettings(method="none"), PromptSettings(), DEFAULTS, label=settings, ways=ways)
    seen = converse(model, {0: label_picture(page(), phrases, plan)})[0]
    assert isinstance(seen, Seen), seen
    return seen.perception


def told(regions: Sequence[Region]) -> list[tuple[str | None, str | None, str]]:
    return [(region.label, region.text, region.kind) for region in regions]


@pytest.mark.parametrize("ways", [BOTH, READ, LOCATE])
def test_what_is_in_a_box_stands_directly_behind_it(ways: Ways) -> None:
    model = Describing()
    said = found(model, ["seal", "invoice"], ways, attributes=COLOUR | {"again": "What is it?"})
    seal = [("seal", None, "label"), ("again", "magenta", "attribute"), ("colour", "magenta", "attribute")] * ways.locate
    read = [("invoice", "Invoice", "label"), ("again", "ink", "attribute"), ("colour", "ink", "attribute")] * ways.read
    if ways == LOCATE:
        read = [("invoice", None, "label"), *seal[1:]]
    assert told(said.regions) == seal + read
    for k in range(0, len(said.regions), 3):
        box, *attributes = said.regions[k : k + 3]
        assert all(one.box_px == box.box_px and one.confidence == pytest.approx(np.exp(-0.2)) for one in attributes)
    boxes = len(said.regions) // 3
    assert (model.looks, len(model.views)) == (1, boxes), "one picture, and a view for each box, whatever is asked"
    names = [region.label for region in said.regions if region.kind == "label"]
    assert model.asked == [(text, 2) for name in names for text in ("What is it?", f"What colour is the {name}?")]
    assert said.refinement.reason.endswith(f" located; {boxes} of {boxes} boxes asked about")
    plain, more = found(Describing(), ["seal", "invoice"], ways), boxes + (not ways.locate)
    assert (said.views, said.visual_tokens) == (plain.views + more, plain.visual_tokens + 144 * more)
    row = ok_row(ManifestRow(0, "a", "a.png", phrases=("seal",)), PictureFacts(*SIZE, "0" * 64), said)
    assert (row["status"], len(row["regions"])) == ("ok", 3 * boxes)


def test_views_hold_their_boxes_and_are_not_too_small() -> None:
    model = Describing()
    said = found(model, ["4711", "seal", "total due"], BOTH, attributes=COLOUR)
    boxes = [region.box_px for region in said.regions if region.kind == "label"]
    assert len(boxes) == len(model.views) == 3
    for (x0, y0, x1, y1), (left, top, right, bottom) in zip(boxes, model.views, strict=True):
        assert left <= x0 and top <= y0 and right >= x1 and bottom >= y1
        assert right - left == pytest.approx(bottom - top) and right - left >= max(INPUT_PX / 2, 1.1 * (x1 - x0))
        assert min(left, top) >= 0 and right <= SIZE[0] and bottom <= SIZE[1]


def test_nothing_is_asked_of_a_picture_without_boxes_or_of_a_run_without_attributes() -> None:
    for phrases, attributes in ((["unicorn"], COLOUR), (["total"], {})):
        model = Describing()
        said = found(model, phrases, READ, attributes=attributes)
        assert model.looks == 0 and "asked" not in said.refinement.reason
        assert {region.kind for region in said.regions} <= {"label"}


@pytest.mark.parametrize(("cap", "most"), [(1, 10_000), (100, 6)])
def test_the_surest_boxes_are_asked_about_and_the_others_stay(cap: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_pipeline.page_labeller.MOST", most)
    said = found(Describing(), ["totel", "total"], READ, attributes=COLOUR, max_attributed=cap, similarity=0.7)
    boxes = [region for region in said.regions if region.kind == "label"]
    assert len(boxes) >= 3 and len({region.confidence for region in boxes}) > 1
    asked = [before for before, region in zip(said.regions, said.regions[1:], strict=False) if region.kind == "attribute"]
    surest = sorted(boxes, key=lambda region: -(region.confidence or 0))[: len(asked)]
    assert asked and sorted(map(id, asked)) == sorted(map(id, surest))
    assert said.refinement.reason.endswith(f"; {len(asked)} of {len(boxes)} boxes asked about, the surest")
    assert len(asked) <= cap and len(said.regions) <= most


def test_a_question_without_an_answer_is_an_attribute_without_a_text() -> None:
    said = found(Describing(), ["seal"], LOCATE, attributes=COLOUR | {"nothing": "Silence"})
    assert told(said.regions)[1:] == [("colour", "magenta", "attribute"), ("nothing", None, "attribute")]
    assert said.regions[2].confidence is None
    assert said.refinement.reason.endswith("; 1 of 1 boxes asked about, 1 of 2 attributes without an answer")


class Failing(Describing):
    """Breaks on one view of one picture."""

    def encode(self, requests: Sequence[Encode]) -> list[VisualTokens]:
        if any(request.behind is not None and request.picture.sha256 == "bad" for request in requests):
            raise RuntimeError("planted failure")
        return super().encode(requests)


def test_pictures_side_by_side_fail_alone_and_do_not_matter_to_each_other() -> None:
    settings = LabelSettings(attributes=COLOUR)
    plan = Plan(ViewSettings(), RefineSettings(method="none"), PromptSettings(), DEFAULTS, label=settings, ways=BOTH)
    names = ["good", "bad", "fine"]
    ended = converse(Failing(), {name: label_picture(replace(page(), sha256=name), ["seal", "due"], plan) for name in names})
    assert [isinstance(ended[name], Seen) for name in names] == [True, False, True]
    assert ended["good"].perception.regions == found(Describing(), ["seal", "due"], BOTH, attributes=COLOUR).regions


def test_the_embedded_model_reads_what_stands_in_the_boxes_it_has_found() -> None:
    """Texts of 2 to 4 pixels on its view of the whole picture, on which it reads none of them."""
    family = load_family(ModelSettings(device="cpu"), ViewSettings(), PromptSettings(template="plain"))
    settings = LabelSettings(find="locate", attributes={"reading": "Read the text on the {phrase}."})
    ways = Ways(False, True, family.defaults.locate)
    plan = Plan(ViewSettings(), RefineSettings(method="none"), PromptSettings(), family.defaults, label=settings, ways=ways)
    talks, told_of_things = {}, {}
    for case in cases("validation", "small", 4, (0.3, 0.5)):
        scene, line = case.rendering.scene, case.rendering.lines[case.question.line]
        name = scene.things[case.question.thing].name
        picture = Picture(np.array(case.rendering.image.convert("RGB")), str(case.seed))
        talks[case.seed] = label_picture(picture, [name], plan)
        told_of_things[case.seed] = [(name, None, "label"), ("reading", line.text, "attribute")]
    ended = converse(family, talks)
    assert sum(told(ended[seed].perception.regions) == said for seed, said in told_of_things.items()) >= 3
