"""FOCUS as a row lives it: every method, in every variant, on pictures with planted things, many rows side by side."""

import math

import numpy as np
import pytest
import torch

from ray_pipeline.batching import converse
from ray_pipeline.methods.focus import Focus, nothing_to_zoom, window_px
from ray_pipeline.methods.importance import repaired
from ray_pipeline.methods.slots import FOCUS as EVERY
from ray_pipeline.methods.vicrop import choose_crops
from ray_pipeline.models.contract import FamilyDefaults
from ray_pipeline.perceiver import Plan, Seen, perceive
from schemas.model import PromptSettings, ViewSettings
from schemas.picture import Box, Picture
from schemas.status import RowFailure, Status
from tests.stand_ins.focus_talk import DEFAULTS, holds, refine
from tests.stand_ins.planted_model import PlantedModel

FOCUS = [name for name in EVERY if name != "fixed"]  # what looks for something

PLACES: list[tuple[int, int, tuple[int, int, int, int]]] = [
    (640, 480, (503, 43, 561, 72)),
    (300, 1100, (23, 905, 71, 990)),
    (1700, 700, (805, 333, 871, 352)),
    (512, 512, (0, 0, 40, 40)),
]
VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "blocks": {"block_px": 256},
    "official": {"mode": "official"},
    "regions": {"regions": 3},
    "blocks and regions": {"block_px": 256, "regions": 2},
}


def planted(width: int, height: int, *boxes: tuple[int, int, int, int]) -> Picture:
    pixels = np.full((height, width, 3), 90, np.uint8)
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = (255, 0, 255)
    return Picture(pixels, "0" * 64)


def plan(max_crops: int = 0, **changes: object) -> Plan:
    return Plan(ViewSettings(max_crops=max_crops), refine(**changes), PromptSettings(), PlantedModel.defaults)


def crops_of(seen: Seen | RowFailure) -> tuple[Box, ...]:
    assert isinstance(seen, Seen), seen
    return seen.perception.refinement.crops_px


def part_in(inner: tuple[int, int, int, int], outer: Box) -> float:
    width, height = min(inner[2], outer[2]) - max(inner[0], outer[0]), min(inner[3], outer[3]) - max(inner[1], outer[1])
    return max(width, 0) * max(height, 0) / ((inner[2] - inner[0]) * (inner[3] - inner[1]))


@pytest.mark.parametrize(
    ("method", "variant"),
    [(method, variant) for method in FOCUS for variant in VARIANTS if (method, variant) != ("auto", "official")],
)
def test_every_method_finds_the_planted_thing(method: str, variant: str) -> None:
    how = plan(method=method, **VARIANTS[variant])
    ended = converse(PlantedModel(), {k: perceive(planted(w, h, thing), "where?", how) for k, (w, h, thing) in enumerate(PLACES)})
    for k, (width, height, thing) in enumerate(PLACES):
        boxes = crops_of(ended[k])
        assert len(boxes) == 1 and boxes[0] != (0, 0, width, height)
        assert part_in(thing, boxes[0]) > 0.95, (boxes, thing)
        alone = converse(PlantedModel(), {0: perceive(planted(width, height, thing), "where?", how)})[0]
        assert isinstance(alone, Seen) and isinstance(ended[k], Seen) and alone.perception == ended[k].perception


@pytest.mark.parametrize("method", FOCUS)
@pytest.mark.parametrize("variant", ["regions", "blocks and regions"])
def test_two_things_are_both_shown_in_reading_order(method: str, variant: str) -> None:
    things = [(903, 103, 961, 140), (203, 503, 240, 561)]
    how = plan(method=method, **VARIANTS[variant])
    seen = converse(PlantedModel(), {0: perceive(planted(1200, 700, *things), "where?", how)})[0]
    boxes = crops_of(seen)
    assert len(boxes) == 2 and all(holds(box, thing) for box, thing in zip(boxes, things, strict=True))
    assert isinstance(seen, Seen) and seen.perception.views == 3 and seen.perception.refinement.reason.count("window 1") == 2


@pytest.mark.parametrize("method", FOCUS)
def test_a_grid_of_crops_gives_the_same_place(method: str) -> None:
    thing = (700, 500, 760, 530)
    seen = converse(PlantedModel(), {0: perceive(planted(1200, 800, thing), "where?", plan(9, method=method))})[0]
    assert holds(crops_of(seen)[0], thing)


def test_methods_side_by_side_do_not_disturb_each_other() -> None:
    things = {method: (100 + 50 * k, 200, 140 + 50 * k, 230) for k, method in enumerate(FOCUS)}
    talks = {method: perceive(planted(900, 600, thing), "where?", plan(method=method)) for method, thing in things.items()}
    talks["narrow"] = perceive(planted(60, 400, (10, 10, 20, 20)), "where?", plan(block_px=300, mode="official"))
    ended = converse(PlantedModel(), talks)
    assert all(holds(crops_of(ended[method])[0], thing) for method, thing in things.items())
    failure = ended["narrow"]
    assert isinstance(failure, RowFailure) and failure.status is Status.MODEL_CRASH and "0.30 columns" in failure.message


def test_reasons_and_none() -> None:
    flat = choose_crops(torch.ones(6, 6), 600, 600, refine(), DEFAULTS, ["a remark"])
    assert flat.boxes_px == () and flat.reason == "no region stands out of the importance map; a remark"
    official = choose_crops(torch.ones(6, 6), 600, 600, refine(mode="official", base_window_px=200), DEFAULTS)
    assert isinstance(official, Focus) and official.boxes_px == ((0, 0, 200, 200),)  # section 6: a uniform map


@pytest.mark.parametrize(
    ("setting", "defaults", "expected"),
    [
        (77, FamilyDefaults(96, 0, 336, 0.2, 1.0), 77),
        (None, FamilyDefaults(96, 0, 336, 0.2, 1.0), 336),
        (None, FamilyDefaults(96, 0, None, 0.5, 1.0), 300),
        (None, FamilyDefaults(96, 0, None, None, 1.0), 150),
        (None, FamilyDefaults(960, 0, None, 0.5, 1.0), 480),  # half of the input
    ],
)
def test_the_smallest_window(setting: float | None, defaults: FamilyDefaults, expected: float) -> None:
    assert window_px(900, 400, refine(base_window_px=setting), defaults) == expected


def test_a_small_picture_is_not_worth_a_map() -> None:
    assert nothing_to_zoom(120, 121, 120) is None
    assert nothing_to_zoom(119, 120, 120.4) == "the picture, 119 x 120 px, is no larger than the smallest window, 120 px"


def test_repair_takes_neighbours_and_else_the_median() -> None:
    cells = np.array([[1.0, math.nan, 3.0, math.nan, math.nan, math.inf], [1.0, 1.0, 3.0, math.nan, math.nan, -math.inf]])
    mended = repaired(cells)
    assert mended[0, 1] == 9 / 5 and mended[1, 3] == 3 and (mended[:, 4:] == 1).all() and mended[0, 0] == 1
    assert (repaired(np.full((2, 3), math.nan)) == 0).all()
