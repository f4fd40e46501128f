"""Questions about invented documents can be answered from them, and their lines stand where a sheet would have them."""

import random
import re
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.synthesis.document_drafts import BREAK
from ray_pipeline.synthesis.document_money import Bill, Coin, Sale, sample_bill
from ray_pipeline.synthesis.document_phrases import WORDINGS
from ray_pipeline.synthesis.document_questions import (
    MAIN_ROLES,
    MOST_ROWS,
    NOT_SHOWN,
    DocumentQuestion,
    asked_document,
    drawn_lines,
)
from ray_pipeline.synthesis.document_receipts import receipt
from ray_pipeline.synthesis.document_rows import Row
from ray_pipeline.synthesis.document_sheets import sheet_of
from ray_pipeline.synthesis.document_texts import CHARACTERS, spoken
from ray_pipeline.synthesis.fonts import evaluation_fonts

SEEDS = st.integers(0, 2**32)


def texts_of(rows: list[Row]) -> list[str]:
    return [piece.text for row in rows for piece in row.pieces if row.kind in ("text", "bars")]


@pytest.fixture(scope="module")
def documents() -> list[tuple[list[Row], list[DocumentQuestion]]]:
    return [asked_document(random.Random(seed)) for seed in range(200)]


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_every_answer_stands_in_its_line_and_the_line_on_the_document(seed: int) -> None:
    rows, questions = asked_document(random.Random(seed))
    texts = texts_of(rows)
    assert len(rows) <= MOST_ROWS
    assert set("".join(texts)) <= {*CHARACTERS, " "}
    assert all(text == spoken(text) != "" for text in texts)
    for one in questions:
        assert one.question == one.question.strip() != ""
        assert one.answer == one.answer.strip() != ""
        if one.line is None:
            assert (one.answer, one.role) == (NOT_SHOWN, "not_shown")
        else:
            assert one.answer in one.line.replace(BREAK, " ")
            assert set(one.line.split(BREAK)) <= set(texts)


def test_the_seed_decides() -> None:
    assert asked_document(random.Random(3)) == asked_document(random.Random(3)) != asked_document(random.Random(4))


def test_a_receipt_is_asked_for_total_date_and_company_once_each(
    documents: list[tuple[list[Row], list[DocumentQuestion]]],
) -> None:
    roles = [Counter(one.role for one in questions) for _, questions in documents]
    assert all(count[role] <= 1 for count in roles for role in MAIN_ROLES)
    assert sum(all(count[role] for role in MAIN_ROLES) for count in roles) > 0.6 * len(roles)
    assert 10 < sum(len(questions) for _, questions in documents) / len(documents) < 16
    assert 0.03 < sum(count["not_shown"] for count in roles) / sum(map(len, (q for _, q in documents))) < 0.15


def test_questions_of_a_document_are_all_different(documents: list[tuple[list[Row], list[DocumentQuestion]]]) -> None:
    assert all(len({one.question for one in questions}) == len(questions) for _, questions in documents)


@pytest.mark.parametrize(
    ("role", "wordings"),
    [
        ("total", ["What is the total amount?", "total"]),
        ("date", ["What is the date?", "date"]),
        ("company", ["What is the name of the company?", "company"]),
    ],
)
def test_wordings(role: str, wordings: list[str], documents: list[tuple[list[Row], list[DocumentQuestion]]]) -> None:
    assert len(set(WORDINGS[role])) >= 6
    asked = {one.question for _, questions in documents for one in questions if one.role == role}
    assert {*wordings} <= asked
    assert any(question.isupper() for question in asked)
    assert any(question.islower() for question in asked)


