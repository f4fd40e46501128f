"""Boxes of print end where print ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.models.print_boxes import PrintedWords, on_print, printed_words
from schemas.picture import Box

TOTAL, AMOUNT, CASH = (10.0, 10.0, 60.0, 20.0), (70.0, 10.0, 100.0, 20.0), (10.0, 30.0, 50.0, 40.0)
LINES = [PrintedWords((TOTAL, AMOUNT)), PrintedWords((CASH,))]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        pytest.param((12, 8, 58, 19), TOTAL, id="one word, some pixels off"),
        pytest.param((5, 14, 104, 24), (10, 10, 100, 20), id="a whole line"),
        pytest.param((66, 12, 99, 22), AMOUNT, id="the last word"),
        pytest.param((12, 33, 49, 43), CASH, id="the line that it covers more of"),
        pytest.param((10, 10, 100, 40), (10, 10, 100, 40), id="several lines are left as they are"),
        pytest.param((200, 200, 240, 210), (200, 200, 240, 210), id="no print near"),
        pytest.param((10, 19.5, 60, 29.5), (10, 19.5, 60, 29.5), id="hardly on any print"),
    ],
)
def test_a_box_is_the_words_it_comes_nearest_to(written: Box, meant: Box) -> None:
    assert on_print(written, LINES) == meant


def test_a_page_without_print_leaves_boxes_alone() -> None:
    assert on_print((1.0, 2.0, 3.0, 4.0), []) == (1.0, 2.0, 3.0, 4.0)


def test_words_end_at_spaces_lines_at_their_tokens() -> None:
    def at(k: int) -> Box:
        return 10.0 * k, 5.0 + k, 10.0 * k + 9, 9.0 + k

    (first, second) = printed_words("\nAB C\tD", [at(k) for k in range(7)])
    assert first.boxes_px == ((10.0, 6.0, 29.0, 11.0), (40.0, 9.0, 49.0, 13.0)) and second.boxes_px == (at(6),)


edge = st.floats(0, 200, allow_nan=False)


@given(edge, edge, st.floats(1, 100), st.floats(1, 100))
def test_what_is_meant_begins_and_ends_with_words_or_nothing_changes(x: float, y: float, wide: float, tall: float) -> None:
    written = x, y, x + wide, y + tall
    meant = on_print(written, LINES)
    assert meant in (written, TOTAL, AMOUNT, CASH, (10, 10, 100, 20))
    assert on_print(meant, LINES) == meant
