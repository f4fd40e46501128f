"""Invented document lines: their characters, their kinds, and whole receipts in rows."""

import random
import re

import pytest

from ray_pipeline.synthesis.document_texts import CHARACTERS, amount, clock, date, number, random_line, receipt_lines, spoken


@pytest.fixture(scope="module")
def lines() -> list[str]:
    rng = random.Random(0)
    return [random_line(rng) for _ in range(6000)]


def test_every_character_occurs_and_no_other(lines: list[str]) -> None:
    assert set("".join(lines)) == {*CHARACTERS, " "}


def test_lines_are_short_and_begin_and_end_with_ink(lines: list[str]) -> None:
    assert all(1 <= len(line) <= 60 and line == line.strip() for line in lines)
    rng = random.Random(1)
    assert max(len(random_line(rng, 8)) for _ in range(300)) == 8


def test_lines_are_varied(lines: list[str]) -> None:
    assert len(set(lines)) > 0.85 * len(lines)
    capitals = sum(line == line.upper() and line != line.lower() for line in lines)
    assert 0.3 < capitals / len(lines) < 0.7


def test_the_seed_decides() -> None:
    first, second, other = (random.Random(seed) for seed in (4, 4, 5))
    assert [random_line(first) for _ in range(20)] == [random_line(second) for _ in range(20)]
    assert random_line(first) != random_line(other)


@pytest.mark.parametrize(
    ("maker", "form"),
    [
        (amount, r"[-(]?\D*\d[\d.,]*[.,]\d\d\D*1?\)?"),
        (clock, r"\d{1,2}[:.h]\d\d(:\d\d)?( ?[aApP]\.?[mM]\.?)?"),
        (date, r".*\d.*"),
        (number, r".*\d.*"),
    ],
)  # fmt: skip
def test_forms(maker: object, form: str) -> None:
    rng = random.Random(2)
    made = [maker(rng) for _ in range(300)]
    assert [text for text in made if not re.fullmatch(form, text)] == []


@pytest.mark.parametrize(("shown", "answered"), [("Tea    2   4.00", "Tea 2 4.00"), ("  A ", "A"), ("", "")])
def test_column_gaps_are_spoken_as_one_space(shown: str, answered: str) -> None:
    assert spoken(shown) == answered


def test_a_receipt_has_rows_of_pieces_from_left_to_right_with_amounts_at_the_right_edge() -> None:
    for seed in range(40):
        rows = receipt_lines(random.Random(seed))
        pieces = [piece for row in rows for piece in row]
        assert len(rows) >= 8
        assert all(
            0 <= piece.place <= 1 and piece.text == spoken(piece.text) and set(piece.text) <= {*CHARACTERS, " "}
            for piece in pieces
        )
        assert all(row == sorted(row, key=lambda piece: piece.place) for row in rows)
        assert sum(piece.anchor == "right" and piece.place == 1.0 for piece in pieces) >= 3
