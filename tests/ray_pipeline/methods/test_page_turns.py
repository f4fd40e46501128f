"""Quarter turns: a planted patch is found again where it lay, and a turn stands only where it is clearly ahead."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.methods.page_turns import LEAST_CHARACTERS, TURNS, as_it_lies, best_turn, centre, sureness, turned
from ray_pipeline.models.contract import TextLine
from schemas.picture import Box, Picture


def inked(pixels_YX3: np.ndarray) -> Box:
    rows, columns = (np.flatnonzero(pixels_YX3[..., 0].any(axis)) for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


@given(st.sampled_from(TURNS), st.data())
def test_a_patch_is_found_again_where_it_lay(turn: int, data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y0:y1, x0:x1] = 255
    page = turned(Picture(pixels, "a" * 64), turn)
    assert (page.width, page.height) == ((height, width) if turn % 2 else (width, height)) and page.sha256 == "a" * 64
    assert as_it_lies(inked(page.pixels_YX3), turn, width, height) == (x0, y0, x1, y1)


@pytest.mark.parametrize(("turn", "box_px"), [(0, (1, 2, 4, 8)), (1, (92, 1, 98, 4)), (2, (96, 42, 99, 48)), (3, (2, 46, 8, 49))])
def test_boxes_worked_out_by_hand(turn: int, box_px: Box) -> None:
    assert as_it_lies((1, 2, 4, 8), turn, 100, 50) == box_px


def test_there_are_four_turns() -> None:
    with pytest.raises(ValueError, match="turn 4"):
        as_it_lies((0, 0, 1, 1), 4, 10, 10)
    with pytest.raises(ValueError, match="3 turns; expected 4"):
        best_turn([0.1, 0.2, 0.3])


def test_a_region_is_turned_alone() -> None:
    pixels = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
    region = turned(Picture(pixels, "a" * 64), 1, (1.0, 2.0, 4.0, 4.0)).pixels_YX3
    assert region.shape == (3, 2, 3) and region.flags["C_CONTIGUOUS"]
    assert region[0, 0].tolist() == pixels[2, 3].tolist(), "counterclockwise: the upper right corner comes to the upper left"


@pytest.mark.parametrize(
    ("size", "side_px", "box_px"),
    [
        ((100, 50), 1024, (0, 0, 100, 50)), ((100, 50), 20, (40, 15, 60, 35)), ((100, 10), 20, (40, 0, 60, 10)),
        ((1, 1), 0.5, (0, 0, 1, 1)), ((11, 11), 4, (3, 3, 7, 7)),
    ],
)  # fmt: skip
def test_the_middle_of_a_page(size: tuple[int, int], side_px: float, box_px: Box) -> None:
    assert centre(*size, side_px) == box_px


def test_sureness_is_a_mean_over_characters() -> None:
    lines = [TextLine((0, 0, 9, 9), "a" * 10, -0.1), TextLine((0, 0, 9, 9), "b" * 30, -0.5)]
    assert sureness(lines) == pytest.approx(math.exp(-0.4))
    assert sureness([TextLine((0, 0, 9, 9), "a" * (LEAST_CHARACTERS - 1), -0.01)]) == sureness([]) == 0


@pytest.mark.parametrize(
    ("scores", "turn"),
    [
        ([0.6, 0.95, 0.6, 0.7], 1), ([0.72, 0.6, 0.95, 0.5], 2), ([0, 0, 0, 0.4], 3),
        ([0.8, 0.85, 0.6, 0.6], 0), ([0.9, 0.1, 0.1, 0.1], 0), ([0, 0, 0, 0], 0),
    ],
)  # fmt: skip
def test_a_turn_stands_where_it_is_clearly_ahead(scores: list[float], turn: int) -> None:
    assert best_turn(scores) == turn
