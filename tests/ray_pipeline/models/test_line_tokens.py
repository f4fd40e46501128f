"""Lines of a page as tokens: what follows what, and where each character stands."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.models.contract import TextLine
from ray_pipeline.models.line_tokens import FEATURES, LEAST_LOGPROB, character_boxes, line_tokens, token_features

PAGE = (0.0, 0.0, 200.0, 100.0)
TOTAL = TextLine((10.0, 50.0, 60.0, 60.0), "TOTAL", -0.1)
AMOUNT = TextLine((160.0, 51.0, 180.0, 61.0), "9.90", -0.3)
SHOP = TextLine((80.0, 10.0, 120.0, 20.0), "SHOP", -0.2)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([], "\n"),
        ([SHOP], "\nSHOP"),
        ([SHOP, TOTAL, AMOUNT], "\nSHOP\nTOTAL\t9.90"),
        ([TOTAL, SHOP], "\nTOTAL\nSHOP"),
        ([AMOUNT, TOTAL], "\n9.90\nTOTAL"),  # further left: not the same row going on
    ],
)
def test_rows_begin_with_a_feed_and_go_on_with_a_tab(lines: list[TextLine], text: str) -> None:
    assert line_tokens(lines, PAGE, (200, 100)).characters == text


def test_a_token_stands_where_its_character_is_printed() -> None:
    tokens = line_tokens([SHOP, TOTAL, AMOUNT], PAGE, (200, 100))
    at = {sign: tokens.boxes_unit[tokens.characters.index(sign)] * (200, 100, 200, 100) for sign in "SLT\t\n"}
    assert at["\n"].tolist() == [0, 0, 200, 100]
    assert at["S"].tolist() == pytest.approx([80, 10, 90, 20])
    assert at["L"].tolist() == pytest.approx([50, 50, 60, 60])
    assert at["\t"].tolist() == pytest.approx(list(AMOUNT.box_px))


def test_characters_of_a_line_that_falls_follow_it_down() -> None:
    boxes = character_boxes(TextLine((0.0, 0.0, 100.0, 30.0), "abcd", -0.1, slope=0.2))
    assert [box[1] for box in boxes] == pytest.approx([2.5, 7.5, 12.5, 17.5])
    assert all(box[3] - box[1] == pytest.approx(10.0) for box in boxes)
    rising = character_boxes(TextLine((0.0, 0.0, 100.0, 30.0), "abcd", -0.1, slope=-0.2))
    assert [box[1] for box in rising] == pytest.approx([17.5, 12.5, 7.5, 2.5])


@given(
    st.lists(st.tuples(st.floats(0, 150), st.floats(0, 80), st.text("AB 1.", min_size=1, max_size=9)), max_size=6),
    st.floats(-50, 0),
)
def test_as_many_boxes_and_features_as_characters(places: list[tuple[float, float, str]], logprob: float) -> None:
    lines = [TextLine((x, y, x + 30, y + 8), text, logprob) for x, y, text in places]
    tokens = line_tokens(lines, PAGE, (200, 100))
    features = token_features(tokens, zoomed=True)
    assert (
        len(tokens)
        == len(tokens.boxes_unit)
        == len(tokens.logprobs)
        == 1 + sum(len(t) for _, _, t in places) + max(0, len(lines) - 1)
    )
    assert features.shape == (len(tokens), FEATURES) and np.isfinite(features).all()
    assert tokens.logprobs.min() >= LEAST_LOGPROB


def test_places_half_a_line_apart_are_told_apart() -> None:
    """On a page of a hundred lines."""
    one, other = (
        token_features(line_tokens([TextLine((10.0, y, 60.0, y + 0.8), "A", 0.0)], PAGE, (200, 100)), False)[1]
        for y in (50.0, 50.5)
    )
    assert np.abs(one - other).max() > 0.5
