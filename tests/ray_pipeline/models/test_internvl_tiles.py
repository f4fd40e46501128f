"""Tiles against the published processor, token by token against the worked examples (mc_llava 9.6)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil, get_optimal_tiled_canvas
from transformers.models.internvl.modeling_internvl import InternVLModel

from ray_pipeline.geometry.boxes import area
from ray_pipeline.geometry.raster import rasterise
from ray_pipeline.models.internvl_tiles import TileGrid, TileRule, tile_boxes, tile_footprints, tile_pixels
from schemas.picture import Box

RULE = TileRule(448)
FULL_HD: Box = (0.0, 0.0, 1920.0, 1080.0)


@pytest.mark.parametrize(
    ("width", "height", "columns", "rows", "views"),
    [
        (640, 480, 4, 3, 13),
        (1920, 1080, 4, 2, 9),
        (4240, 2832, 3, 2, 7),
        (1000, 1000, 3, 3, 10),
        (448, 448, 1, 1, 1),
        (900, 300, 3, 1, 4),
        (300, 900, 1, 3, 4),
    ],
)
def test_grids_of_the_worked_examples(width: int, height: int, columns: int, rows: int, views: int) -> None:
    grid = RULE.grid(width, height)
    assert grid == TileGrid(columns, rows) and grid.count == views
    assert len(tile_footprints((0, 0, width, height), grid, 16)) == 256 * views


@given(
    width=st.integers(1, 5000), height=st.integers(1, 5000), side=st.sampled_from([28, 336, 448]),
    least=st.integers(1, 4), more=st.integers(0, 20),
)  # fmt: skip
def test_grid_is_the_published_one(width: int, height: int, side: int, least: int, more: int) -> None:
    columns, rows = get_optimal_tiled_canvas((height, width), (side, side), least, least + more)
    assert TileRule(side, least, least + more).grid(width, height) == TileGrid(columns, rows)


@given(side=st.integers(1, 2000), tiles=st.integers(1, 20))
def test_ties_are_the_published_ones(side: int, tiles: int) -> None:
    columns, rows = get_optimal_tiled_canvas((side, side), (448, 448), 1, tiles)
    assert TileRule(448, 1, tiles).grid(side, side) == TileGrid(columns, rows)


@pytest.mark.parametrize(("area_px", "columns"), [(None, 1), (448**2, 1), (896**2, 2), (1344**2, 3), (5000**2, 3)])
def test_a_picture_may_count_as_larger(area_px: float | None, columns: int) -> None:
    assert RULE.grid(200, 200, area_px) == TileGrid(columns, columns)


@pytest.mark.parametrize(
    ("resolution", "least", "most"), [(100, 1, 1), (447, 1, 1), (448, 1, 1), (896, 3, 4), (1024, 3, 5), (8192, 3, 334)]
)
def test_resolution_bounds_the_tiles(resolution: int, least: int, most: int) -> None:
    assert TileRule(448, 3, 12).within(resolution) == TileRule(448, least, most)


@pytest.mark.parametrize(
    ("token", "expected", "view"),
    [
        (0, (0, 0, 30, 33.75), 1),
        (256, (480, 0, 510, 33.75), 2),
        (1024, (0, 540, 30, 573.75), 5),
        (2047, (1890, 1046.25, 1920, 1080), 8),
        (2048, (0, 0, 120, 67.5), 0),
        (2303, (1800, 1012.5, 1920, 1080), 0),
    ],
)
def test_footprints_of_full_hd(token: int, expected: Box, view: int) -> None:
    prints = tile_footprints(FULL_HD, RULE.grid(1920, 1080), 16)
    assert len(prints) == 2304 and prints.valid_T.all()
    assert prints.boxes_T4_px[token].tolist() == pytest.approx(expected, abs=1e-9)
    assert int(prints.view_T[token]) == view


@given(
    x0=st.integers(0, 300), y0=st.integers(0, 300), width=st.integers(1, 900), height=st.integers(1, 900),
    columns=st.integers(1, 4), rows=st.integers(1, 3),
)  # fmt: skip
def test_tiles_cover_a_box_once_and_the_thumbnail_once_more(
    x0: int, y0: int, width: int, height: int, columns: int, rows: int
) -> None:
    box = (float(x0), float(y0), float(x0 + width), float(y0 + height))
    grid = TileGrid(columns, rows)
    prints = tile_footprints(box, grid, 2, whole_view=7, first_tile=8)
    assert float(area(prints.boxes_T4_px).sum()) == pytest.approx(width * height * (1 if grid.count == 1 else 2))
    assert prints.boxes_T4_px.amin(0)[:2].tolist() == [x0, y0]
    assert prints.boxes_T4_px.amax(0)[2:].tolist() == pytest.approx([x0 + width, y0 + height])
    assert sorted(set(prints.view_T.tolist())) == ([7] if grid.count == 1 else list(range(7, 7 + grid.count)))
    first = prints.boxes_T4_px[: 4 * columns * rows]
    inner = [box for box in first.tolist() if box[2] < x0 + width and box[3] < y0 + height]
    corners = {(box[0], box[1]) for box in first.tolist()}
    assert all((box[2], box[3]) in corners for box in inner)  # neighbours share a corner to the last bit


def test_thumbnail_and_tiles_agree_on_the_map() -> None:
    """Every token carries its own centre's column: the ratio map must grow from left to right, row for row."""
    grid = TileGrid(3, 2)
    prints = tile_footprints((0, 0, 700, 350), grid, 4)
    centres = (prints.boxes_T4_px[:, 0] + prints.boxes_T4_px[:, 2]) / 2
    ratio = rasterise(centres, prints, 700, 350, rows=8, columns=12).ratio_YX
    assert (ratio.diff(dim=1) > 0).all() and torch.allclose(ratio, ratio[:1].expand_as(ratio))


