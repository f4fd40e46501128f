"""Choosing a crop: published examples defect for defect, a slow reference, and what the corrected mode mends."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ray_pipeline.methods.crop_box import RATIOS, select_crop
from schemas.picture import Box

NAN, INF = math.nan, math.inf
Change = tuple[slice | int, slice | int, float]
A, B = (1, 4, 10.0), (slice(3, 5), slice(2, 4), 10.0)
C = (slice(2, 5), slice(1, 4), 10.0)
K = (slice(10, 13), slice(15, 18), 5.0)


def planted(rows: int, columns: int, *changes: Change) -> torch.Tensor:
    """A map of ones with some cells changed."""
    cells = torch.ones(rows, columns)
    for row, column, value in changes:
        cells[row, column] = value
    return cells


SQUARES = torch.arange(36.0).reshape(6, 6) ** 2
# map, picture, base, official box, corrected box
EXAMPLES: dict[str, tuple[torch.Tensor, tuple[int, int], int, Box, Box]] = {
    "A": (planted(6, 6, A), (600, 600), 200, (300, 0, 500, 200), (350, 50, 550, 250)),
    "B": (planted(6, 6, B), (600, 600), 200, (200, 300, 400, 500), (200, 300, 400, 500)),
    "C": (planted(6, 6, C), (600, 600), 200, (90, 190, 410, 510), (90, 190, 410, 510)),
    "D": (planted(6, 6, (5, 5, 10)), (600, 600), 200, (400, 400, 600, 600), (400, 400, 600, 600)),
    "E": (planted(6, 6), (600, 600), 200, (0, 0, 200, 200), (0, 0, 600, 600)),
    "F": (planted(6, 6, (0, 5, 10), (5, 0, 10)), (600, 600), 200, (0, 400, 200, 600), (0, 400, 200, 600)),
    "G": (SQUARES, (600, 600), 200, (400, 400, 600, 600), (400, 400, 600, 600)),
    "H": (planted(6, 6, (2, 4, 10)), (1200, 600), 200, (800, 100, 1000, 300), (800, 150, 1000, 350)),
    "I": (planted(6, 6, (4, 2, 10)), (300, 900), 336, (0, 432, 300, 768), (0, 507, 300, 843)),
    "J": (planted(24, 24, K), (300, 300), 336, (0, 0, 300, 300), (0, 0, 300, 300)),
    "K": (planted(24, 24, K), (1024, 768), 336, (450, 88, 786, 424), (536, 200, 872, 536)),
    "L": (planted(24, 24, (slice(0, 2), slice(22, 24), 9)), (1000, 800), 336, (664, 0, 1000, 336), (664, 0, 1000, 336)),
    "M": (planted(24, 24, (slice(5, 7), slice(12, 14), 9)), (1000, 300), 336, (248, 0, 584, 300), (374, 0, 710, 300)),
    "N": (planted(12, 16, (slice(3, 5), slice(9, 12), 6)), (800, 600), 224, (388, 38, 612, 262), (413, 88, 637, 312)),
    "O": (planted(6, 6, A), (3000, 3000), 224, (0, 0, 224, 224), (2138, 638, 2362, 862)),
    "P": (planted(6, 6, A), (1700, 1700), 224, (0, 0, 224, 224), (1163, 313, 1387, 537)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_published_examples(name: str) -> None:
    cells, (width, height), base, official, corrected = EXAMPLES[name]
    assert select_crop(cells, width, height, base, "official").box_px == official
    choice = select_crop(cells, width, height, base)
    assert choice.box_px == corrected
    assert choice.whole == (name in "EJ")


@pytest.mark.parametrize("mode", ["official", "corrected"])
@pytest.mark.parametrize(
    ("changes", "sharpness"),
    [
        (A, (0.75, 0.3333, 0.1875)),
        (B, (4.5, 1.0, 0.375)),
        (C, (2.25, 3.0, 0.5625)),
        ((5, 5, 10), (2.25, 1.0, 0.5625)),
        ((0, 0, 1), (0, 0, 0)),
    ],
)
def test_published_sharpness(changes: Change, sharpness: tuple[float, float, float], mode: str) -> None:
    for ratio, cells, expected in zip((1.0, 1.6, 2.0), (2, 3, 4), sharpness, strict=True):
        choice = select_crop(planted(6, 6, changes), 600, 600, 200, mode, (ratio,))  # type: ignore[arg-type]
        assert choice.sharpness == pytest.approx(expected, abs=1e-4)
        assert choice.window_cells == (cells, cells) or choice.whole


def test_sizes_and_window() -> None:
    choice = select_crop(planted(6, 6, C), 600, 600, 200, "official")
    assert (choice.ratio, choice.window_cells, choice.whole) == (1.6, (3, 3), False)
    assert select_crop(EXAMPLES["M"][0], 1000, 300, 336).window_cells == (8, 24)  # columns first


@pytest.mark.parametrize(("base", "sides"), [(336, (336, 402, 470, 536, 604, 672)), (224, (224, 268, 312, 358, 402, 448))])
@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_pixel_sides(base: int, sides: tuple[int, ...], mode: str) -> None:
    cells = planted(24, 24, (slice(11, 13), slice(11, 13), 9))
    for ratio, side in zip(RATIOS, sides, strict=True):
        x0, y0, x1, y1 = select_crop(cells, 2000, 2000, base, mode, (ratio,)).box_px  # type: ignore[arg-type]
        assert (x1 - x0, y1 - y0) == (side, side)


def slow_official(cells: NDArray[np.float64], width: int, height: int, base: float) -> tuple[Box, float]:
    """Section 6 as it reads, with loops; rounded at the twelfth digit, so that equal sharpness ties."""
    rows, columns = cells.shape
    cw, ch = width / columns, height / rows
    found = []
    for ratio in (1, 1.2, 1.4, 1.6, 1.8, 2):
        nx, ny = min(int(base * ratio / cw), columns), min(int(base * ratio / ch), rows)
        if nx == columns and ny == rows:
            if ratio == 1:
                return (0, 0, width, height), 1
            continue
        sums = np.zeros((rows - ny + 1, columns - nx + 1))
        best, px, py = -np.inf, 0, 0
        for x in range(columns - nx + 1):
            for y in range(rows - ny + 1):
                sums[y, x] = cells[y : y + ny, x : x + nx].sum()
                if sums[y, x] > best:
                    best, px, py = sums[y, x], x, y
        near = [(px - 1, py), (px + 1, py), (px, py - 1), (px, py + 1)]
        inside = [sums[y, x] for x, y in near if 0 <= x < sums.shape[1] and 0 <= y < sums.shape[0]]
        sharpness = np.float64(best - np.mean(inside)) / (nx * ny)
        found.append((np.round(sharpness, 12), ratio, px * cw + nx * cw / 2, py * ch + ny * ch / 2))
    _, ratio, cx, cy = found[int(np.argmax([row[0] for row in found]))]
    half = math.floor(base * ratio / 2)
    x, y = min(max(int(cx), half), width - half), min(max(int(cy), half), height - half)
    return (max(0, x - half), max(0, y - half), min(width, x + half), min(height, y + half)), ratio


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(30, 900), st.integers(30, 900), st.integers(8, 400))
Sizes = tuple[int, int, int, int, int]


def random_map(rows: int, columns: int, seed: int, most: int, fill: float = 0.0, share: float = 0.0) -> torch.Tensor:
    """Whole numbers, so that sums are exact and ties are many."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, most + 1, (rows, columns)).astype(np.float64)
    cells[rng.random((rows, columns)) < share] = fill
    return torch.from_numpy(cells)


