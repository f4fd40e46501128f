"""Loops of a writing model are cut; what pages really repeat is left alone."""

import pytest

from ray_pipeline.methods.repetition import within_reason, without_loops
from ray_pipeline.models.contract import TextLine
from schemas.picture import Box

HERE: Box = (10.0, 10.0, 90.0, 30.0)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("a plain line of a page", "a plain line of a page"),
        ("the the the", "the the the"),
        ("ha" * 7, "ha" * 7),
        ("." * 500, "." * 500),
        ("-" * 200 + " 12", "-" * 200 + " 12"),
        ("0" * 20, "0" * 20),
        ("a" * 40, "aa"),
        ("no " * 40, "no no "),
        ("Total 12.50 " + "no " * 40, "Total 12.50 no no "),
        ("first " + "and then more " * 9 + "last", "first and then more and then more last"),
        ("xy" * 20 + " and " + "ab " * 20, "xyxy and ab ab "),
    ],
)
def test_within_a_line(text: str, kept: str) -> None:
    assert within_reason(text) == kept
    guarded = without_loops([TextLine(HERE, text, -0.5)], placed=True)
    assert guarded.looped == (kept != text) and guarded.lines == (TextLine(HERE, kept, -0.5),)


def below(texts: list[str], step: float = 25.0) -> list[TextLine]:
    return [TextLine((10.0, 10 + step * k, 90.0, 30 + step * k), text, -0.1) for k, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("texts", "placed", "step", "kept"),
    [
        (["0.00"] * 30, True, 25.0, 30),  # a column of a table
        (["0.00"] * 30, False, 25.0, 1),
        (["0.00"] * 3, False, 25.0, 3),
        (["same"] * 30, True, 0.0, 1),  # the same box over and over
        (["a", "b", "c"] * 6, False, 25.0, 3),
        (["title", *["a", "b"] * 5, "foot"], False, 25.0, 4),
        (["a", "b", "c"] * 6, True, 25.0, 18),
        (["a", "b", "c"] * 3, False, 25.0, 9),
        (["a", "b", "a", "c", "a", "d", "a", "e"], False, 25.0, 8),
        ([], False, 25.0, 0),
    ],
)
def test_across_lines(texts: list[str], placed: bool, step: float, kept: int) -> None:
    lines = below(texts, step)
    guarded = without_loops(lines, placed)
    assert len(guarded.lines) == kept and guarded.looped == (kept < len(lines))
    assert [line.text for line in guarded.lines] == list(dict.fromkeys(texts)) or kept == len(lines)
