"""Likeness of two readings, and the one text of two pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.methods.text_stitch import alike, part_alike, stitched

TEXTS = st.text("abcdefghij ", min_size=1, max_size=30).map(str.strip).filter(bool)


@pytest.mark.parametrize(
    ("first", "second", "whole", "part"),
    [
        ("", "", 1.0, 1.0),
        ("TOTAL 12.50", "total  12.50", 1.0, 1.0),
        ("abcd", "abcx", 0.75, 0.75),
        ("abcd", "wxyz", 0.0, 0.0),
        ("abcd", "", 0.0, 1.0),
        ("cde", "abcdefgh", 6 / 11, 1.0),
        ("cxe", "abcdefgh", 4 / 11, 2 / 3),
    ],
)
def test_likeness(first: str, second: str, whole: float, part: float) -> None:
    for a, b in ((first, second), (second, first)):
        assert alike(a, b) == pytest.approx(whole)
        assert part_alike(a, b) == pytest.approx(part)


@pytest.mark.parametrize(
    ("left", "right", "overlap", "text"),
    [
        ("the quick br", "ck brown fox", 5.0, "the quick brown fox"),
        ("the quick br", "ck brown fox", 6.9, "the quick brown fox"),  # letters of unequal width mislead geometry
        ("the quick br", "ck brown fox", 3.2, "the quick brown fox"),
        ("the quick", "brown fox", -1.2, "the quick brown fox"),  # a gap is a space
        ("the qui", "ck brown fox", 0.0, "the quick brown fox"),
        ("aaaaaa", "aaaaaa", 2.0, "a" * 10),  # where all shifts fit, geometry decides
        ("aaaaaa", "aaaaaa", 4.0, "a" * 8),
        ("the quick bx", "Ok brown fox", 5.0, "the quick brown fox"),  # what is misread at a cut is not taken
        ("abc", "xyz", 2.0, "abyz"),  # nothing agrees: half and half
        ("all of the line", "the", 5.0, "all of the line"),
    ],
)
def test_pieces_become_one_text(left: str, right: str, overlap: float, text: str) -> None:
    assert stitched(left, right, overlap).text == text


@given(TEXTS, TEXTS, st.floats(-20, 40))
def test_nothing_is_invented(left: str, right: str, overlap: float) -> None:
    text = stitched(left, right, overlap).text
    assert len(text) <= len(left) + len(right) + 1
    assert text.startswith(left[: len(left) // 4]) or overlap > len(left) / 2
    assert set(text) <= set(left + right + " ")