@settings(max_examples=300, deadline=None)
@given(sizes, st.integers(0, 10**6), st.sampled_from([1, 3, 50]), st.sampled_from([0.0, NAN, INF, -INF]))
def test_official_is_the_slow_reference(size: Sizes, seed: int, most: int, fill: float) -> None:
    rows, columns, width, height, base = size
    cells = random_map(rows, columns, seed, most, fill, 0.05)
    with np.errstate(all="ignore"):
        box, ratio = slow_official(cells.numpy(), width, height, base)
    choice = select_crop(cells, width, height, base, "official")
    assert (choice.box_px, choice.ratio) == (box, ratio)


@pytest.mark.parametrize(
    ("hole", "ratio", "box"),
    [
        ((0, 3, NAN), 2.0, (0, 100, 400, 500)),  # beside the best window of 4 x 4 cells: beats the sharpness of 3.0
        ((5, 5, INF), 1.0, (400, 400, 600, 600)),
    ],
)
def test_official_lets_cells_that_are_no_numbers_win(hole: Change, ratio: float, box: Box) -> None:
    cells = planted(6, 6, C, hole)
    choice = select_crop(cells, 600, 600, 200, "official")
    assert (choice.ratio, choice.box_px) == (ratio, box) and not math.isfinite(choice.sharpness)
    corrected = select_crop(cells, 600, 600, 200)
    assert (corrected.box_px, corrected.ratio) == ((90, 190, 410, 510), 1.6)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, NAN, INF, -INF, 1e-30])
def test_a_map_that_says_nothing_gives_the_whole_picture(value: float) -> None:
    choice = select_crop(torch.full((7, 5), value), 800, 600, 100)
    assert choice.whole and choice.box_px == (0, 0, 800, 600) and choice.sharpness == 0


