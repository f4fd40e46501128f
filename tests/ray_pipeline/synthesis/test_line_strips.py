"""Rendered lines: reproducible, of sane shape, with ink, in fonts that have the characters."""

import numpy as np
import pytest

from ray_pipeline.synthesis.fonts import BUILT_IN, evaluation_fonts
from ray_pipeline.synthesis.line_strips import LineRenderer, draws, is_text_font


def test_strips_are_grey_of_plausible_shape_and_show_something() -> None:
    renderer = LineRenderer(evaluation_fonts(), 3)
    lines = [renderer.line() for _ in range(60)]
    assert all(line.grey_YX.dtype == np.uint8 and line.grey_YX.ndim == 2 for line in lines)
    assert all(12 <= line.grey_YX.shape[0] <= 80 and line.grey_YX.shape[1] >= 4 for line in lines)
    assert all(line.text and line.text == " ".join(line.text.split()) for line in lines)
    assert sum(np.ptp(line.grey_YX) > 25 for line in lines) > 0.9 * len(lines)


def test_the_seed_decides() -> None:
    first, second, other = (LineRenderer(evaluation_fonts(), seed) for seed in (1, 1, 2))
    pairs = [(first.line(), second.line()) for _ in range(10)]
    assert all(a.text == b.text and np.array_equal(a.grey_YX, b.grey_YX) for a, b in pairs)
    assert other.line().text != pairs[0][0].text


def test_a_given_text_is_drawn_and_what_no_font_has_is_left_out() -> None:
    renderer = LineRenderer([BUILT_IN], 0)
    assert renderer.line("Tea   4.00").text == "Tea 4.00"
    assert renderer.line("A\u4e2dB").text == "AB"


def test_plain_lines_give_way_to_all_kinds() -> None:
    renderer = LineRenderer(evaluation_fonts(), 0, plain_lines=40)
    shown = [renderer.line() for _ in range(80)]
    plain = [len(line.text) <= 8 and line.grey_YX.max() == 255 and line.grey_YX.min() < 60 for line in shown]
    assert sum(plain[:5]) == 5
    assert sum(plain[40:]) < 20
    assert max(len(line.text) for line in shown[40:]) > 20


@pytest.mark.parametrize(("text", "there"), [("Total: 4.20", True), ("21°", True), ("中", False)])
def test_a_font_has_its_characters(text: str, there: bool) -> None:
    assert draws(BUILT_IN, text) is there


def test_the_shipped_fonts_are_text_fonts() -> None:
    assert all(is_text_font(font) for font in evaluation_fonts())
