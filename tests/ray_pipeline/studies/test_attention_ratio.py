"""The attention ratio on maps that are known, and which patches are hidden."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.studies.attention import attention_ratio
from ray_pipeline.studies.occlusion import cell_boxes, hidden, top_and_others
from ray_pipeline.studies.zooming import held
from schemas.picture import Picture


@pytest.mark.parametrize("box", [(0, 0, 10, 10), (13, 7, 41, 29), (0, 0, 60, 40)])
def test_an_even_map_is_chance_wherever_the_box_lies(box: tuple[float, float, float, float]) -> None:
    assert attention_ratio(np.full((4, 6), 3.0), 60, 40, box) == pytest.approx(1)
    assert attention_ratio(np.zeros((4, 6)), 60, 40, box) == 1


def test_a_map_all_in_the_box() -> None:
    spot = np.zeros((4, 6))
    spot[1, 2] = 5.0
    # a box of one cell, 10 x 10 of 60 x 40: in the mean over its places it covers 10/50 of an inner column, 10/30 of an inner row
    assert attention_ratio(spot, 60, 40, (20, 10, 30, 20)) == pytest.approx(1 / (10 / 50 * 10 / 30))
    assert attention_ratio(spot, 60, 40, (25, 10, 35, 20)) == pytest.approx(0.5 / (10 / 50 * 10 / 30))
    assert attention_ratio(spot, 60, 40, (40, 10, 50, 20)) == 0


SHARE, SIDE = st.floats(0, 0.6), st.floats(0.05, 0.39)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), SHARE, SHARE, SIDE, SIDE, st.floats(1e-3, 1e3))
def test_it_is_the_mean_over_all_places(seed: int, x: float, y: float, w: float, h: float, factor: float) -> None:
    cells = np.random.default_rng(seed).random((3, 5))
    box = (100 * x, 80 * y, 100 * (x + w), 80 * (y + h))
    ratio = attention_ratio(cells, 100, 80, box)
    assert attention_ratio(factor * cells, 100, 80, box) == pytest.approx(ratio)
    fine = np.kron(cells, np.ones((80, 100)))  # 240 x 500 places
    prefix = np.pad(fine.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    wide, high = max(1, round(500 * w)), max(1, round(240 * h))
    sums = prefix[high:, wide:] - prefix[:-high, wide:] - prefix[high:, :-wide] + prefix[:-high, :-wide]
    left, top = min(round(500 * x), sums.shape[1] - 1), min(round(240 * y), sums.shape[0] - 1)
    assert ratio == pytest.approx(sums[top, left] / sums.mean(), rel=0.12)


def test_the_strongest_tenth_is_hidden_and_as_many_others() -> None:
    cells = np.arange(60.0).reshape(6, 10)
    top, others = top_and_others(cells, 7)
    assert sorted(top) == [54, 55, 56, 57, 58, 59]
    assert len(set(others)) == 6 and max(others) < 54 and others == top_and_others(cells, 7)[1] != top_and_others(cells, 8)[1]
    picture = Picture(np.random.default_rng(0).integers(0, 255, (66, 100, 3), dtype=np.uint8), "ab")
    boxes = cell_boxes([59, 50], (6, 10), picture)
    assert boxes == ((90, 55, 100, 66), (0, 55, 10, 66))
    shown = hidden(picture, boxes, "top")
    assert shown.sha256 == "ab-top" and (shown.pixels_YX3[55:, 90:] == picture.pixels_YX3.reshape(-1, 3).mean(0).round()).all()
    assert (shown.pixels_YX3[:55] == picture.pixels_YX3[:55]).all() and (
        shown.pixels_YX3[:, 10:90] == picture.pixels_YX3[:, 10:90]
    ).all()


def test_what_crops_hold() -> None:
    assert held(((0, 0, 10, 10), (50, 50, 60, 60)), ((0, 0, 10, 9.6), (40, 40, 55, 70))) == 0.5
