"""Sizes, patches and grids of Qwen-VL views against the published numbers and the library's own processor."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from ray_pipeline.geometry.footprints import grid_footprints
from ray_pipeline.models.qwen_pixels import (
    QWEN2_5_VL,
    QWEN3_VL,
    FittedView,
    PixelRule,
    fitted_size,
    fitted_view,
    normalised,
    patchified,
    read_rule,
    resized_pixels,
    tower_grid,
)
from schemas.picture import Picture
from schemas.status import RowFailure
from tests.stand_ins.made_pictures import soft_noise, whole

BARE = {"size": {"shortest_edge": 3136, "longest_edge": 1_003_520}}  # the library's class default
picture_of = partial(soft_noise, cells=(7, 9))


@pytest.mark.parametrize(
    ("rule", "size", "shown", "rows", "columns"),
    [
        (QWEN2_5_VL, (640, 480), (644, 476), 17, 23),
        (QWEN2_5_VL, (1920, 1080), (1932, 1092), 39, 69),
        (QWEN2_5_VL, (4240, 2832), (4228, 2828), 101, 151),
        (QWEN3_VL, (640, 480), (640, 480), 15, 20),
        (QWEN3_VL, (1920, 1080), (1920, 1088), 34, 60),
        (QWEN2_5_VL, (1, 1), (56, 56), 2, 2),  # 3136 px at least
        (QWEN3_VL, (100, 100), (256, 256), 8, 8),  # 65,536 px at least
        (QWEN2_5_VL.capped(448), (640, 480), (504, 364), 13, 18),
        (QWEN3_VL.capped(224), (400, 300), (256, 192), 6, 8),  # a cap below the least area wins
    ],
)
def test_published_sizes(rule: PixelRule, size: tuple[int, int], shown: tuple[int, int], rows: int, columns: int) -> None:
    picture = Picture(np.zeros((size[1], size[0], 3), np.uint8), "0" * 64)
    view = fitted_view(picture, whole(picture), rule)
    assert ((view.width, view.height), view.rows, view.columns) == (shown, rows, columns)
    assert tower_grid(view, rule).tolist() == [[1, 2 * rows, 2 * columns]]


@given(st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([QWEN2_5_VL, QWEN3_VL, QWEN2_5_VL.capped(448)]))
def test_sizes_are_the_library_s(width: int, height: int, rule: PixelRule) -> None:
    if max(width, height) / min(width, height) > 200:
        with pytest.raises(RowFailure, match="skipped: .* at most 200"):
            fitted_size(width, height, rule)
        return
    high, wide = smart_resize(height, width, rule.block_px, rule.least_area_px, rule.most_area_px)
    assert fitted_size(width, height, rule) == (wide, high)


@pytest.mark.parametrize("size", [(0, 5), (5, -1)])
def test_shapes_without_area_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected both above 0"):
        fitted_size(*size, QWEN2_5_VL)


@pytest.mark.parametrize("size", [(201, 1), (1, 300)])
def test_shapes_that_cannot_be_shown_are_skipped(size: tuple[int, int]) -> None:
    with pytest.raises(RowFailure, match="skipped: .* at most 200 times"):
        fitted_size(*size, QWEN2_5_VL)
    assert fitted_size(200, 1, QWEN2_5_VL)


@pytest.mark.parametrize(
    ("width", "height", "token", "footprint"),
    [
        (640, 480, 0, (0, 0, 27.826, 28.235)),
        (640, 480, 23, (0, 28.235, 27.826, 56.471)),
        (640, 480, 390, (612.174, 451.765, 640, 480)),
    ],
)
def test_published_footprints(width: int, height: int, token: int, footprint: tuple[float, ...]) -> None:
    picture = picture_of(width, height)
    view = fitted_view(picture, whole(picture), QWEN2_5_VL)
    prints = grid_footprints(view.box_px, view.rows, view.columns, 0)
    assert len(prints) == 391 and prints.boxes_T4_px[token].tolist() == pytest.approx(footprint, abs=1e-3)


@pytest.mark.parametrize(
    ("box", "zoom_px", "shown"),
    [
        ((10, 20, 234, 244), 0, (224, 224)),  # as published: not enlarged, 64 tokens
        ((10, 20, 234, 244), 448, (448, 448)),  # 256 tokens
        ((10, 20, 278, 288), 448, (448, 448)),  # 268 px, the second of the published sides: rounded, not one block more
        ((0, 0, 448, 448), 448, (448, 448)),
        ((0, 0, 600, 500), 448, (588, 504)),  # larger than asked for: as it is
        ((100, 100, 200, 300), 448, (308, 644)),  # an area, not a side
        ((9.6, 19.2, 233.1, 243.9), 0, (224, 224)),  # along whole pixels
        ((-50, -50, 174, 174), 0, (168, 168)),  # what of it is inside
    ],
)
def test_crops_and_their_enlargement(box: tuple[float, float, float, float], zoom_px: int, shown: tuple[int, int]) -> None:
    view = fitted_view(picture_of(900, 700), box, QWEN2_5_VL, zoom_px)
    assert (view.width, view.height) == shown


def test_enlargement_stays_within_the_limits() -> None:
    view = fitted_view(picture_of(900, 700), (0, 0, 100, 100), QWEN2_5_VL.capped(112), 448)
    assert (view.width, view.height) == (112, 112)


def test_a_view_outside_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="some area inside it"):
        fitted_view(picture_of(90, 70), (90, 0, 120, 30), QWEN2_5_VL)


def test_resized_pixels_go_back_to_the_picture() -> None:
    """A box of the resized input, as Qwen2.5-VL writes it (ACS section 11, frames)."""
    picture = picture_of(640, 480)
    view = fitted_view(picture, whole(picture), QWEN2_5_VL)
    box = view.placement.to_picture(torch.tensor([322.0, 238, 350, 266], dtype=torch.float64)).tolist()
    assert box == pytest.approx([320, 240, 347.826, 268.235], abs=1e-3)
    crop = FittedView((100.0, 50.0, 324.0, 162.0), 448, 224, 8, 16)
    assert crop.placement.to_picture(torch.tensor([0.0, 0, 448, 224])).tolist() == pytest.approx([100, 50, 324, 162])


@pytest.mark.parametrize("rule", [QWEN2_5_VL, QWEN3_VL, PixelRule(4, 3, 1, 144, 40_000, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))])
@pytest.mark.parametrize("size", [(337, 211), (120, 480), (56, 64)])
def test_patches_equal_the_library_s(rule: PixelRule, size: tuple[int, int]) -> None:
    picture = picture_of(*size, seed=3)
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": rule.least_area_px, "longest_edge": rule.most_area_px}, patch_size=rule.patch_px,
        merge_size=rule.merge, temporal_patch_size=rule.frames, image_mean=rule.mean, image_std=rule.std,
    )  # fmt: skip
    expected = processor(images=[Image.fromarray(picture.pixels_YX3)], return_tensors="pt")
    view = fitted_view(picture, whole(picture), rule)
    got = patchified(normalised(resized_pixels(picture, view), rule), rule)
    assert torch.equal(tower_grid(view, rule), expected["image_grid_thw"])
    torch.testing.assert_close(got, expected["pixel_values"], atol=2e-6, rtol=0)
    assert got.std() > 0.1, "a flat picture proves nothing"


def test_crops_are_cut_before_they_are_resized() -> None:
    picture, box = picture_of(301, 203, seed=5), (31, 17, 161, 129)
    view = fitted_view(picture, box, QWEN2_5_VL)
    expected = Image.fromarray(picture.pixels_YX3).crop(box).resize((view.width, view.height), Image.Resampling.BICUBIC)
    assert np.array_equal(resized_pixels(picture, view).numpy(), np.asarray(expected))


def test_patches_are_differentiable_and_every_pixel_counts_once_per_frame() -> None:
    image = torch.rand(3, 56, 84, dtype=torch.float64, requires_grad=True)
    patches = patchified(image, QWEN2_5_VL)
    weights = torch.randn_like(patches)
    (gradient,) = torch.autograd.grad((patches * weights).sum(), image)
    frames = weights.reshape(2, 3, 2, 2, 3, 2, 14, 14).sum(5)  # block rows, columns, patch rows, columns, channels, y, x
    expected = frames.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, 56, 84)
    torch.testing.assert_close(gradient, expected)


def test_patches_of_other_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 28"):
        patchified(torch.zeros(3, 28, 42), QWEN2_5_VL)


VISION = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}


@pytest.mark.parametrize(
    ("preprocessor", "limits"),
    [
        ({}, (3136, 12_845_056)),
        (BARE, (3136, 1_003_520)),
        ({"min_pixels": 784, "max_pixels": 200_704}, (784, 200_704)),
        ({"min_pixels": 784, "size": {"shortest_edge": 1, "longest_edge": 90_000}}, (784, 90_000)),
        ({"size": {"min_pixels": 784, "max_pixels": 5000}}, (784, 5000)),
    ],
)
def test_limits_are_the_folder_s(preprocessor: dict[str, object], limits: tuple[int, int]) -> None:
    rule = read_rule(preprocessor, VISION, QWEN2_5_VL)
    assert (rule.least_area_px, rule.most_area_px) == limits
    assert (rule.patch_px, rule.merge, rule.frames, rule.mean) == (14, 2, 2, QWEN2_5_VL.mean)


def test_colours_and_patches_are_the_folder_s() -> None:
    rule = read_rule({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, {"patch_size": 16}, QWEN2_5_VL)
    assert (rule.mean, rule.std, rule.block_px) == ((0.5,) * 3, (0.25,) * 3, 32)


@pytest.mark.parametrize(
    ("preprocessor", "message"),
    [
        ({"patch_size": 16}, "expected the tower's"),
        ({"merge_size": 1}, "expected the tower's"),
        ({"do_resize": False}, "do_resize"),
        ({"resample": 2}, "resample"),
        ({"rescale_factor": 1.0}, "1/255"),
        ({"image_std": [0.5, 0.0, 0.5]}, "above 0"),
        ({"max_pixels": -5}, "above 0"),
    ],
)
def test_other_preprocessing_is_refused(preprocessor: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_rule(preprocessor, VISION, QWEN2_5_VL)


def test_upright_pictures_make_upright_grids() -> None:
    """Turning a picture turns its grid: rows and columns are not mixed up anywhere."""
    wide, high = picture_of(640, 200), picture_of(200, 640)
    first, second = fitted_view(wide, whole(wide), QWEN3_VL), fitted_view(high, whole(high), QWEN3_VL)
    assert (first.rows, first.columns) == (second.columns, second.rows) and first.columns > first.rows
    assert math.isclose(first.placement.scale_x, second.placement.scale_y)
