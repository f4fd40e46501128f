"""Several crops from one map: planted things found apart, in order, and one region as a single crop would have it."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.methods.crop_box import CropChoice, select_crop
from ray_pipeline.methods.focus import Question
from ray_pipeline.methods.regions import components, in_reading_order, select_regions
from ray_pipeline.methods.slots import FOCUS
from ray_pipeline.models.contract import Attention, GradientAttention
from schemas.picture import Box
from tests.stand_ins.focus_talk import DEFAULTS, GENERIC, drive, grid_tokens, holds, picture, refine, seen

Thing = tuple[int, int, int, int, float]  # cells x0, y0, x1, y1 and height above a background of 1


def planted(rows: int, columns: int, *things: Thing, noise: float = 0.0) -> torch.Tensor:
    cells = 1 + noise * torch.rand(rows, columns, generator=torch.Generator().manual_seed(1))
    for x0, y0, x1, y1, height in things:
        cells[y0:y1, x0:x1] += height
    return cells


def disjoint(boxes: list[Box]) -> bool:
    return all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for a, b in itertools.combinations(boxes, 2))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6), st.integers(10, 300))
def test_one_region_is_the_single_crop(rows: int, columns: int, seed: int, base: int) -> None:
    cells = torch.from_numpy(np.random.default_rng(seed).integers(0, 9, (rows, columns)).astype(float))
    ordinary = select_crop(cells, 500, 400, base)
    assert select_regions(cells, 500, 400, base, 1) == (() if ordinary.whole else (ordinary,))


def test_where_one_thing_stands_out_more_regions_change_nothing() -> None:
    cells = planted(24, 30, (20, 5, 23, 7, 8.0), noise=0.5)
    assert select_regions(cells, 1500, 900, 150, 4) == (select_crop(cells, 1500, 900, 150),)


@pytest.mark.parametrize("height", [9.0, 4.4])  # as strong as the other thing; less than half as strong
@pytest.mark.parametrize(("width", "tall"), [(1500, 900), (700, 2100)])
def test_two_planted_things_are_both_found(height: float, width: int, tall: int) -> None:
    cells = planted(24, 30, (3, 18, 5, 20, 9.5), (24, 2, 26, 3, height), noise=0.8)
    found = [choice.box_px for choice in select_regions(cells, width, tall, 150, 2)]
    w, h = width / 30, tall / 24
    assert len(found) == 2 and disjoint(found)
    assert holds(found[0], (24 * w, 2 * h, 26 * w, 3 * h)) and holds(found[1], (3 * w, 18 * h, 5 * w, 20 * h))


def test_the_strongest_by_mass_come_first() -> None:
    things = [(2, 2, 4, 4, 6.0), (12, 2, 13, 3, 9.0), (22, 2, 24, 4, 7.0), (12, 18, 14, 21, 8.0)]
    cells = planted(24, 30, *things)
    boxes = [choice.box_px for choice in select_regions(cells, 1500, 1200, 150, 3)]
    for box, (x0, y0, x1, y1, _) in zip(boxes, (things[0], things[2], things[3]), strict=True):
        assert holds(box, (50 * x0, 50 * y0, 50 * x1, 50 * y1))
    assert len(select_regions(cells, 1500, 1200, 150, 8)) == 4


def test_a_faint_rest_is_no_thing() -> None:
    cells = planted(24, 30, (3, 18, 5, 20, 9.0), (24, 2, 26, 3, 2.0))
    assert select_regions(cells, 1500, 900, 150, 2) == (select_crop(cells, 1500, 900, 150),)


def test_a_shoulder_belongs_to_its_peak() -> None:
    cells = planted(24, 30, (3, 18, 5, 20, 9.0), (2, 17, 8, 21, 3.0), (24, 2, 26, 3, 8.0))
    found = [choice.box_px for choice in select_regions(cells, 1500, 1200, 100, 4)]
    assert len(found) == 2 and disjoint(found)


def test_neighbours_share_a_window() -> None:
    cells = planted(24, 30, (10, 10, 11, 11, 9.0), (12, 10, 13, 11, 7.0), (25, 20, 26, 21, 6.0))
    found = [choice.box_px for choice in select_regions(cells, 1500, 1200, 150, 3)]
    assert len(found) == 2 and disjoint(found)
    assert holds(found[0], (500, 500, 650, 550)) and holds(found[1], (1250, 1000, 1300, 1050))


def test_neighbours_too_far_apart_for_one_window_leave_the_stronger() -> None:
    """150 px each, 200 px from middle to middle in windows of 150 px: together 350 px, more than the largest window."""
    cells = planted(24, 30, (10, 10, 13, 13, 9.0), (14, 12, 17, 15, 7.0))
    found = [choice.box_px for choice in select_regions(cells, 1500, 1200, 150, 2)]
    assert disjoint(found) and holds(found[0], (500, 500, 650, 650))


def test_the_window_grows_to_a_larger_thing() -> None:
    cells = planted(24, 30, (2, 2, 10, 6, 9.0), (25, 20, 26, 21, 9.0))
    found = [choice.box_px for choice in select_regions(cells, 1500, 1200, 150, 2)]
    assert holds(found[0], (100, 100, 500, 300)) and disjoint(found)
    assert found[0][2] - found[0][0] >= 400 and found[1][2] - found[1][0] == 150


@pytest.mark.parametrize("value", [0.0, 2.0, float("nan"), float("inf")])
def test_a_map_that_says_nothing_has_no_regions(value: float) -> None:
    assert select_regions(torch.full((6, 9), value), 900, 600, 100, 3) == ()


def test_a_hole_is_no_end_of_a_thing() -> None:
    cells = planted(24, 30, (10, 10, 15, 11, 9.0), (25, 20, 26, 21, 6.0))
    cells[10, 12] = torch.nan
    assert len(select_regions(cells, 1500, 1200, 300, 3)) == 2


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 14), st.integers(2, 14), st.integers(0, 10**6), st.integers(20, 300), st.integers(2, 8))
def test_regions_are_disjoint_and_in_the_picture(rows: int, columns: int, seed: int, base: int, most: int) -> None:
    cells = torch.from_numpy(np.random.default_rng(seed).random((rows, columns)) ** 4)
    found = [choice.box_px for choice in select_regions(cells, 700, 500, base, most)]
    assert len(found) <= most and disjoint(found)
    assert all(0 <= x0 < x1 <= 700 and 0 <= y0 < y1 <= 500 for x0, y0, x1, y1 in found)


def test_none_is_refused() -> None:
    with pytest.raises(ValueError, match="0 regions, expected at least 1"):
        select_regions(torch.ones(3, 3), 10, 10, 2, 0)


def slow_components(mask: np.ndarray) -> set[frozenset[int]]:
    """Every cell its own set; touching sets joined until none touch."""
    columns = mask.shape[1]
    sets = [{int(place)} for place in np.flatnonzero(mask)]

    def touch(a: set[int], b: set[int]) -> bool:
        return any(max(abs(p // columns - q // columns), abs(p % columns - q % columns)) <= 1 for p in a for q in b)

    while pair := next(((a, b) for a, b in itertools.combinations(sets, 2) if touch(a, b)), None):
        sets.remove(pair[1])
        pair[0].update(pair[1])
    return {frozenset(one) for one in sets}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_components_are_the_slow_reference(rows: int, columns: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.35
    found = components(mask)
    assert {frozenset(one.tolist()) for one in found} == slow_components(mask)
    assert [int(one[0]) for one in found] == sorted(int(one[0]) for one in found)


def test_reading_order() -> None:
    boxes = [(500, 10, 600, 110), (10, 40, 110, 140), (300, 300, 400, 400), (50, 320, 150, 420), (700, 150, 800, 250)]
    choices = [CropChoice(box, 1.0, 1.0, (1, 1), False) for box in boxes]
    for shuffled in itertools.permutations(choices):
        ordered = [boxes.index(choice.box_px) for choice in in_reading_order(shuffled)]  # type: ignore[arg-type]
        assert ordered == [1, 0, 4, 3, 2]


@pytest.mark.parametrize("method", ["rel_att", "grad_att"])
def test_two_planted_things_through_the_flow(method: str) -> None:
    shown, things = picture(1500, 900), [(1203.0, 103.0, 1260.0, 140.0), (203.0, 703.0, 260.0, 740.0)]
    tokens = grid_tokens(shown, 24, 24)
    weights = seen(tokens.footprints, things[0]) + seen(tokens.footprints, things[1])
    replies = {
        "rel_att": Attention(torch.stack([weights, torch.ones_like(weights)])[:, None]),
        "grad_att": GradientAttention(weights[None], 3, 0.0),
    }
    talk = FOCUS[method](tokens, Question("q", None), GENERIC, refine(regions=2, base_window_px=150), DEFAULTS)
    focus, _ = drive(talk, lambda _: replies[method])
    assert len(focus.boxes_px) == 2 and disjoint(list(focus.boxes_px))
    assert all(holds(box, thing) for box, thing in zip(focus.boxes_px, things, strict=True))
    assert focus.reason.count("window") == 2
