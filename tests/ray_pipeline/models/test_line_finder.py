"""Planted maps are found again as lines; the weights that come with the package find the lines of rendered pages."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import load_file, save_file

from ray_pipeline.models.line_finder import (
    STEEPEST,
    STRIDE,
    FoundLine,
    LineFinder,
    LineFinderNetwork,
    connected,
    lines_of,
    save,
)
from ray_pipeline.models.weights import EMBEDDED, LINE_FINDER
from ray_pipeline.synthesis.document_pages import DocumentPage, sample_document
from ray_pipeline.synthesis.fonts import evaluation_fonts

Maps = tuple[np.ndarray, np.ndarray, np.ndarray]


def planted(rows: int, columns: int, lines: list[FoundLine]) -> Maps:
    """Perfect maps of straight lines."""
    core, upper, lower = (np.zeros((rows, columns), np.float32) for _ in range(3))
    y, x = ((np.indices((rows, columns)) + 0.5) * STRIDE).astype(np.float32)
    for line in lines:
        middle = line.middle_y_px + line.slope * (x - (line.x0_px + line.x1_px) / 2)
        patch = (x > line.x0_px) & (x < line.x1_px) & (np.abs(y - middle) <= max(line.height_px / 4, STRIDE * 0.6))
        core[patch] = line.score
        upper[patch], lower[patch] = (y - middle + line.height_px / 2)[patch], (middle + line.height_px / 2 - y)[patch]
    return core, upper, lower


def near(found: FoundLine, expected: FoundLine) -> bool:
    ends = abs(found.x0_px - expected.x0_px) <= STRIDE and abs(found.x1_px - expected.x1_px) <= STRIDE
    same = abs(found.middle_y_px - expected.middle_y_px) < 0.5 and abs(found.height_px - expected.height_px) < 0.5
    return ends and same and abs(found.slope - expected.slope) < 0.003 and abs(found.score - expected.score) < 1e-3


@pytest.mark.parametrize("slope", [0.0, 0.03, -0.08])
@pytest.mark.parametrize("height", [7.0, 16.0, 40.0])
def test_planted_lines_are_found_again(slope: float, height: float) -> None:
    wanted = [FoundLine(20.0, 380.0, 60.0, slope, height, 0.9), FoundLine(40.0, 360.0, 160.0, slope, height, 0.8)]
    found = sorted(lines_of(*planted(64, 100, wanted)), key=lambda line: line.middle_y_px)
    assert len(found) == 2
    assert all(near(one, other) for one, other in zip(found, wanted, strict=True)), found


def test_a_short_line_lies_like_the_page() -> None:
    long, short = FoundLine(20.0, 380.0, 60.0, 0.05, 16.0, 0.9), FoundLine(20.0, 60.0, 140.0, 0.0, 16.0, 0.9)
    found = lines_of(*planted(64, 100, [long, short]))
    assert [line.slope for line in found] == pytest.approx([0.05, 0.05], abs=0.003)


@pytest.mark.parametrize(("gap", "count"), [(8.0, 1), (12.0, 1), (24.0, 2), (60.0, 2)])
def test_a_small_gap_ends_no_line(gap: float, count: int) -> None:
    pieces = [FoundLine(20.0, 120.0, 60.0, 0.0, 16.0, 0.9), FoundLine(120.0 + gap, 300.0, 60.0, 0.0, 16.0, 0.9)]
    found = lines_of(*planted(40, 100, pieces))
    assert len(found) == count
    assert min(line.x0_px for line in found) == 20.0
    assert max(line.x1_px for line in found) == 300.0


def test_rows_close_together_stay_apart_and_doubt_is_no_line() -> None:
    rows = [FoundLine(20.0, 220.0, 40.0 + 20 * k, 0.0, 16.0, 0.9) for k in range(3)]
    doubt = FoundLine(20.0, 220.0, 120.0, 0.0, 16.0, 0.45)
    assert len(lines_of(*planted(40, 64, [*rows, doubt]))) == 3
    assert lines_of(*planted(40, 64, [])) == []


def test_no_line_is_steeper_than_print_can_lie() -> None:
    assert all(abs(line.slope) <= STEEPEST for line in lines_of(*planted(64, 64, [FoundLine(20, 200, 128, 0.5, 16, 0.9)])))


def test_a_line_is_carried_to_the_page() -> None:
    line = FoundLine(10.0, 30.0, 8.0, 0.1, 4.0, 0.9).moved(3.0, 100.0, 200.0)
    assert line == FoundLine(130.0, 190.0, 224.0, 0.1, 12.0, 0.9)
    assert line.box_px == pytest.approx((130.0, 224.0 - 9.0, 190.0, 224.0 + 9.0))


def flooded(mask: np.ndarray) -> set[frozenset[tuple[int, int]]]:
    """Patches by walking from cell to cell."""
    left, patches = {(int(y), int(x)) for y, x in np.argwhere(mask)}, set()
    while left:
        waiting, patch = [left.pop()], set()
        while waiting:
            y, x = waiting.pop()
            patch.add((y, x))
            near_by = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near_by
            waiting += near_by
        patches.add(frozenset(patch))
    return patches


@settings(max_examples=60)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 12))))
def test_patches_are_what_walking_finds(mask: np.ndarray) -> None:
    found = connected(mask)
    assert {frozenset(zip(rows.tolist(), columns.tolist(), strict=True)) for rows, columns in found} == flooded(mask)
    assert sum(len(rows) for rows, _ in found) == mask.sum()


def test_weights_come_back_and_others_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, file = LineFinderNetwork(), tmp_path / "finder.safetensors"
    save(network, file)
    page = np.random.default_rng(0).integers(0, 255, (50, 70), np.uint8)
    halves = LineFinderNetwork()
    halves.load_state_dict(
        {name: tensor.half().float() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()}
    )
    assert np.array_equal(LineFinder.load(file)._maps(page), LineFinder(halves)._maps(page))
    assert LineFinder.load(file)._maps(page).shape == (3, 13, 18)
    stored = load_file(file)
    save_file({name: tensor for name, tensor in stored.items() if name != "head.bias"}, file)
    with pytest.raises(RuntimeError, match=r"head\.bias"):
        LineFinder.load(file)


def found_share(finder: LineFinder, page: DocumentPage) -> tuple[int, int]:
    """How many of the page's lines are covered, at their middle's height, by what was found; and how many there are."""
    boxes = [line.box_px for line in finder.find(page.grey_YX)]
    right = 0
    for line in page.lines:
        x0, y0, x1, y1 = line.box_px
        middle = (y0 + y1) / 2
        seen = sum(max(0.0, min(x1, b[2]) - max(x0, b[0])) for b in boxes if b[1] < middle < b[3])
        right += seen >= 0.7 * (x1 - x0)
    return right, len(page.lines)


def test_the_shipped_weights_find_the_lines_of_rendered_pages() -> None:
    finder = LineFinder.load(EMBEDDED / LINE_FINDER)
    draw = random.Random(1)
    shares = [found_share(finder, sample_document(draw.getrandbits(40), evaluation_fonts(), (11, 15), 14)) for _ in range(6)]
    assert sum(right for right, _ in shares) >= 0.9 * sum(there for _, there in shares), shares
    assert finder.find(np.full((300, 200), 250, np.uint8)) == []
