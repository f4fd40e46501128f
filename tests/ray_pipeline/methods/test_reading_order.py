"""Pages of every kind, and the order in which people read them."""

import random

import pytest

from ray_pipeline.methods.reading_order import levelled, page_text, reading_order
from schemas.picture import Box

PLACED = tuple[float, float, str]  # left end, top, text of a line of height 20 with letters 10 wide


def laid_out(*lines: PLACED, height: float = 20.0) -> tuple[list[Box], list[str]]:
    boxes = [(x, y, x + len(text) * height / 2, y + height) for x, y, text in lines]
    return boxes, [text for _, _, text in lines]


def column(x: float, y: float, texts: list[str], step: float = 26.0) -> list[PLACED]:
    return [(x, y + k * step, text) for k, text in enumerate(texts)]


LEFT = ["it was a night of", "rain and of wind and", "nobody came to the", "house on the hill"]
RIGHT = ["until the clock had", "struck twelve times", "and a light went on", "behind the curtain"]
THIRD = ["which nobody in the", "village ever saw who", "was not in bed long", "before that hour"]
RECEIPT = [("BREAD WHOLE GRAIN", "2.49"), ("MILK 1L", "1.09"), ("APPLES RED 1KG", "3.29"), ("TOTAL", "6.87"), ("CASH", "10.00")]

PAGES: dict[str, tuple[list[PLACED], list[str]]] = {
    "nothing": ([], []),
    "one line": ([(5, 5, "alone")], ["alone"]),
    "one column": (column(40, 40, LEFT), LEFT),
    "two columns": (column(40, 40, LEFT) + column(300, 40, RIGHT), LEFT + RIGHT),
    "two columns whose lines are not level": (column(40, 40, LEFT) + column(300, 51, RIGHT), LEFT + RIGHT),
    "three columns": (column(40, 40, LEFT) + column(300, 40, RIGHT) + column(560, 40, THIRD), LEFT + RIGHT + THIRD),
    "a title over two columns and a line under them": (
        [(100, 5, "a title across both of the columns"), *column(40, 40, LEFT), *column(300, 40, RIGHT),
         (60, 160, "a line at the foot that crosses it all")],
        ["a title across both of the columns", *LEFT, *RIGHT, "a line at the foot that crosses it all"],
    ),
    "columns over columns of other widths": (
        [*column(40, 40, LEFT), *column(300, 40, RIGHT), (40, 160, "and now something that goes across the page"),
         *column(40, 200, ["narrow left side", "two of the left", "three of that side"]),
         *column(240, 200, ["wider lines of the right side", "of the page with more words", "in each of them than left"])],
        [*LEFT, *RIGHT, "and now something that goes across the page", "narrow left side", "two of the left",
         "three of that side", "wider lines of the right side", "of the page with more words", "in each of them than left"],
    ),
    "a receipt": (
        [place for k, (label, amount) in enumerate(RECEIPT)
         for place in ((20, 30 + 26 * k, label), (400 - 10 * len(amount), 30 + 26 * k, amount))],
        [f"{label} {amount}" for label, amount in RECEIPT],
    ),
    "a table of short cells": (
        [(60 + 120 * c, 30 + 26 * r, f"r{r}c{c}") for r in range(6) for c in range(4)],
        [" ".join(f"r{r}c{c}" for c in range(4)) for r in range(6)],
    ),
    "two lines side by side, too few for columns": (
        column(40, 40, LEFT[:2]) + column(300, 40, RIGHT[:2]),
        [f"{LEFT[0]} {RIGHT[0]}", f"{LEFT[1]} {RIGHT[1]}"],
    ),
    "a heading between two halves of one column": (column(40, 40, LEFT) + column(300, 200, RIGHT), LEFT + RIGHT),
}  # fmt: skip


@pytest.mark.parametrize("name", list(PAGES))
@pytest.mark.parametrize("seed", [0, 1])
def test_pages_are_read_in_order_however_their_lines_came(name: str, seed: int) -> None:
    lines, expected = PAGES[name]
    mixed = list(lines)
    random.Random(seed).shuffle(mixed)
    boxes, texts = laid_out(*mixed)
    ordered = reading_order(boxes)
    assert page_text(texts, ordered).splitlines() == expected
    assert sorted(ordered.order) == list(range(len(lines)))


def test_columns_can_be_left_alone() -> None:
    boxes, texts = laid_out(*column(40, 40, LEFT), *column(300, 40, RIGHT))
    across = page_text(texts, reading_order(boxes, columns=False)).splitlines()
    assert across == [f"{left} {right}" for left, right in zip(LEFT, RIGHT, strict=True)]


def test_a_slanted_row_stays_one_row() -> None:
    """Each word a quarter of its height lower than the one before it."""
    words = [f"word{k}" for k in range(6)]
    slanted = [(60.0 * k, 5.0 * k, word) for k, word in enumerate(words)] + [(60.0 * k, 40 + 5.0 * k, "next") for k in range(6)]
    boxes, texts = laid_out(*slanted)
    assert page_text(texts, reading_order(boxes)).splitlines() == [" ".join(words), "next next next next next next"]


@pytest.mark.parametrize("slope", [-0.06, 0.03, 0.06])
def test_a_page_that_lies_crookedly_is_read_along_its_rows(slope: float) -> None:
    """At 0.06 an amount 380 to the right lies as low as the label of the next row."""
    lines, expected = PAGES["a receipt"]
    boxes, texts = laid_out(*lines)
    leaning = [(x0, y0 + min(slope * x0, slope * x1), x1, y1 + max(slope * x0, slope * x1)) for x0, y0, x1, y1 in boxes]
    level = levelled(leaning, [slope] * len(lines))
    assert page_text(texts, reading_order(level)).splitlines() == expected
    assert [box[3] - box[1] for box in level] == pytest.approx([20.0] * len(lines))
    if abs(slope) > 0.05:
        assert page_text(texts, reading_order(leaning)).splitlines() != expected
    assert levelled(boxes, [0.0] * len(boxes)) == boxes


def test_large_and_small_letters_of_one_row() -> None:
    boxes = [(10.0, 10.0, 110.0, 60.0), (120.0, 25.0, 160.0, 40.0), (10.0, 70.0, 200.0, 90.0)]
    assert reading_order(boxes).rows == ((0, 1), (2,))
