"""What an answer's own box tells FOCUS: windows that take it in, crops moved over it, a closer look at it."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from ray_pipeline.batching import converse
from ray_pipeline.geometry.squares import square_around
from ray_pipeline.methods.closer import closer_view, holding, moved_over
from ray_pipeline.models.contract import FamilyDefaults, Generation
from ray_pipeline.perceiver import Plan, Seen, perceive
from schemas.methods import RefineSettings
from schemas.model import PromptSettings, ViewSettings
from schemas.picture import Box, Picture
from schemas.result import Perception
from tests.stand_ins.planted_model import PlantedModel

PICTURE = Picture(np.zeros((400, 600, 3), np.uint8), "0" * 64)


def answer(box: Box | None) -> Generation:
    return Generation("text", "text", -0.1, box, -0.1, 4, True)


@pytest.mark.parametrize(
    ("box", "factor", "least", "square"),
    [
        ((200, 100, 240, 110), 1.5, 0, (190, 75, 250, 135)),
        ((200, 100, 240, 110), 1.5, 96, (172, 57, 268, 153)),
        ((0, 0, 40, 40), 2, 0, (0, 0, 80, 80)),
        ((580, 380, 600, 400), 2, 0, (560, 360, 600, 400)),
        ((100, 100, 500, 120), 1.2, 0, (60, 0, 540, 400)),  # higher than the picture, which cuts it
        ((0, 0, 600, 400), 1.2, 0, (0, 0, 600, 400)),
    ],
)
def test_a_square_around_a_box(box: Box, factor: float, least: float, square: Box) -> None:
    assert square_around(box, factor, 600, 400, least) == pytest.approx(square)


@pytest.mark.parametrize(
    ("box", "shown", "view"),
    [
        ((200, 100, 300, 120), (150, 0, 450, 300), (175, 35, 325, 185)),
        ((200, 100, 210, 104), (150, 0, 450, 300), (157, 54, 253, 150)),  # no smaller than half of an input of 192 px
        ((250, 100, 450, 140), (150, 0, 450, 300), (200, 0, 500, 300)),  # at the edge of what was shown: on beyond it
        ((190, 60, 400, 260), (150, 0, 450, 300), None),  # what was shown already
        (None, (150, 0, 450, 300), None),
        ((math.nan, 0, 10, 10), (150, 0, 450, 300), None),
    ],
)
def test_the_next_view(box: Box | None, shown: Box, view: Box | None) -> None:
    found = closer_view(answer(box), shown, PICTURE, 192)
    assert found is None if view is None else found == pytest.approx(view)


@pytest.mark.parametrize(
    ("box", "base"), [((100, 50, 340, 80), 360), ((100, 50, 140, 80), 150), (None, None), ((math.inf, 0, 1, 1), None)]
)
def test_windows_take_in_the_first_answers_box(box: Box | None, base: float | None) -> None:
    defaults = FamilyDefaults(96, 0, 150.0, None, 1.0)
    assert holding(answer(box), PICTURE, RefineSettings(), defaults).base_window_px == base


@pytest.mark.parametrize(
    ("box", "crop"),
    [
        ((150, 40, 240, 60), (140, 0, 240, 100)),  # what hangs out on the right is moved over
        ((170, 90, 210, 110), (100, 0, 200, 100)),  # its middle lies on the edge below: taken for something else
        ((170, 88, 210, 108), (110, 8, 210, 108)),
        ((90, -5, 130, 30), (90, 0, 190, 100)),  # a box beyond the picture counts up to its edge
        ((110, 20, 190, 40), (100, 0, 200, 100)),
        ((95, 20, 205, 40), (100, 0, 200, 100)),  # wider than the crop
        ((180, 20, 260, 40), (100, 0, 200, 100)),  # its middle is not in the crop: something else
        (None, (100, 0, 200, 100)),
    ],
)
def test_a_crop_is_moved_over_the_first_answers_box(box: Box | None, crop: Box) -> None:
    assert moved_over((100, 0, 200, 100), answer(box), PICTURE) == pytest.approx(crop)


def planted(width: int, height: int, box: tuple[int, int, int, int]) -> Picture:
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = (255, 0, 255)
    return Picture(pixels, "0" * 64)


def seen(picture: Picture, **refine: object) -> Perception:
    plan = Plan(ViewSettings(), RefineSettings.model_validate(refine), PromptSettings(), PlantedModel.defaults)
    ended = converse(PlantedModel(), {0: perceive(picture, "where?", plan)})[0]
    assert isinstance(ended, Seen), ended
    return ended.perception


def test_a_second_look_shows_the_thing_larger_and_is_counted() -> None:
    thing = (900, 500, 940, 520)
    once, twice, often = (seen(planted(2000, 1500, thing), looks=looks) for looks in (1, 2, 4))
    (first,), (closer,) = once.refinement.crops_px, twice.refinement.crops_px
    assert closer[2] - closer[0] < 0.5 * (first[2] - first[0])
    assert closer[0] < 900 and closer[2] > 940 and closer[1] < 500 and closer[3] > 520
    assert (once.views, twice.views) == (2, 3) and twice.visual_tokens == once.visual_tokens + 144
    assert "look 2" in twice.refinement.reason and len(twice.candidates) == len(once.candidates) + 1
    assert twice.box_px is not None and np.abs(np.subtract(twice.box_px, thing)).max() <= 1
    assert often.views == 3  # a third look would show the same


def test_nothing_is_looked_at_twice_where_the_answer_is_sure_enough() -> None:
    assert seen(planted(2000, 1500, (900, 500, 940, 520)), looks=3, gate=0.85).views == 2


def test_a_wide_thing_is_held() -> None:
    thing = (300, 400, 1100, 440)
    narrow, wide = (seen(planted(1600, 1200, thing), hold_answer=hold).refinement.crops_px for hold in (False, True))
    assert narrow[0][2] - narrow[0][0] < 800
    assert wide[0][0] <= 300 and wide[0][2] >= 1100


@pytest.mark.parametrize(
    "refine",
    [
        {"looks": 2, "method": "none"},
        {"looks": 2, "regions": 2},
        {"looks": 2, "mode": "official"},
        {"looks": 5},
        {"hold_answer": True, "first_answer": False},
        {"hold_answer": True, "mode": "official"},
        {"hold_answer": True, "regions": 2},
    ],
)
def test_what_does_not_go_together_is_refused(refine: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RefineSettings.model_validate(refine)