def test_a_constant_map_with_holes_gives_the_whole_picture() -> None:
    cells = torch.ones(6, 6)
    cells[2:4, 2:4] = NAN
    assert select_crop(cells, 600, 600, 200).whole


def test_rounding_of_single_precision_is_no_contrast() -> None:
    cells = 0.3 * (1 + 1e-7 * torch.rand(8, 8, generator=torch.Generator().manual_seed(1)))
    assert select_crop(cells, 800, 800, 100).whole


def test_a_hole_in_the_object_is_filled() -> None:
    cells = planted(24, 24, K, (11, 16, NAN))
    assert select_crop(cells, 1024, 768, 336).box_px == (536, 200, 872, 536)


def test_a_field_larger_than_the_window_is_cut_in_its_middle() -> None:
    cells = planted(24, 24, (slice(3, 13), slice(7, 17), 5.0))
    assert select_crop(cells, 2400, 2400, 400).box_px == (1000, 600, 1400, 1000)
    assert select_crop(cells, 2400, 2400, 400, "official").box_px == (700, 300, 1100, 700)


def test_centring_loses_no_second_object() -> None:
    cells = torch.zeros(5, 9)
    cells[2, 3], cells[2, 5] = 10, 6
    # the stronger one alone would be centred on, at x = 383, and cut the other off
    assert select_crop(cells, 900, 500, 300, ratios=(1.0,)).box_px == (300, 100, 600, 400)
    cells[2, 5] = 0.5
    assert select_crop(cells, 900, 500, 300, ratios=(1.0,)).box_px == (200, 100, 500, 400)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 10**6), st.sampled_from([0.0, NAN, INF]))
def test_the_crop_lies_in_the_picture(size: Sizes, seed: int, fill: float) -> None:
    rows, columns, width, height, base = size
    choice = select_crop(random_map(rows, columns, seed, 9, fill, 0.1), width, height, base)
    x0, y0, x1, y1 = choice.box_px
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    assert all(edge == int(edge) for edge in choice.box_px)
    side = 2 * math.floor(base * choice.ratio / 2)
    assert choice.whole or (x1 - x0, y1 - y0) == (min(side, width), min(side, height))
    assert choice.whole == (choice.box_px == (0, 0, width, height))


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 10**6), st.sampled_from([1e-12, 3.7e-4, 0.1, 7.0, 1e15]))
def test_a_positive_factor_changes_nothing(size: Sizes, seed: int, factor: float) -> None:
    rows, columns, width, height, base = size
    cells = random_map(rows, columns, seed, 30)
    for mode in ("official", "corrected"):
        plain = select_crop(cells, width, height, base, mode)  # type: ignore[arg-type]
        scaled = select_crop(cells * factor, width, height, base, mode)  # type: ignore[arg-type]
        assert (plain.box_px, plain.ratio, plain.window_cells) == (scaled.box_px, scaled.ratio, scaled.window_cells)
        assert scaled.sharpness == pytest.approx(plain.sharpness * factor, rel=1e-6, abs=1e-9 * factor, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 10**6), st.integers(0, 80))
def test_a_planted_peak_is_inside(size: Sizes, seed: int, place: int) -> None:
    rows, columns, width, height, base = size
    assume(base >= 2)
    cells = random_map(rows, columns, seed, 5)
    row, column = place % rows, place // rows % columns
    cells[row, column] = 5000
    x0, y0, x1, y1 = select_crop(cells, width, height, base).box_px
    middle_x, middle_y = (column + 0.5) * width / columns, (row + 0.5) * height / rows
    assert x0 <= middle_x <= x1 and y0 <= middle_y <= y1


def test_a_planted_peak_is_in_the_middle() -> None:
    noise = torch.rand(32, 40, generator=torch.Generator().manual_seed(3))
    noise[20:22, 11:13] += 8
    x0, y0, x1, y1 = select_crop(noise, 1200, 800, 250).box_px  # cells of 30 x 25: middle at 360, 525
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((360, 525), abs=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(6), 10, 10, 5), r"map of \(6,\) cells"),
        ((torch.ones(0, 3), 10, 10, 5), r"map of \(0, 3\) cells"),
        ((torch.ones(2, 2), 0, 10, 5), "on 0 x 10 px"),
        ((torch.ones(2, 2), 10, 10, 0), "window sides"),
        ((torch.ones(2, 2), 10, 10, 5, "official", ()), r"window sides \[\] px"),
        ((torch.ones(2, 2), 10, 10, 5, "best"), "'best', expected official or corrected"),
    ],
)
def test_impossible_requests_are_refused(arguments: tuple[torch.Tensor, int, int, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_crop(*arguments)
