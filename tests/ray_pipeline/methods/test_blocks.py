"""Large pictures block by block: the published table, corrected layouts, and maps laid on the picture where they belong."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.geometry.footprints import grid_footprints
from ray_pipeline.methods.blocks import block_grid, over_background
from ray_pipeline.methods.focus import Focus, Question
from ray_pipeline.methods.importance import tiled
from ray_pipeline.methods.slots import FOCUS
from ray_pipeline.models.contract import (
    Attention,
    Encode,
    GradientAttention,
    PixelGradients,
    ReadAttention,
    ReadGradient,
    ReadPixelGradient,
    Reply,
    ViewGradient,
    VisualTokens,
)  # fmt: skip
from schemas.picture import Box, Picture
from tests.stand_ins.focus_talk import DEFAULTS, GENERIC, crops_tokens, drive, grid_tokens, holds, picture, refine, seen

NAN = math.nan


@pytest.mark.parametrize(
    ("width", "height", "rows", "columns", "block"),
    [
        (1024, 1024, 1, 1, (1024, 1024)),
        (1025, 1025, 2, 2, (513, 513)),
        (2250, 1500, 2, 3, (750, 750)),
        (1500, 2250, 3, 2, (750, 750)),
        (4000, 1000, 1, 4, (1000, 1000)),
        (2000, 1100, 2, 3, (667, 550)),
        (1999, 1000, 1, 1, (1999, 1000)),  # not bounded in width
    ],
)
def test_published_table(width: int, height: int, rows: int, columns: int, block: tuple[int, int]) -> None:
    grid = block_grid(width, height, 1024, "official")
    assert (grid.rows, grid.columns, len(grid.boxes_px)) == (rows, columns, rows * columns)
    corners = [(x * block[0], y * block[1]) for y in range(rows) for x in range(columns)]
    assert grid.boxes_px == tuple((x, y, x + block[0], y + block[1]) for x, y in corners)


def test_published_rule_fails_on_narrow_pictures() -> None:
    with pytest.raises(ValueError, match=r"400 x 1000 px in 1 rows of blocks gives 0.40 columns, expected at least 1"):
        block_grid(400, 1000, 1024, "official")
    assert block_grid(400, 1000, 1024).boxes_px == ((0, 0, 400, 500), (0, 500, 400, 1000))


@pytest.mark.parametrize(
    ("width", "height", "rows", "columns"),
    [
        (1024, 1024, 1, 1),
        (1025, 1025, 2, 2),
        (2250, 1500, 2, 3),
        (1500, 2250, 3, 2),
        (4000, 1000, 1, 4),
        (2000, 1100, 2, 3),
        (1999, 1000, 1, 2),
        (1025, 1000, 2, 2),  # 1 x 2 would be twice as high as wide
        (5000, 20, 1, 10),  # no narrower than half the bound for the sake of the aspect
    ],
)
def test_corrected_layouts(width: int, height: int, rows: int, columns: int) -> None:
    grid = block_grid(width, height, 1024)
    assert (grid.rows, grid.columns) == (rows, columns)


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(64, 2000))
def test_corrected_blocks_cover_the_picture_exactly(width: int, height: int, block_px: int) -> None:
    grid = block_grid(width, height, block_px)
    sides = [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in grid.boxes_px]
    assert len(sides) == grid.rows * grid.columns and sum(w * h for w, h in sides) == width * height
    assert all(min(side) >= 1 and max(side) <= block_px for side in sides)
    assert all(max(side) <= max(2**0.5 * min(side), block_px / 2) + 2.5 for side in sides)
    lines = [grid.boxes_px[row * grid.columns : (row + 1) * grid.columns] for row in range(grid.rows)]
    for line in lines:
        assert line[0][0] == 0 and line[-1][2] == width and len({(box[1], box[3]) for box in line}) == 1
        assert all(left[2] == right[0] for left, right in pairwise(line))
    assert lines[0][0][1] == 0 and lines[-1][0][3] == height
    assert all(upper[0][3] == lower[0][1] for upper, lower in pairwise(lines))


def test_no_extent_is_refused() -> None:
    with pytest.raises(ValueError, match="0 x 10 px in blocks of 5"):
        block_grid(0, 10, 5)


def test_maps_of_unequal_regions_are_laid_by_area() -> None:
    left, right = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0], [8.0]])
    cells = tiled([(left, (0.0, 0.0, 4.0, 6.0)), (right, (4.0, 0.0, 6.0, 6.0))], 6, 6)
    assert cells.tolist() == [[1, 2, 4], [1, 2, 8]]
    coarse = tiled([(left, (0.0, 0.0, 4.0, 6.0)), (right, (4.0, 0.0, 6.0, 6.0))], 6, 6, 1, 2)
    assert coarse.tolist() == [[pytest.approx((2 * 1 + 1 * 2) / 3), pytest.approx((1 * 2 + 2 * 6) / 3)]]


def test_cells_without_numbers_do_not_spread() -> None:
    hole = torch.tensor([[torch.nan, 2.0, 4.0, 6.0]])
    assert tiled([(hole, (0.0, 0.0, 8.0, 2.0))], 8, 2, 1, 2).tolist() == [[2.0, 5.0]]
    beside = tiled([(hole, (0.0, 0.0, 8.0, 2.0))], 16, 2, 1, 4)
    assert beside[0, :2].tolist() == [2.0, 5.0] and beside[0, 2:].isnan().all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 999))
def test_laying_a_map_keeps_its_mean(rows: int, columns: int, seed: int) -> None:
    cells = torch.rand(7, 5, generator=torch.Generator().manual_seed(seed)).double()
    laid = tiled([(cells, (0.0, 0.0, 300.0, 200.0))], 300, 200, rows, columns)
    assert torch.allclose(laid.mean(), cells.mean()) and laid.isfinite().all()
    assert torch.allclose(tiled([(cells, (0.0, 0.0, 300.0, 200.0))], 300, 200, 14, 15)[::2, ::3], cells)


def test_no_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one"):
        tiled([], 4, 4)


class Blocks:
    """Answers requests about blocks: tokens of a grid over each, which look at a thing; scales differ between blocks."""

    def __init__(self, thing: Box, side: int = 6) -> None:
        self.thing, self.side = thing, side
        self.scale: dict[Box, float] = {}

    def __call__(self, request: Any) -> Reply:
        if isinstance(request, Encode):
            (box,) = request.boxes_px
            self.scale[box] = float(7 ** (len(self.scale) % 4))
            prints = grid_footprints(box, self.side, self.side, 0)
            return VisualTokens(request.picture, request.boxes_px, prints, None, (self.side, self.side))
        tokens: VisualTokens = request.tokens
        weights, scale = seen(tokens.footprints, self.thing), self.scale.get(tokens.boxes_px[0], 1.0)
        if isinstance(request, ReadAttention):
            rows = [scale * torch.ones_like(weights) if text == GENERIC else scale * weights for text in request.questions]
            return Attention(torch.stack(rows)[:, None])
        if isinstance(request, ReadGradient):
            return GradientAttention(scale * weights[None], 3, 1.0)
        assert isinstance(request, ReadPixelGradient)
        x0, y0, x1, y1 = (round(edge) for edge in tokens.boxes_px[0])
        pixels = torch.from_numpy(tokens.picture.pixels_YX3[y0:y1, x0:x1] / 255)
        pixels = torch.nn.functional.interpolate(pixels.permute(2, 0, 1)[None], (6 * 8, 6 * 8), mode="area")[0].permute(1, 2, 0)
        big = weights.reshape(6, 6).repeat_interleave(8, 0).repeat_interleave(8, 1)
        view = ViewGradient(tokens.boxes_px[0], pixels, torch.stack([scale * big, torch.ones_like(big)]), 8)
        return PixelGradients((view,), (3, 4))


def focus_on(method: str, shown: Picture, thing: Box, known: bool = False, **changes: object) -> tuple[Focus, Sequence[Any]]:
    tokens, settings = grid_tokens(shown, 6, 6), refine(**changes)
    question = Question("q", torch.ones(2, 36) if known else None)
    focus, asked = drive(FOCUS[method](tokens, question, GENERIC, settings, DEFAULTS), Blocks(thing))
    assert isinstance(focus, Focus)
    return focus, asked


PLACES = [
    (1300, 700, (903, 143, 961, 172)),
    (300, 1100, (23, 905, 71, 990)),
    (1701, 703, (805, 333, 871, 380)),
    (801, 799, (2, 2, 42, 42)),
]


@pytest.mark.parametrize(("width", "height", "thing"), PLACES)
@pytest.mark.parametrize("method", ["rel_att", "grad_att", "pure_grad", "auto"])
def test_planted_attention_gets_the_crop(method: str, width: int, height: int, thing: tuple[int, int, int, int]) -> None:
    noise = (0, 0, width, height)
    focus, asked = focus_on(method, picture(width, height, noise), thing, block_px=400, base_window_px=100)
    (box,) = focus.boxes_px
    assert holds(box, thing) and box[2] - box[0] <= 200
    grid = block_grid(width, height, 400)
    assert f"{grid.rows} x {grid.columns} blocks" in focus.reason
    assert tuple(request.boxes_px[0] for request in asked if isinstance(request, Encode)) == grid.boxes_px


@pytest.mark.parametrize(
    ("method", "reads", "layer"),
    [
        ("rel_att", [ReadAttention], 5),
        ("grad_att", [ReadGradient], None),
        ("pure_grad", [ReadPixelGradient], None),
        ("auto", [ReadAttention, ReadGradient, ReadPixelGradient], None),
    ],
)
def test_every_block_is_encoded_once_as_far_as_needed(method: str, reads: list[type], layer: int | None) -> None:
    shown = picture(500, 300, (0, 0, 500, 300))
    _, asked = focus_on(method, shown, (10, 10, 40, 40), known=True, block_px=256)
    assert [type(request) for request in asked] == [Encode, *reads] * 6
    assert all(request.until_layer == layer and request.behind is None for request in asked if isinstance(request, Encode))
    assert all(request.picture is shown for request in asked if isinstance(request, Encode))
    # what the question looked at in the whole picture says nothing of a block
    assert all(request.questions == ("q", GENERIC) for request in asked if isinstance(request, ReadAttention))


@pytest.mark.parametrize(("width", "height", "blocks"), [(400, 400, 0), (401, 400, 4), (400, 900, 3)])
def test_a_picture_is_cut_where_a_side_is_too_long(width: int, height: int, blocks: int) -> None:
    _, asked = focus_on("rel_att", picture(width, height), (10, 10, 40, 40), block_px=400)
    assert sum(isinstance(request, Encode) for request in asked) == blocks


@pytest.mark.parametrize(
    ("cells", "median", "mean"),
    [
        ([[2.0, 2.0, 2.0, 10.0]], [[1.0, 1.0, 1.0, 5.0]], [[0.5, 0.5, 0.5, 2.5]]),
        ([[1.0, 3.0, NAN, 5.0, 11.0]], [[0.25, 0.75, NAN, 1.25, 2.75]], [[0.2, 0.6, NAN, 1.0, 2.2]]),
        ([[0.0, 0.0, 0.0, 4.0]], [[0.0, 0.0, 0.0, 4e4]], [[0.0, 0.0, 0.0, 4.0]]),  # a median that is no background
        ([[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]),
        ([[NAN, NAN]], [[NAN, NAN]], [[NAN, NAN]]),
    ],
)
def test_background(cells: list[list[float]], median: list[list[float]], mean: list[list[float]]) -> None:
    map_YX = torch.tensor(cells, dtype=torch.float64)
    for background, expected in (("median", median), ("mean", mean)):
        levelled = over_background(map_YX, background)  # type: ignore[arg-type]
        assert torch.allclose(levelled, torch.tensor(expected, dtype=torch.float64), equal_nan=True)


@pytest.mark.parametrize(("method", "level"), [("rel_att", torch.median), ("grad_att", torch.median), ("pure_grad", torch.mean)])
def test_blocks_meet_at_their_backgrounds(method: str, level: Callable[[torch.Tensor], torch.Tensor]) -> None:
    thing, shown = (10.0, 10.0, 40.0, 40.0), picture(800, 400, (0, 0, 800, 400))
    focus, _ = focus_on(method, shown, thing, block_px=400)
    assert focus.map_YX is not None and focus.boxes_px and holds(focus.boxes_px[0], thing)
    half = focus.map_YX.shape[1] // 2
    assert float(level(focus.map_YX[:, :half])) == pytest.approx(1) and float(level(focus.map_YX[:, half:])) == pytest.approx(1)


def test_published_blocks_keep_their_scales() -> None:
    """Section 7: no normalisation, so the block whose gradients are seven times as large takes the crop."""
    thing, shown = (10.0, 10.0, 40.0, 40.0), picture(800, 400, (0, 0, 800, 400))
    focus, _ = focus_on("grad_att", shown, (10, 10, 16, 16), block_px=400, mode="official", base_window_px=100)
    assert focus.map_YX is not None and focus.map_YX.shape == (6, 12) and not holds(focus.boxes_px[0], thing)
    weights = focus.map_YX
    assert float(weights[3, 7] / weights[3, 3]) == pytest.approx(7)


def test_published_blocks_beyond_the_border_are_black() -> None:
    shown = picture(401, 401, (0, 0, 401, 401))
    _, asked = focus_on("rel_att", shown, (10, 10, 40, 40), block_px=400, mode="official")
    encodes = [request for request in asked if isinstance(request, Encode)]
    assert [request.boxes_px[0] for request in encodes][-1] == (201, 201, 402, 402) and len(encodes) == 4
    padded = encodes[0].picture.pixels_YX3
    assert padded.shape == (402, 402, 3) and np.array_equal(padded[:401, :401], shown.pixels_YX3)
    assert not padded[401].any() and not padded[:, 401].any() and encodes[0].picture.sha256 == shown.sha256


def test_published_split_of_a_small_picture_is_the_picture() -> None:
    _, asked = focus_on("rel_att", picture(390, 380), (10, 10, 40, 40), block_px=400, mode="official")
    assert [type(request) for request in asked] == [ReadAttention]
    with pytest.raises(ValueError, match="expected at least 1"):
        focus_on("rel_att", picture(150, 390), (10, 10, 40, 40), block_px=400, mode="official")


def test_several_views_are_read_as_blocks_too() -> None:
    shown = picture(900, 500, (0, 0, 900, 500))
    tokens = crops_tokens(shown, 6, [(0.0, 0.0, 900.0, 500.0), (0.0, 0.0, 500.0, 500.0), (400.0, 0.0, 900.0, 500.0)])
    thing = (700.0, 300.0, 740.0, 340.0)
    talk = FOCUS["rel_att"](tokens, Question("q", None), GENERIC, refine(block_px=450), DEFAULTS)
    focus, asked = drive(talk, Blocks(thing))
    assert holds(focus.boxes_px[0], thing) and isinstance(asked[0], Encode)