@settings(max_examples=15, deadline=None)
@given(width=st.integers(1, 150), height=st.integers(1, 150), most=st.integers(2, 6), seed=st.integers(0, 9))
def test_pixels_equal_the_published_processor(width: int, height: int, most: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    processor = GotOcr2ImageProcessorPil(size={"height": 28, "width": 28}, max_patches=most, crop_to_patches=True)
    raw = {"do_normalize": False, "do_rescale": False, "return_tensors": "np", "input_data_format": "channels_last"}
    expected = processor(pixels, **raw)["pixel_values"]
    rule = TileRule(28, 1, most)
    tiles = tile_pixels(pixels, rule.grid(width, height), rule.side_px)
    assert tiles.shape == (len(expected), 28, 28, 3)
    assert np.abs(tiles.transpose(0, 3, 1, 2).astype(int) - np.asarray(expected).astype(int)).max() <= 1


def test_a_planted_mark_lies_in_the_tile_that_says_so() -> None:
    pixels = np.zeros((60, 90, 3), dtype=np.uint8)
    pixels[45:55, 35:55] = 255
    grid = TileGrid(3, 2)
    tiles = tile_pixels(pixels, grid, 28).mean((1, 2, 3))
    boxes = tile_boxes((0, 0, 90, 60), grid)
    assert boxes[4] == (30, 30, 60, 60) and boxes[6] == (0, 0, 90, 60)
    assert [k for k, mean in enumerate(tiles) if mean > 1] == [4, 6]


def test_token_order_is_that_of_the_pixel_shuffle() -> None:
    """Token k of a tile is the 2 x 2 block of patches in row k // columns and column k % columns."""
    rows = columns = 8
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1)[None].float()
    shuffled = InternVLModel.pixel_shuffle(None, place).reshape(rows * columns // 4, 4, 2)  # uses nothing of the model
    prints = tile_footprints((0.0, 0.0, float(columns), float(rows)), TileGrid(1, 1), columns // 2)
    for k, box in enumerate(prints.boxes_T4_px.tolist()):
        ys, xs = shuffled[k, :, 0], shuffled[k, :, 1]
        assert box == [float(xs.min()), float(ys.min()), float(xs.max()) + 1, float(ys.max()) + 1]


@pytest.mark.parametrize(("side", "least", "most"), [(0, 1, 12), (448, 0, 12), (448, 5, 4)])
def test_impossible_rules_are_refused(side: int, least: int, most: int) -> None:
    with pytest.raises(ValueError, match=f"tiles of {side} px, {least} to {most}"):
        TileRule(side, least, most)


def test_a_picture_without_extent_is_refused() -> None:
    with pytest.raises(ValueError, match="picture 0 x 5"):
        RULE.grid(0, 5)
