"""Any-res tiles against the published examples and the library's own functions, and planted marks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

from ray_pipeline.models.any_res import (
    Tiling,
    best_canvas,
    canvas,
    newline_footprint,
    packed,
    tile_footprints,
    tile_frames,
    tiling,
)
from ray_pipeline.models.square_input import Preprocessing
from schemas.picture import Box, Picture
from tests.stand_ins.made_pictures import black, whole

PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
CLIP = Preprocessing(336, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SIZES = st.integers(1, 3000)


def published_tiling(width: int, height: int) -> Tiling:
    return tiling(width, height, PINPOINTS, 336, 14)


@pytest.mark.parametrize(
    ("size", "canvas_wh", "shown_wh", "first", "grid", "tokens", "footprint"),
    [
        ((640, 480), (672, 672), (672, 504), (6, 0), (36, 48), 2340, (0, 0, 13.333, 13.333)),
        ((1920, 1080), (672, 672), (672, 378), (10, 0), (28, 48), 1948, (0, -20, 40, 20)),
        ((1000, 500), (672, 336), (672, 336), (0, 0), (24, 48), 1752, (0, 0, 20.833, 20.833)),
        ((480, 640), (672, 672), (504, 672), (0, 6), (48, 36), 2352, (0, 0, 13.333, 13.333)),
        ((672, 672), (672, 672), (672, 672), (0, 0), (48, 48), 2928, (0, 0, 14, 14)),
        ((336, 336), (672, 336), (336, 336), (0, 12), (24, 24), 1176, (0, 0, 14, 14)),
        ((300, 900), (336, 1008), (336, 1008), (0, 0), (72, 24), 2376, (0, 0, 12.5, 12.5)),
    ],
)
def test_published_examples(
    size: tuple[int, int], canvas_wh: tuple[int, int], shown_wh: tuple[int, int], first: tuple[int, int], grid: tuple[int, int],
    tokens: int, footprint: Box,
) -> None:  # fmt: skip
    layout = published_tiling(*size)
    assert (layout.canvas_wh, layout.shown_wh) == (canvas_wh, shown_wh)
    assert (layout.first_row, layout.first_column, layout.rows, layout.columns) == (*first, *grid)
    assert 576 + layout.count == tokens
    picture = black(*size)
    prints = tile_footprints(canvas(picture, whole(picture), layout).placement, layout, 1)
    assert len(prints) == layout.count
    assert prints.boxes_T4_px[0].tolist() == pytest.approx(footprint, abs=1e-2)


@settings(max_examples=300, deadline=None)
@given(SIZES, SIZES)
def test_canvas_and_kept_tokens_are_the_librarys(width: int, height: int) -> None:
    layout = published_tiling(width, height)
    assert best_canvas(width, height, PINPOINTS) == tuple(reversed(select_best_resolution((height, width), PINPOINTS)))
    config = SimpleNamespace(vision_config=SimpleNamespace(image_size=336, patch_size=14), image_grid_pinpoints=PINPOINTS)
    tiles = 1 + layout.tiles[0] * layout.tiles[1]
    features = torch.arange(tiles * 576, dtype=torch.float32).reshape(tiles, 576, 1)  # every feature is its own number
    newline = torch.tensor([-1.0])
    theirs, _ = LlavaNextModel.pack_image_features(
        SimpleNamespace(config=config), [features], torch.tensor([[height, width]]), "default", newline
    )
    assert torch.equal(packed(features, newline, layout), theirs[0])


def test_without_tiles_a_newline_follows_the_whole() -> None:
    features = torch.arange(6.0).reshape(1, 3, 2)
    assert packed(features, torch.tensor([-1.0, -2.0]), None).tolist() == [[0, 1], [2, 3], [4, 5], [-1, -2]]
    assert not newline_footprint().valid_T.any() and newline_footprint().view_T.tolist() == [-1]


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080), (333, 500), (100, 1000), (90, 7)])
def test_tiles_are_the_published_processors_pixels(size: tuple[int, int]) -> None:
    picture = Picture(np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8), "0" * 64)
    layout = published_tiling(*size)
    frames = tile_frames(canvas(picture, whole(picture), layout), layout)
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, image_grid_pinpoints=PINPOINTS
    )
    theirs = processor(picture.pixels_YX3, input_data_format="channels_last", return_tensors="pt")["pixel_values"][0, 1:]
    ours = CLIP.normalised([frame.pixels_YX3 for frame in frames])
    assert ours.shape == theirs.shape and float((ours - theirs).abs().max()) < 1e-5


@pytest.mark.parametrize("size", [(640, 480), (333, 500), (1920, 300)])
def test_a_planted_block_is_found_in_tiles_and_tokens(size: tuple[int, int]) -> None:
    """A block across the border of tiles: its bright pixels in every tile, carried back, and the tokens that saw it."""
    width, height = size
    box = torch.tensor([0.3 * width, 0.4 * height, 0.62 * width, 0.75 * height]).round()
    x0, y0, x1, y1 = (int(value) for value in box)
    picture = black(width, height)
    picture.pixels_YX3[y0:y1, x0:x1] = 255
    layout = published_tiling(width, height)
    shown = canvas(picture, whole(picture), layout)
    corners = []
    for frame in tile_frames(shown, layout):
        bright_y, bright_x = np.nonzero(frame.pixels_YX3[..., 0] > 127)
        if len(bright_x):
            found = torch.tensor([bright_x.min(), bright_y.min(), bright_x.max() + 1, bright_y.max() + 1], dtype=torch.float64)
            corners.append(frame.placement.to_picture(found))
    stacked = torch.stack(corners)
    found = torch.cat([stacked[:, :2].amin(0), stacked[:, 2:].amax(0)])
    assert len(corners) > 1 and found.tolist() == pytest.approx(box.tolist(), abs=1.5 * width / layout.shown_wh[0])
    bright = np.zeros((layout.rows, layout.columns + 1), bool)
    for row in range(layout.rows):
        for column in range(layout.columns):
            y, x = (row + layout.first_row) * 14, (column + layout.first_column) * 14
            bright[row, column] = shown.pixels_YX3[y : y + 14, x : x + 14].mean() > 250
    prints = tile_footprints(shown.placement, layout, 1)
    seen = prints.boxes_T4_px[torch.from_numpy(bright.ravel())]
    slack = 14 * width / layout.shown_wh[0]
    assert seen[:, :2].amin(0).tolist() == pytest.approx(box[:2].tolist(), abs=slack)
    assert seen[:, 2:].amax(0).tolist() == pytest.approx(box[2:].tolist(), abs=slack)
    assert prints.valid_T[torch.from_numpy(bright.ravel())].all()


@settings(max_examples=100, deadline=None)
@given(st.integers(8, 2000), st.integers(8, 2000))
def test_kept_tokens_tile_the_picture_without_gaps(width: int, height: int) -> None:
    layout = published_tiling(width, height)
    prints = tile_footprints(canvas(black(width, height), (0, 0, width, height), layout).placement, layout, 5)
    newlines = prints.valid_T.reshape(layout.rows, layout.columns + 1)[:, -1]
    assert not newlines.any() and int(prints.valid_T.sum()) == layout.rows * layout.columns
    assert prints.view_T[prints.valid_T].unique().tolist() in ([5], [])
    if not prints.valid_T.any():
        return  # a strip whose rows unpadding takes for padding: only the squashed whole shows it
    boxes = prints.boxes_T4_px[prints.valid_T].reshape(layout.rows, layout.columns, 4)
    assert torch.allclose(boxes[:, 1:, 0], boxes[:, :-1, 2]) and torch.allclose(boxes[1:, :, 1], boxes[:-1, :, 3])
    patch_x, patch_y = (boxes[0, 0, 2:] - boxes[0, 0, :2]).tolist()
    assert boxes[0, 0, 0] <= patch_x and boxes[0, 0, 1] <= patch_y  # unpadding rounds: at most a patch is lost at an end
    assert boxes[-1, -1, 2] >= width - patch_x and boxes[-1, -1, 3] >= height - patch_y


def test_tiles_of_a_tower_whose_patches_leave_a_rest() -> None:
    """SigLIP's 27 patches of 14 px cover 378 of a tile's 384: the next tile's first patch begins at 384."""
    layout = tiling(768, 384, [[384, 768]], 384, 14)
    picture = black(768, 384)
    left = tile_footprints(canvas(picture, whole(picture), layout).placement, layout, 1).boxes_T4_px[:54, 0]
    assert left[[0, 1, 26, 27, 53]].tolist() == [0, 14, 364, 384, 748]


def test_a_strip_keeps_its_base_view_only() -> None:
    layout = published_tiling(10_000, 10)
    assert (layout.rows, layout.count) == (0, 0)
    assert packed(torch.zeros(4, 576, 2), torch.zeros(2), layout).shape == (576, 2)


def test_canvases_of_part_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="canvas of 700 x 336 px, expected whole tiles of 336 px"):
        tiling(700, 336, [[336, 700]], 336, 14)
