"""Lines of overlapping tiles become one list: everything once, nothing lost at a seam."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.methods.line_merge import ReadTile, merge_lines
from ray_pipeline.methods.reading_tiles import reading_tiles
from ray_pipeline.models.contract import TextLine
from schemas.picture import Box
from tests.stand_ins.planted_page import Planted, pages, read


def tiles_read(lines: list[Planted], boxes: tuple[Box, ...]) -> list[ReadTile]:
    return [ReadTile(box, tuple(line for one in lines if (line := read(one, box)) is not None)) for box in boxes]


def known(lines: list[Planted]) -> list[tuple[str, tuple[int, ...]]]:
    return sorted((one.text, tuple(round(edge, 3) for edge in one.box_px)) for one in lines)


def found(lines: tuple[TextLine, ...]) -> list[tuple[str, tuple[int, ...]]]:
    return sorted((one.text, tuple(round(edge, 3) for edge in one.box_px)) for one in lines)


@settings(max_examples=25, deadline=None)
@given(pages(), st.integers(200, 520), st.sampled_from((0.2, 0.25, 0.35)))
def test_tiles_read_perfectly_and_merged_are_the_page(page: tuple[int, int, list[Planted]], side: int, overlap: float) -> None:
    width, height, lines = page
    tiles = tiles_read(lines, reading_tiles(width, height, side, overlap, 400))
    assert found(merge_lines(tiles, width, height, 0.5, 0.6)) == known(lines)


@settings(max_examples=8, deadline=None)
@given(pages(), st.integers(260, 520), st.sampled_from(((1.0, 0.5), (1.0, 2.0), (1.0, 1.0))))
def test_several_scales_are_the_page_once(page: tuple[int, int, list[Planted]], side: int, scales: tuple[float, ...]) -> None:
    width, height, lines = page
    boxes = tuple(box for scale in scales for box in reading_tiles(width, height, side / scale, 0.25, 400))
    assert found(merge_lines(tiles_read(lines, boxes), width, height, 0.5, 0.6)) == known(lines)


def line(x0: float, text: str, y0: float = 100.0, sure: float = -0.2, height: float = 20.0) -> TextLine:
    """Letters are half as wide as high."""
    return TextLine((x0, y0, x0 + len(text) * height / 2, y0 + height), text, sure)


LEFT, RIGHT = (0.0, 0.0, 300.0, 400.0), (200.0, 0.0, 500.0, 400.0)  # two tiles of a page of 500 x 400


@pytest.mark.parametrize(
    ("left", "right", "texts"),
    [
        ([], [], []),
        ([line(10, "only here")], [], ["only here"]),
        ([line(230, "once", sure=-0.3)], [line(231, "onec", sure=-0.1)], ["onec"]),  # the surer reading
        ([line(230, "once", sure=-0.1)], [line(231, "onec", sure=-0.3)], ["once"]),
        ([line(220, "Twice.", sure=-0.3)], [line(221, "wice.", sure=-0.1)], ["Twice."]),  # a seam is near: not the surer one
        # the last letter before a seam and the first one behind it are often misread
        ([line(100, "a line across the secm")], [line(200, "mthe seam of two")], ["a line across the seam of two"]),
        ([line(100, "a line across the se")], [line(200, "ss the seam of two")], ["a line across the seam of two"]),
        # one reading lost a letter, so no shift fits all of what both have seen
        ([line(100, "a line across the sea")], [line(200, "s he seam of two tiles")], ["a line across the seam of two tiles"]),
        ([line(140, "word after word")], [line(200, "afterword after wor")], ["word afterword after wor"]),
        ([line(190, "left cell")], [line(320, "right cell")], ["left cell", "right cell"]),
        ([line(210, "upper", 100)], [line(210, "upper", 118)], ["upper", "upper"]),  # equal, one below the other
        ([line(210, "BIG", 80, height=60)], [line(230, "small", 100)], ["BIG", "small"]),
        ([line(220, "12.50", sure=-0.1)], [line(220, "SALE!", sure=-0.2)], ["12.50"]),  # one place has one text
        ([line(220, "12.50")], [line(245, "X7 4")], ["12.50", "X7 4"]),  # boxes that only touch, texts that differ
    ],
)
def test_two_readings(left: list[TextLine], right: list[TextLine], texts: list[str]) -> None:
    merged = merge_lines([ReadTile(LEFT, tuple(left)), ReadTile(RIGHT, tuple(right))], 500, 400, 0.5, 0.6)
    assert [one.text for one in merged] == texts


def test_a_joined_line_is_as_sure_as_its_letters() -> None:
    left, right = line(200, "abcdefghij", sure=-0.5), line(220, "cdefghijklmnopqrstuv", sure=-0.2)
    (joined,) = merge_lines([ReadTile(LEFT, (left,)), ReadTile(RIGHT, (right,))], 500, 400, 0.5, 0.6)
    assert joined.text == "abcdefghijklmnopqrstuv" and joined.logprob == pytest.approx(-0.3)
    assert joined.box_px == (200, 100, 420, 120)


def test_slices_are_merged_by_their_texts() -> None:
    """Where boxes are guesses, like texts near each other in two tiles are one line; texts of one tile never are."""
    upper, lower = (0.0, 0.0, 500.0, 250.0), (0.0, 200.0, 500.0, 400.0)
    first = ReadTile(upper, tuple(TextLine((0, y, 500, y + 50), f"row {y} of text", -0.2) for y in range(0, 250, 50)), False)
    again = [TextLine((0, 200, 500, 240), "row 200 of text", -0.1), TextLine((0, 240, 500, 280), "row 240 differs much", -0.2)]
    merged = merge_lines([first, ReadTile(lower, tuple(again), False)], 500, 400, 0.5, 0.6)
    assert [one.text for one in merged] == [f"row {y} of text" for y in range(0, 250, 50)] + ["row 240 differs much"]
    twins = ReadTile(upper, (TextLine((0, 0, 500, 50), "0.00", -0.2), TextLine((0, 50, 500, 100), "0.00", -0.2)), False)
    assert len(merge_lines([twins], 500, 400, 0.5, 0.6)) == 2


def leaning(y: float, text: str, first: int, last: int, slope: float) -> TextLine:
    """Letters first..last of a line that begins at x = 100 with its middle at y, 20 high."""
    x0, x1 = 100.0 + 10 * first, 100.0 + 10 * last
    ends = [y + slope * (x - 100) for x in (x0, x1)]
    return TextLine((x0, min(ends) - 10, x1, max(ends) + 10), text[first:last], -0.1, slope)


@pytest.mark.parametrize("slope", [-0.12, 0.05, 0.12])
def test_lines_of_a_page_that_lies_crookedly_stay_apart(slope: float) -> None:
    """Their boxes lie over each other by more than half; where they run tells them apart."""
    texts = ["the first line of them", "2.50", "another line below it", "and the third and last"]
    rows = [(200 + 26.0 * k, text) for k, text in enumerate(texts)]
    left = ReadTile(LEFT, tuple(leaning(y, text, 0, min(len(text), 20), slope) for y, text in rows))
    right = ReadTile(RIGHT, tuple(leaning(y, text, 10, len(text), slope) for y, text in rows if len(text) > 10))
    merged = merge_lines([left, right], 500, 400, 0.5, 0.6)
    assert sorted(one.text for one in merged) == sorted(texts)
    assert all(one.slope == pytest.approx(slope) for one in merged)
