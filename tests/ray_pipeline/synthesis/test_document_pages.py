"""Documents are the same for the same seed, and their lines lie where their ink is."""

import math
import random

import numpy as np
import pytest

from ray_pipeline.synthesis.document_pages import _Lie, sample_document
from ray_pipeline.synthesis.document_rows import document_rows
from ray_pipeline.synthesis.document_sheets import GAP_CAPITALS, grouped, printable, sample_sheet
from ray_pipeline.synthesis.fonts import evaluation_fonts

FONTS = evaluation_fonts()


def test_a_page_is_a_function_of_its_seed() -> None:
    first, again, other = (sample_document(seed, FONTS, (10, 14), most_rows=8) for seed in (5, 5, 6))
    assert np.array_equal(first.rgb, again.rgb)
    assert [line.text for line in first.lines] == [line.text for line in again.lines]
    assert first.grey_YX.shape != other.grey_YX.shape or not np.array_equal(first.grey_YX, other.grey_YX)


@pytest.mark.parametrize("seed", range(4))
def test_lines_lie_on_their_ink(seed: int) -> None:
    """Turned and bent, but unworn: the middle of each line is darker than the strip of paper just above it, mostly."""
    page = sample_document(seed, FONTS, (14, 15), most_rows=12, worn=False)
    assert page.lines
    inside, above = [], []
    for line in page.lines:
        (left, top), (right, bottom) = line.outline_px[:, 2]
        x0, x1, y0, y1 = (round(float(v)) for v in (*line.outline_px[0, [1, 3], 0], top, bottom))
        assert any(sign.isalnum() for sign in line.text)
        assert y1 - y0 >= 0.9 * page.capital_px * 0.5
        assert abs(left - right) < y1 - y0
        inside.append(page.grey_YX[y0 + 1 : y1, x0:x1].min(initial=255))
        above.append(page.grey_YX[max(0, y0 - 4) : max(0, y0 - 2), x0:x1].mean() if y0 > 4 < x1 - x0 else 255)
    assert np.mean(np.asarray(above) - np.asarray(inside, float)) > 30


def test_boxes_stay_near_the_page() -> None:
    for seed in range(20, 24):
        page = sample_document(seed, FONTS, (10, 12), most_rows=10)
        high, wide = page.grey_YX.shape
        for x0, y0, x1, y1 in (line.box_px for line in page.lines):
            assert x0 < x1
            assert y0 < y1
            assert -0.1 * wide < x0 < 1.1 * wide
            assert -0.1 * high < y0 < 1.1 * high


def test_small_paper_leaves_most_of_the_page_empty() -> None:
    page = sample_document(3, FONTS, (10, 12), most_rows=10, paper="small")
    boxes = np.asarray([line.box_px for line in page.lines])
    covered = (boxes[:, 2].max() - boxes[:, 0].min()) * (boxes[:, 3].max() - boxes[:, 1].min())
    assert covered < 0.7 * page.grey_YX.size


def test_page_and_sheet_are_each_others_inverse() -> None:
    lie = _Lie(math.radians(4), 310.0, 420.0, (500, 700), ((6.0, 0.012, 0.4), (3.0, 0.008, 2.0)))
    places = np.asarray([[x, y] for x in (0.0, 130.0, 500.0) for y in (0.0, 333.0, 700.0)])
    assert np.abs(lie.to_sheet(lie.to_page(places)) - places).max() < 0.01
    assert np.abs(lie.to_page(places) - places).max() > 20  # it does lie crookedly


GAP = GAP_CAPITALS * 10


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([("A", 0, 10), ("B", 10 + GAP - 1, 50)], ["A B"]),
        ([("A", 0, 10), ("B", 10 + GAP + 1, 50)], ["A", "B"]),
        ([("A", 0, 10), ("-", 15, 20), ("B", 25, 30)], ["A - B"]),
        ([("---", 0, 30), ("**", 80, 90)], []),
        ([], []),
    ],
)
def test_words_of_a_row_become_lines(words: list[tuple[str, float, float]], expected: list[str]) -> None:
    lines = grouped([(text, (x0, 3.0, x1, 13.0)) for text, x0, x1 in words], 10.0, 12.0)
    assert [line.text for line in lines] == expected
    assert all(line.box[1] == 2.0 and line.box[3] == 13.0 for line in lines)


def test_every_kind_of_row_occurs_and_is_printed() -> None:
    kinds = {row.kind for seed in range(60) for row in document_rows(random.Random(seed), 60)}
    assert kinds == {"text", "rule", "bars", "blocks", "drawing", "blank"}
    sheet = sample_sheet(1, FONTS, 12.0, 20)
    assert sheet.ink_YX.max() == 255
    assert sheet.lines


def test_only_what_a_font_has_is_printed() -> None:
    assert printable("Total 1.20\U000f1234", FONTS[0]) == "Total 1.20"


def test_fonts_that_cannot_print_are_refused() -> None:
    with pytest.raises(IndexError):
        sample_document(1, [])
