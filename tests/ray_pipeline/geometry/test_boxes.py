"""Boxes: order, clip, area, IoU, containment, unit frames."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.geometry import boxes
from schemas.picture import Box

side = st.floats(-500, 1500)
corners = st.tuples(side, side, side, side)


def tensor(*rows: Box) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("given_box", "ordered"),
    [((3, 5, 1, 2), (1, 2, 3, 5)), ((1, 5, 3, 2), (1, 2, 3, 5)), ((1, 2, 3, 5), (1, 2, 3, 5)), ((-4, 0, -9, 7), (-9, 0, -4, 7))],
)
def test_order(given_box: Box, ordered: Box) -> None:
    assert boxes.order(tensor(given_box)).tolist() == [list(ordered)]


@pytest.mark.parametrize(
    ("given_box", "clipped", "area"),
    [
        ((-5, 10, 20, 90), (0, 10, 20, 60), 1000),
        ((30, -7, 120, 11), (30, 0, 100, 11), 770),
        ((110, 5, 120, 9), (100, 5, 100, 9), 0),
        ((-9, -9, -2, -3), (0, 0, 0, 0), 0),
    ],
)
def test_clip_to_100_x_60(given_box: Box, clipped: Box, area: float) -> None:
    result = boxes.clip(tensor(given_box), 100, 60)
    assert result.tolist() == [list(clipped)]
    assert boxes.area(result).tolist() == [area]


def test_area_of_a_box_turned_round_is_zero() -> None:
    assert boxes.area(tensor((5, 0, 2, 4), (5, 6, 2, 4))).tolist() == [0, 0]


def test_iou_and_containment_of_every_pair() -> None:
    first = tensor((0, 0, 10, 4), (2, 1, 4, 3), (7, 7, 7, 9))
    second = tensor((5, 0, 15, 4), (0, 0, 10, 4))
    assert boxes.iou(first, second).tolist() == [[20 / 60, 1], [0, 4 / 40], [0, 0]]
    assert boxes.contained_share(first, second).tolist() == [[0.5, 1], [0, 1], [0, 0]]
    assert boxes.contained_share(second, first).tolist() == [[0.5, 0, 0], [1, 0.1, 0]]


def test_iou_of_two_points_is_zero_not_nan() -> None:
    assert boxes.iou(tensor((3, 3, 3, 3)), tensor((3, 3, 3, 3))).tolist() == [[0]]


@given(corners, corners)
def test_iou_is_symmetric_and_bounded(first: Box, second: Box) -> None:
    one, two = boxes.order(tensor(first)), boxes.order(tensor(second))
    overlap = boxes.iou(one, two)
    assert 0 <= overlap.item() <= 1 + 1e-12
    assert overlap.item() == pytest.approx(boxes.iou(two, one).item())
    assert overlap.item() <= boxes.contained_share(one, two).item() + 1e-12


def test_unit_frame() -> None:
    frame = (100.0, 50.0, 300.0, 150.0)
    shares = boxes.to_unit(tensor((100, 50, 300, 150), (150, 75, 200, 175)), frame)
    assert shares.tolist() == [[0, 0, 1, 1], [0.25, 0.25, 0.5, 1.25]]
    # 0..1000 of 640 x 480 (mc_llava 10)
    read = boxes.from_unit(tensor((0.5, 0.5, 0.55, 0.56)), (0, 0, 640, 480))
    assert read[0].tolist() == pytest.approx([320, 240, 352, 268.8])


@given(corners, st.tuples(side, side, st.floats(0.1, 900), st.floats(0.1, 900)))
def test_unit_frame_there_and_back(box: Box, frame: Box) -> None:
    x, y, w, h = frame
    back = boxes.from_unit(boxes.to_unit(tensor(box), (x, y, x + w, y + h)), (x, y, x + w, y + h))
    assert back[0].tolist() == pytest.approx(list(box), abs=1e-8)


def test_frame_without_area_is_refused() -> None:
    with pytest.raises(ValueError, match="frame 0 wide and 5 high"):
        boxes.to_unit(tensor((0, 0, 1, 1)), (3, 0, 3, 5))