def test_reading_questions_name_a_text_of_the_document_and_are_answered_from_the_right_row() -> None:
    seen = 0
    for seed in range(40):
        rows, questions = asked_document(random.Random(seed))
        lines = [[p.text for p in row.pieces if any(map(str.isalnum, p.text))] for row in rows if row.kind in ("text", "bars")]
        lines = [line for line in lines if line]
        for one in questions:
            if one.role == "line below":
                named = re.fullmatch(r"[^']*'(.*)'[^']*", one.question)
                assert named
                assert lines[lines.index([named[1]]) + 1] == [one.answer]
                seen += 1
            assert one.role != "first line" or one.answer == lines[0][0]
            assert one.role != "last line" or one.answer == lines[-1][-1]
    assert seen > 20


BILL = Bill((Sale("Tea", 2, 250), Sale("Bun", 1, 199)), 100, 60, 6, 40, False, 1, 1000)


def test_a_bill_adds_up() -> None:
    assert (BILL.goods_cents, BILL.before_rounding_cents, BILL.total_cents, BILL.change_cents) == (699, 699, 700, 300)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_drawn_bills_are_rounded_to_five_cents_or_not_at_all_and_paid_in_full(seed: int) -> None:
    bill = sample_bill(random.Random(seed))
    assert abs(bill.rounding_cents) <= 2
    assert not bill.rounding_cents or bill.total_cents % 5 == 0
    assert bill.total_cents > 0
    assert not bill.tendered_cents or bill.tendered_cents - bill.total_cents == bill.change_cents >= 0


def _cents(text: str) -> int:
    return int(re.sub(r"\D", "", text)) * (-1 if text.startswith("-") else 1)


def test_printed_sums_agree() -> None:
    """Cash less change is the total, and what was before rounding with the rounding is, too."""
    paid = rounded = 0
    for seed in range(100):
        facts = {fact.role: _cents(fact.answer) for fact in receipt(random.Random(seed)).facts if fact.answer[-1:].isdigit()}
        if {"cash", "change", "total"} <= facts.keys():
            paid += 1
            assert facts["cash"] - facts["change"] == facts["total"]
        if {"unrounded", "rounding", "total"} <= facts.keys():
            rounded += 1
            assert facts["unrounded"] + facts["rounding"] == facts["total"]
    assert min(paid, rounded) > 5


@pytest.mark.parametrize(
    ("coin", "cents", "number", "printed"),
    [
        (Coin(), 5142, "51.42", "51.42"),
        (Coin("RM "), 123450, "1,234.50", "RM 1,234.50"),
        (Coin("RM", thousands=False), 123450, "1234.50", "RM1234.50"),
        (Coin(behind=" EUR", comma=True), 1250, "12,50", "12,50 EUR"),
        (Coin("$"), -2, "-0.02", "$-0.02"),
    ],
)
def test_money(coin: Coin, cents: int, number: str, printed: str) -> None:
    assert (coin.number(cents), coin.printed(cents)) == (number, printed)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_drawn_lines_hold_every_text_in_reading_order_on_the_sheet(seed: int) -> None:
    rng = random.Random(seed)
    rows, _ = asked_document(rng)
    lines = drawn_lines(rng, rows)
    expected = " ".join(text for text in texts_of(rows) if any(map(str.isalnum, text))).split()
    words = " ".join(line.text for line in lines).split()
    assert [word for word in words if any(map(str.isalnum, word))] == [w for w in expected if any(map(str.isalnum, w))]
    assert all(0 <= x0 < x1 and 0 <= y0 < y1 for x0, y0, x1, y1 in (line.box for line in lines))
    for one, following in pairwise(lines):
        same_row = following.box[1] < (one.box[1] + one.box[3]) / 2
        assert following.box[0] > one.box[2] if same_row else following.box[3] > one.box[3]


def test_rows_of_questions_can_be_printed() -> None:
    rng = random.Random(1)
    rows, _ = asked_document(rng)
    sheet = sheet_of(rng, rows, evaluation_fonts(), 12.0)
    printed = {line.text for line in sheet.lines}
    drawn = {line.text for line in drawn_lines(rng, rows)}
    assert len(printed & drawn) > 0.5 * len(drawn)
