"""Phrases in the text of a page: where they stand, which share of a line they take, and what is not there."""

import pytest

from ray_pipeline.methods.phrase_match import PageText, ReadText, folded_phrase

RECEIPT = [  # in reading order: rows from left to right; a line is 10 px a character wide, 20 px high
    ("ACME  Stores", 0, 0), ("BREAD", 0, 30), ("2.49", 300, 30), ("Milk 1L", 0, 60), ("1.09", 300, 60),
    ("SUBTOTAL", 0, 90), ("3.58", 300, 90), ("TOTAL", 0, 120), ("3.58", 300, 120), ("Thank you for your", 0, 150),
    ("visit, Straße 5", 0, 180), ("lnvoice No. 12345", 0, 210),
]  # fmt: skip


def page(lines: list[tuple[str, int, int]] = RECEIPT, confidence: float = 1.0) -> PageText:
    return PageText([ReadText((x, y, x + 10 * len(text), y + 20), text, confidence) for text, x, y in lines])


def boxes(phrase: str, similarity: float = 0.8) -> list[tuple[float, ...]]:
    return [place.box_px for place in page().places(phrase, similarity)]


@pytest.mark.parametrize(
    ("phrase", "found"),
    [
        ("BREAD", [(0, 30, 50, 50)]),
        ("bread", [(0, 30, 50, 50)]),
        ("  Bread ", [(0, 30, 50, 50)]),
        ("total", [(0, 120, 50, 140)]),  # not the end of another word
        ("3.58", [(300, 90, 340, 110), (300, 120, 340, 140)]),  # every place
        ("milk", [(0, 60, 40, 80)]),
        ("1L", [(50, 60, 70, 80)]),
        ("acme stores", [(0, 0, 120, 20)]),  # white space is one space
        ("stores", [(60, 0, 120, 20)]),
        ("milk 1l 1.09", [(0, 60, 340, 80)]),  # across neighbours in a row
        ("your visit", [(0, 150, 180, 200)]),  # over a line break
        ("STRASSE 5", [(70, 180, 150, 200)]),  # one character folds to two
        ("ｍｉｌｋ", [(0, 60, 40, 80)]),  # full width forms
        (",", [(50, 180, 60, 200)]),
        ("", []),
        (" \n", []),
        ("cheese", []),
        ("49", [(320, 30, 340, 50)]),
    ],
)
def test_word_for_word(phrase: str, found: list[tuple[float, ...]]) -> None:
    assert boxes(phrase) == boxes(phrase, 1.0) == [pytest.approx(box, abs=11) for box in found]


@pytest.mark.parametrize(
    ("phrase", "similarity", "found"),
    [
        ("invoice no. 12345", 0.8, [(0, 210, 170, 230)]),  # an l for an I
        ("invoice no. 12345", 0.99, []),
        ("invoice no. 12346", 0.8, []),  # another number is no misread one
        ("invoice no. 1234S", 0.8, [(0, 210, 170, 230)]),  # a letter for a digit is
        ("thankyou for your", 0.8, [(0, 150, 180, 170)]),
        ("sub total", 0.8, [(0, 90, 80, 110)]),
        ("subtotai", 0.8, [(0, 90, 80, 110)]),
        ("for your visit Strase", 0.8, [(0, 150, 180, 200)]),
        ("toads", 0.8, []),
        ("3.59", 0.7, []),
    ],
)
def test_nearly(phrase: str, similarity: float, found: list[tuple[float, ...]]) -> None:
    assert boxes(phrase, similarity) == [pytest.approx(box, abs=11) for box in found]


def test_what_stands_there_word_for_word_stands_alone() -> None:
    lines = page([("total amount", 0, 0), ("totel amount", 0, 30), ("total amounts", 0, 60)])
    assert [place.similarity for place in lines.places("total amount", 0.8)] == [1.0]
    near = page([("totel amount", 0, 30), ("and", 200, 30), ("total amounts", 0, 60)]).places("total amount", 0.8)
    assert [(place.text, round(place.similarity, 3)) for place in near] == [("totel amount", 0.917), ("total amounts", 0.923)]


def test_text_and_confidence_are_those_of_the_part() -> None:
    lines = PageText([ReadText((0, 0, 80, 20), "000 date", 0.5), ReadText((100, 0, 180, 20), "1 000 26", 1.0)])
    (place,) = lines.places("date 1 000", 0.8)
    assert (place.text, place.similarity, place.confidence) == ("date 1 000", 1.0, pytest.approx((4 * 0.5 + 5 * 1.0) / 9))
    assert place.box_px == pytest.approx((80 * 3.5 / 7.15, 0, 100 + 80 * 4.5 / 7, 20))


@pytest.mark.parametrize(
    ("phrase", "left", "right"), [("ill", 0, 15), ("WWW", 20, 65), ("07", 70, 90), ("\u6f22\u5b57", 95, 131)]
)
def test_letters_are_as_wide_as_they_commonly_are(phrase: str, left: float, right: float) -> None:
    (place,) = PageText([ReadText((0, 0, 131, 20), "ill WWW 07 \u6f22\u5b57", 1.0)]).places(phrase, 1.0)
    assert place.box_px == pytest.approx((left, 0, right, 20))


def test_a_place_has_a_width_however_long_its_line() -> None:
    (place,) = PageText([ReadText((5000, 0, 5001, 9), "a " * 20_000 + "b", 1.0)]).places("b", 1.0)
    assert place.box_px == (5000, 0, 5001, 9)


def test_decomposed_letters_are_one_character() -> None:
    (place,) = PageText([ReadText((0, 0, 80, 20), "cafe\u0301 bar", 1.0)]).places("bar", 1.0)
    assert place.box_px[2] == pytest.approx(80) and place.text == "bar" and folded_phrase("CAFE\u0301") == "caf\u00e9"


def test_an_empty_page_holds_nothing() -> None:
    assert PageText([]).places("total", 0.8) == [] == PageText([ReadText((0, 0, 9, 9), " ", 1.0)]).places("total", 0.1)
