"""Tiles of a page: they cover it, overlap enough, are small enough, and not too many."""

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ray_pipeline.methods.reading_tiles import quarters, reading_tiles
from schemas.picture import Box


@pytest.mark.parametrize(
    ("size", "side", "overlap", "most", "tiles"),
    [
        ((300, 200), 300, 0.2, 64, [(0, 0, 300, 200)]),
        ((301, 200), 300, 0.2, 64, [(0, 0, 300, 200), (1, 0, 301, 200)]),
        ((540, 200), 300, 0.2, 64, [(0, 0, 300, 200), (240, 0, 540, 200)]),
        ((541, 200), 300, 0.2, 64, [(0, 0, 300, 200), (120, 0, 420, 200), (241, 0, 541, 200)]),
        ((200, 540), 300, 0.2, 64, [(0, 0, 200, 300), (0, 240, 200, 540)]),
        ((540, 540), 300, 0.2, 64, [(0, 0, 300, 300), (240, 0, 540, 300), (0, 240, 300, 540), (240, 240, 540, 540)]),
        ((540, 540), 300, 0.2, 1, [(0, 0, 540, 540)]),
        ((1, 1), 300, 0.2, 64, [(0, 0, 1, 1)]),
    ],
)
def test_cases(size: tuple[int, int], side: int, overlap: float, most: int, tiles: list[Box]) -> None:
    assert list(reading_tiles(*size, side, overlap, most)) == tiles


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(8, 1500), st.floats(0, 0.5), st.integers(1, 100))
@example(5000, 5000, 1.0, 0.5, 1)
def test_they_cover_the_page_and_overlap(width: int, height: int, side: float, overlap: float, most: int) -> None:
    tiles = reading_tiles(width, height, side, overlap, most)
    assert 1 <= len(tiles) <= most and len(set(tiles)) == len(tiles)
    for low, high, length in ((0, 2, width), (1, 3, height)):
        spans = sorted({(tile[low], tile[high]) for tile in tiles})
        assert spans[0][0] == 0 and spans[-1][1] == length
        for (_, end), (start, other) in itertools.pairwise(spans):
            assert end - start >= overlap * (other - start) - 1
        grown = len(reading_tiles(width, height, side, overlap, 10**8)) > most if side >= 100 else True
        assert grown or all(end - start <= side for start, end in spans)
    assert len(tiles) == len({tile[::2] for tile in tiles}) * len({tile[1::2] for tile in tiles})


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 900), st.integers(1, 900), st.floats(0, 0.5))
def test_quarters_cover_their_region(x: int, y: int, width: int, height: int, overlap: float) -> None:
    region = (float(x), float(y), float(x + width), float(y + height))
    parts = quarters(region, overlap)
    assert len(parts) == (1 + (width > 1)) * (1 + (height > 1))
    assert (min(p[0] for p in parts), min(p[1] for p in parts)) == region[:2]
    assert (max(p[2] for p in parts), max(p[3] for p in parts)) == region[2:]
    for low, high, length in ((0, 2, width), (1, 3, height)):
        spans = sorted({(part[low], part[high]) for part in parts})
        assert all(float(edge).is_integer() for span in spans for edge in span)
        if len(spans) == 2:
            assert spans[0][1] - spans[1][0] >= overlap * (spans[0][1] - spans[0][0]) - 1
            assert spans[0][1] < region[high] or length <= 2


@pytest.mark.parametrize(("side", "overlap", "most"), [(0, 0.2, 4), (300, -0.1, 4), (300, 0.6, 4), (300, 0.2, 0)])
def test_nonsense_is_refused(side: float, overlap: float, most: int) -> None:
    with pytest.raises(ValueError, match="expected at least 1 x 1, 1, 0..0.5 and 1"):
        reading_tiles(300, 200, side, overlap, most)
