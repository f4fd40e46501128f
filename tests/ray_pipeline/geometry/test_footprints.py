"""Visual token to rectangle: the published examples, the union, what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.geometry.boxes import area
from ray_pipeline.geometry.footprints import Footprints, grid_footprints, join, view_footprints
from schemas.picture import Box

SIGLIP = 27 * 14 / 384
PICTURE, CROP_6 = (0.0, 0.0, 800.0, 600.0), (384.0, 192.0, 800.0, 600.0)


@pytest.mark.parametrize(
    ("box", "first", "token", "expected"),
    [
        (PICTURE, 1, 0, (29.167, 0, 58.333, 21.875)),
        (PICTURE, 1, -1, (758.333, 568.75, 787.5, 590.625)),
        (CROP_6, 625, 0, (444.667, 534.125, 459.833, 549.0)),
        (CROP_6, 625, -1, (778.333, 578.75, 793.5, 593.625)),
    ],
)
def test_siglip_patches(box: Box, first: int, token: int, expected: Box) -> None:
    prints = view_footprints(box, 27, 27, SIGLIP, first, 6, "patch")
    assert len(prints) == 729 - first
    assert prints.boxes_T4_px[token].tolist() == pytest.approx(expected, abs=1e-3)
    assert prints.view_T.unique().tolist() == [6] and prints.valid_T.all()


@pytest.mark.parametrize(
    ("columns", "rows", "token", "expected"),
    [
        (23, 17, 1, (27.826, 0, 55.652, 28.235)),  # Qwen2.5-VL, 640 x 480: mc_llava 9.5
        (23, 17, 23, (0, 28.235, 27.826, 56.471)),
        (23, 17, 390, (612.174, 451.765, 640, 480)),
        (16, 16, 255, (600, 450, 640, 480)),  # Q-Former patches: mc_llava 9.7
    ],
)
def test_plain_grids_of_640_x_480(columns: int, rows: int, token: int, expected: Box) -> None:
    prints = grid_footprints((0, 0, 640, 480), rows, columns, 0)
    assert prints.boxes_T4_px[token].tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("kept", "whole_crop"), [(728, False), (364, False), (363, True), (104, True), (7, True)])
def test_auto_gives_the_crop_where_few_patches_are_kept(kept: int, whole_crop: bool) -> None:
    prints = view_footprints(CROP_6, 27, 27, SIGLIP, 729 - kept, 6)
    assert len(prints) == kept
    assert (prints.boxes_T4_px == torch.tensor(CROP_6)).all().item() == whole_crop


def test_modes_override_auto() -> None:
    crop = view_footprints(CROP_6, 27, 27, SIGLIP, 1, 2, "crop")
    assert (crop.boxes_T4_px == torch.tensor(CROP_6)).all() and len(crop) == 728
    patch = view_footprints(CROP_6, 27, 27, SIGLIP, 728, 2, "patch")
    assert patch.boxes_T4_px[0].tolist() == pytest.approx((778.333, 578.75, 793.5, 593.625), abs=1e-3)


def test_keep_is_a_first_patch_or_a_slice() -> None:
    every = grid_footprints((0, 0, 60, 20), 2, 3, 1)
    assert torch.equal(grid_footprints((0, 0, 60, 20), 2, 3, 1, 4).boxes_T4_px, every.boxes_T4_px[4:])
    assert torch.equal(grid_footprints((0, 0, 60, 20), 2, 3, 1, slice(1, 5, 2)).boxes_T4_px, every.boxes_T4_px[[1, 3]])


@given(st.integers(1, 9), st.integers(1, 9), st.floats(1, 999), st.floats(1, 999), st.floats(0.5, 1))
def test_a_grid_tiles_its_share_of_the_box(rows: int, columns: int, width: float, height: float, share: float) -> None:
    boxes = grid_footprints((7, 3, 7 + width, 3 + height), rows, columns, 1, 0, share).boxes_T4_px
    assert boxes[:, :2].amin(0).tolist() == [7, 3]
    assert boxes[:, 2:].amax(0).tolist() == pytest.approx([7 + share * width, 3 + share * height])
    assert area(boxes).sum().item() == pytest.approx(share**2 * width * height)
    assert boxes[columns - 1, 0].item() >= boxes[0, 0].item()
    if columns > 1:
        assert boxes[0, 2] == boxes[1, 0] and boxes[0, 1] == boxes[1, 1]  # columns run fastest
    if rows > 1:
        assert boxes[0, 3] == boxes[columns, 1] and boxes[0, 0] == boxes[columns, 0]


def test_join_keeps_order_and_views() -> None:
    parts = [view_footprints(PICTURE, 2, 3, 1, 0, 0), view_footprints(CROP_6, 2, 2, 1, 1, 1)]
    both = join(parts)
    assert both.view_T.tolist() == [0] * 6 + [1] * 3
    assert torch.equal(both.boxes_T4_px[6:], parts[1].boxes_T4_px)
    assert len(join([])) == 0


def make(count: int, views: int, valid: int, **values: torch.Tensor) -> Footprints:
    boxes = torch.tensor([[0.0, 0, 1, 1]]).repeat(count, 1)
    arguments = dict(boxes_T4_px=boxes, view_T=torch.zeros(views, dtype=torch.int64), valid_T=torch.ones(valid).bool())
    return Footprints(**{**arguments, **values})


@pytest.mark.parametrize(
    ("footprints", "message"),
    [
        (dict(count=3, views=4, valid=4), r"3 boxes but \(4,\) views and \(4,\) validities"),
        (dict(count=3, views=3, valid=2), r"3 boxes but \(3,\) views and \(2,\) validities"),
        (dict(count=2, views=2, valid=2, boxes_T4_px=torch.zeros(2, 5)), r"shape \(2, 5\), expected"),
        (dict(count=2, views=2, valid=2, boxes_T4_px=torch.zeros(2, 4).half()), "float16, expected float32"),
        (dict(count=2, views=2, valid=2, view_T=torch.zeros(2)), "float32 and validities torch.bool, expected int64"),
        (dict(count=2, views=2, valid=2, view_T=torch.tensor([0, -2])), "view -2, expected -1"),
        (dict(count=1, views=1, valid=1, boxes_T4_px=torch.tensor([[5.0, 0, 3, 1]])), r"1 of 1 boxes turned round"),
        (dict(count=1, views=1, valid=1, boxes_T4_px=torch.full((1, 4), float("nan"))), "not finite"),
    ],
)
def test_disagreeing_footprints_are_refused(footprints: dict[str, torch.Tensor | int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**footprints)  # type: ignore[arg-type]


def test_a_token_without_a_place_may_have_any_box() -> None:
    boxes = torch.full((1, 4), float("nan"))
    assert len(Footprints(boxes, torch.tensor([-1]), torch.tensor([False]))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, 1.0, 0, 0), "0 x 3 patches over 1.0 of a side"),
        ((2, 3, 1.2, 0, 0), "over 1.2 of a side"),
        ((2, 3, 1.0, 7, 0), "first kept patch 7 of 6"),
        ((2, 3, 1.0, -1, 0), "first kept patch -1 of 6"),
        ((2, 3, 1.0, 0, 0, "nearest"), "footprint mode 'nearest'"),
    ],
)
def test_impossible_grids_are_refused(arguments: tuple[int, int, float, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        view_footprints(PICTURE, *arguments)
