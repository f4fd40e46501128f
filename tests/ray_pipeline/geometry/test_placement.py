"""Original picture to view and back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.geometry.placement import Placement
from schemas.picture import Box

place = st.floats(-3000, 3000)
scale = st.floats(0.01, 50)


def tensor(*rows: Box) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_squash_of_a_crop() -> None:
    placement = Placement.squashed((384, 192, 800, 600), 384)
    assert placement.to_view(tensor((384, 192, 800, 600))).tolist() == [[0, 0, 384, 384]]
    # patch 625 = row 23, column 4 of 14 px: mc_llava 9.2
    patch = placement.to_picture(tensor((56, 322, 70, 336)))[0].tolist()
    assert patch == pytest.approx([444.6667, 534.125, 459.8333, 549], abs=1e-4)


@pytest.mark.parametrize(
    ("size", "view_box", "picture_box"),
    [
        ((640, 480), (0, 0, 14, 14), (0, -80, 26.667, -53.333)),  # mc_llava 9.3
        ((640, 480), (134.4, 184.8, 168, 218.4), (256, 272, 320, 336)),  # 0.40, 0.55, 0.50, 0.65: mc_llava 10
        ((301, 600), (0, 0, 336, 336), (-149, 0, 451, 600)),  # odd padding: floor on the left
    ],
)
def test_padded_square(size: tuple[int, int], view_box: Box, picture_box: Box) -> None:
    placement = Placement.padded(*size, 336)
    assert placement.to_picture(tensor(view_box))[0].tolist() == pytest.approx(picture_box, abs=1e-3)
    assert placement.to_view(tensor(picture_box))[0].tolist() == pytest.approx(view_box, abs=1e-3)


@given(scale, scale, place, place, st.tuples(place, place, place, place))
def test_there_and_back(scale_x: float, scale_y: float, x: float, y: float, box: Box) -> None:
    placement = Placement(scale_x, scale_y, x, y)
    assert placement.to_picture(placement.to_view(tensor(box)))[0].tolist() == pytest.approx(list(box), abs=1e-8)
    assert placement.to_view(placement.to_picture(tensor(box)))[0].tolist() == pytest.approx(list(box), abs=1e-8)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_padding_shows_the_whole_picture(width: int, height: int) -> None:
    x0, y0, x1, y1 = Placement.padded(width, height, 336).to_view(tensor((0, 0, width, height)))[0].tolist()
    assert min(x0, y0) >= 0 and max(x1, y1) <= 336 + 1e-9
    assert max(x1 - x0, y1 - y0) == pytest.approx(336)
    assert (x1 - x0) * height == pytest.approx((y1 - y0) * width)


@pytest.mark.parametrize("numbers", [(0, 1, 0, 0), (1, -2, 0, 0), (1, float("inf"), 0, 0), (1, 1, float("nan"), 0)])
def test_impossible_placements_are_refused(numbers: Box) -> None:
    with pytest.raises(ValueError, match="expected scales above 0"):
        Placement(*numbers)


def test_nothing_to_place_is_refused() -> None:
    with pytest.raises(ValueError, match="0 wide and 9 high"):
        Placement.squashed((5, 0, 5, 9), 384)
    with pytest.raises(ValueError, match="0 x 7"):
        Placement.padded(0, 7, 336)
