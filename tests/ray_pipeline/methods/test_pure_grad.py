"""pure-grad: its image operations against slow references, and gradients planted in frames of all kinds."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ray_pipeline.methods.focus import Focus, Question
from ray_pipeline.methods.high_pass import detail_mask, high_pass
from ray_pipeline.methods.pure_grad import guarded_ratio, patch_sums, published_pure_grad_map, pure_grad_map
from ray_pipeline.methods.slots import FOCUS
from ray_pipeline.models.contract import PixelGradients, ReadPixelGradient, ViewGradient, VisualTokens
from schemas.methods import RefineSettings
from schemas.picture import Box, Picture
from tests.stand_ins.focus_talk import DEFAULTS, GENERIC, crops_tokens, drive, grid_tokens, holds, picture, refine

BLOCK, SIDE = 14, 168


def mirrored(k: int, length: int) -> int:
    """Index behind an edge, mirrored at the outermost pixel."""
    while length > 1 and not 0 <= k < length:
        k = -k if k < 0 else 2 * (length - 1) - k
    return 0 if length == 1 else k


def repeated(k: int, length: int) -> int:
    """Index behind an edge, mirrored behind the outermost pixel."""
    while not 0 <= k < length:
        k = -k - 1 if k < 0 else 2 * length - 1 - k
    return k


def slow_high_pass(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width, _ = pixels.shape
    taps = {step: math.exp(-(step**2) / (2 * 0.8**2)) for step in (-1, 0, 1)}
    total = sum(taps.values())
    rough = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            blur = np.zeros(3)
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    blur += taps[dy] * taps[dx] / total**2 * pixels[mirrored(y + dy, height), mirrored(x + dx, width)]
            rough[y, x] = math.sqrt(((pixels[y, x] - blur) ** 2).sum())
    smooth = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            near = [rough[repeated(y + a, height), repeated(x + b, width)] for a in range(-3, 4) for b in range(-3, 4)]
            smooth[y, x] = sorted(near)[24]
    return smooth


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 17), st.integers(1, 17), st.integers(0, 10**6))
def test_high_pass_is_the_slow_reference(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    assert np.allclose(high_pass(pixels), slow_high_pass(pixels.astype(np.float64)), atol=1e-6)


def test_high_pass_of_a_tall_picture_has_no_seams() -> None:
    pixels = np.random.default_rng(5).random((150, 9, 3)).astype(np.float32)
    assert np.allclose(high_pass(pixels), slow_high_pass(pixels.astype(np.float64)), atol=1e-6)


def test_published_arithmetic() -> None:
    cells = np.arange(16.0).reshape(4, 4)
    masked = torch.from_numpy(cells * detail_mask(cells))
    assert (patch_sums(masked, 2) / 4).tolist() == [[0, 0], [10.5, 12.5]]
    ratio = guarded_ratio(torch.tensor([[2.0, 4], [1, 8]]), torch.tensor([[1.0, 4], [2, 2]]))
    assert ratio.tolist() == [[2, 1], [0.5, 4]]


def test_mask_is_strict() -> None:
    assert not detail_mask(np.full((4, 4), 0.3)).any()
    assert detail_mask(np.array([[0.0, 1.0, 1.0, 5.0]])).tolist() == [[False, False, False, True]]


@pytest.mark.parametrize(
    ("generic", "expected"),
    [((1.0, 0.0), (2.0, 4 / 0.05)), ((0.0, 0.0), (0.0, 0.0)), ((1.0, 0.04), (2.0, 4 / 0.052)), ((1.0, 0.5), (2.0, 8.0))],
)
def test_ratio_has_a_floor(generic: tuple[float, float], expected: tuple[float, float]) -> None:
    ratio = guarded_ratio(torch.tensor([[2.0, 4.0]]), torch.tensor([generic]))
    assert ratio[0].tolist() == pytest.approx(expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(2, 5))
def test_one_plain_view_gives_the_published_map(seed: int, rows: int, columns: int) -> None:
    """A picture that fills its frame exactly: both modes, and the formula cell by cell."""
    rng, block = np.random.default_rng(seed), 7
    pixels = rng.integers(0, 256, (rows * block, columns * block, 3)).astype(np.uint8)
    norms = torch.from_numpy(rng.random((2, rows * block, columns * block)) + 0.5)
    view = ViewGradient((0.0, 0.0, float(columns * block), float(rows * block)), torch.from_numpy(pixels / 255), norms, block)
    detail = high_pass((pixels / 255).astype(np.float32))
    mask, expected = detail > np.median(detail), np.zeros((rows, columns))
    for y in range(rows * block):
        for x in range(columns * block):
            expected[y // block, x // block] += float(norms[0, y, x] / norms[1, y, x]) * mask[y, x] / block**2
    assert np.allclose(published_pure_grad_map(view, pixels), expected, rtol=1e-5)
    mended = pure_grad_map([view], view.box_px)
    assert np.allclose(mended, expected.repeat(2, 0).repeat(2, 1), rtol=1e-5)


def framed(shown: Picture, frame: Box, rows: int = SIDE, columns: int = SIDE) -> NDArray[np.uint8]:
    """A frame of rows x columns pixels with black where it reaches beyond the picture."""
    image = Image.fromarray(shown.pixels_YX3)
    scale = (frame[2] - frame[0]) / columns, (frame[3] - frame[1]) / rows
    placed = (scale[0], 0, frame[0], 0, scale[1], frame[1])
    return np.asarray(image.transform((columns, rows), Image.Transform.AFFINE, placed, Image.Resampling.BILINEAR))


def view_of(shown: Picture, frame: Box, thing: Box, outside: float = 0.0, rows: int = SIDE, columns: int = SIDE) -> ViewGradient:
    """A view whose question depends on a thing; `outside` is how much more it depends on the padding."""
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    x_px, y_px = frame[0] + x * (frame[2] - frame[0]) / columns, frame[1] + y * (frame[3] - frame[1]) / rows
    on = (x_px > thing[0]) & (x_px < thing[2]) & (y_px > thing[1]) & (y_px < thing[3])
    padding = (x_px < 0) | (x_px > shown.width) | (y_px < 0) | (y_px > shown.height)
    question = 0.1 + 4.0 * on + outside * padding
    pixels = torch.from_numpy(framed(shown, frame, rows, columns) / np.float32(255))
    return ViewGradient(frame, pixels, torch.stack([question, torch.ones(rows, columns)]), BLOCK)


def focus_on(tokens: VisualTokens, views: list[ViewGradient], changed: RefineSettings = RefineSettings()) -> Focus:
    talk = FOCUS["pure_grad"](tokens, Question("q", torch.ones(2, 3)), GENERIC, changed, DEFAULTS)
    focus, asked = drive(talk, lambda _: PixelGradients(tuple(views), (17, 4)))
    assert asked == [ReadPixelGradient(tokens, ("q", GENERIC))] and isinstance(focus, Focus)
    return focus


PLACES = [
    (640, 480, (503, 43, 561, 72)),
    (300, 1100, (23, 905, 71, 990)),
    (1700, 700, (805, 333, 871, 380)),
    (501, 499, (2, 2, 42, 42)),
]


@pytest.mark.parametrize(("width", "height", "thing"), PLACES)
@pytest.mark.parametrize("shown", ["squashed", "padded", "crops"])
def test_planted_gradients_get_the_crop(width: int, height: int, thing: tuple[int, int, int, int], shown: str) -> None:
    decoy = (width // 2 - 20, height // 2 - 140, width // 2 + 20, height // 2 - 90)
    plain, side = picture(width, height, thing, decoy), float(max(width, height))
    x, y = -((side - width) // 2), -((side - height) // 2)
    whole = (0.0, 0.0, float(width), float(height))
    halves = [(0.0, 0.0, width * 0.6, float(height)), (width * 0.4, 0.0, float(width), float(height))]
    frames: list[Box] = {"squashed": [whole], "padded": [(x, y, x + side, y + side)], "crops": [whole, *halves]}[shown]
    focus = focus_on(crops_tokens(plain, SIDE // BLOCK, frames), [view_of(plain, frame, thing, 50.0) for frame in frames])
    (box,) = focus.boxes_px
    assert holds(box, thing) and max(box[2] - box[0], box[3] - box[1]) < 0.6 * side
    assert focus.reason.endswith("pixel gradients of tokens 17 and 4")


def test_padding_and_its_border_are_not_looked_at() -> None:
    """Black beside noise is the sharpest edge there is, and its gradients are the largest: neither is in the picture."""
    plain = picture(600, 280, (0, 0, 600, 280))
    view = view_of(plain, (0.0, -160.0, 600.0, 440.0), (300, 90, 350, 140), 50.0)  # one patch
    cells = pure_grad_map([view], (0.0, 0.0, 600.0, 280.0))
    row, column = divmod(int(cells.argmax()), cells.shape[1])
    assert 90 <= (row + 0.5) * 280 / len(cells) <= 140 and 300 <= (column + 0.5) * 600 / cells.shape[1] <= 350
    assert cells.isfinite().all() and float(cells[[0, 1, -2, -1]].max()) < 0.2 and float(cells.max()) > 1


def test_pixels_behind_the_last_patch_belong_to_none() -> None:
    """27 patches of 14 in 384 pixels of 5 px each: the last patch ends at 1890 of 1920, what is behind it counts nowhere."""
    plain = picture(1920, 400, (0, 0, 1920, 400))
    frame = (0.0, 0.0, 1920.0, 400.0)
    last = pure_grad_map([view_of(plain, frame, (1820, 0, 1890, 400), 0.0, 384, 384)], frame)
    column = int(1840 / 1920 * last.shape[1])
    assert float(last[:, column].mean()) > 10 * float(last[:, column - 3].mean())
    behind = pure_grad_map([view_of(plain, frame, (1890, 0, 1920, 400), 0.0, 384, 384)], frame)
    assert float(behind.nan_to_num().max()) <= 0.1


def test_frames_beyond_the_region_are_cut() -> None:
    plain = picture(600, 400, (0, 0, 600, 400))
    view = view_of(plain, (100.0, 0.0, 300.0, 200.0), (0, 0, 200, 400))
    cells = pure_grad_map([view], (150.0, 0.0, 250.0, 200.0))
    assert cells.isfinite().all() and float(cells[:, : cells.shape[1] // 2 - 2].mean()) > 10 * float(cells[:, -4:].mean())


def test_published_map_of_a_centre_crop_is_stretched_to_the_ends() -> None:
    """Section 5: what lies 135 px right of the middle counts as 135 * 1000 / 400 px right of it, give or take half a window."""
    thing = (620, 180, 650, 210)
    plain, frame = picture(1000, 400, (0, 0, 1000, 400)), (300.0, 0.0, 700.0, 400.0)
    tokens, view = grid_tokens(plain, 12, 12, frame), view_of(plain, frame, thing)
    (mended,) = focus_on(tokens, [view]).boxes_px
    (published,) = focus_on(tokens, [view], refine(mode="official")).boxes_px
    assert holds(mended, thing)
    assert (published[0] + published[2]) / 2 == pytest.approx(500 + 135 * 2.5, abs=126 / 2)


def test_published_detail_is_that_of_the_squashed_picture() -> None:
    """Detail at 620..650 of 1000 px masks the frame at the same share of its side, although the frame shows it elsewhere."""
    plain, frame = picture(1000, 400, (620, 180, 650, 210)), (300.0, 0.0, 700.0, 400.0)
    cells = published_pure_grad_map(view_of(plain, frame, (0, 0, 0, 0)), plain.pixels_YX3)
    rows, columns = cells.nonzero().T
    assert set(columns.tolist()) == {7} and {5, 6} >= set(rows.tolist())


def test_published_quotient_has_no_guard() -> None:
    plain = picture(168, 168, (0, 0, 168, 168))
    view = view_of(plain, (0.0, 0.0, 168.0, 168.0), (0, 0, 50, 50))
    view.norms_QYX[1, 100, 100] = 0
    cells = published_pure_grad_map(view, plain.pixels_YX3)
    assert not cells[7, 7].isfinite() and int(cells.isfinite().sum()) == 143
    assert pure_grad_map([view], view.box_px).isfinite().all()


def test_published_map_needs_a_plain_grid() -> None:
    plain = picture(600, 400)
    tokens = crops_tokens(plain, 12, [(0.0, 0.0, 600.0, 400.0)])
    with pytest.raises(ValueError, match="one plain grid"):
        focus_on(tokens, [], refine(mode="official"))


def test_a_frame_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"frame of \(13, 20\) pixels, expected at least one patch of 14"):
        patch_sums(torch.ones(13, 20), 14)
