"""Scores of texts, against values computed by hand or published."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.scoring.anls import anls, exact_match
from ray_pipeline.scoring.edits import character_edits, word_edits
from ray_pipeline.scoring.vqa_accuracy import vqa_accuracy, vqa_normalised
from ray_pipeline.scoring.words import found_words

TALKING = ["TALKINGHEADS", "TALKING HEADS"]


@pytest.mark.parametrize(
    ("said", "references", "score"),
    [
        ("talkingheads", TALKING, 1),
        ("TVLKINGHEVDS", TALKING, 10 / 12),  # two of twelve letters misread
        ("REMAIN IN LIGHT", TALKING, 0),
        ("ITC\n limited ", ["itc limited"], 1),
        ("abcd", ["abxy"], 0),  # a distance of exactly one half is too far
        ("abcde", ["abcxy"], 0.6),
        ("", ["x"], 0),
        ("12", ["12.", "21"], 2 / 3),
    ],
)
def test_anls(said: str, references: list[str], score: float) -> None:
    assert anls(said, references) == pytest.approx(score)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=12), st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_anls_is_0_or_above_one_half_and_1_where_the_match_is_exact(said: str, references: list[str]) -> None:
    score = anls(said, references)
    assert score == 0 or 0.5 < score <= 1
    assert (exact_match(said, references) == 1) == (score == 1)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("Coca-Cola", "coca cola"), ("$1,000", "$1000"), ("U.S.", "us"), ("7-11", "7 11"), ("ten o'clock", "10 o'clock"),
        ("ten oclock", "10 o'clock"), ("A", ""), ("The  dog,\n an old one!", "dog old 1"), ("3.5", "3.5"), ("dont", "don't"),
        ("couldnt've", "couldn't've"), ("None", "0"), ("yes!", "yes"), ("his", "his"), ("(left)", "left"), ("lets", "lets"),
        ("what’s", "what's"),
    ],
)  # fmt: skip
def test_vqa_normalisation(text: str, normalised: str) -> None:
    assert vqa_normalised(text) == normalised


@pytest.mark.parametrize(("matches", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_vqa_accuracy_of_ten_people(matches: int, score: float) -> None:
    references = ["The red one"] * matches + ["blue"] * (10 - matches)
    assert vqa_accuracy("red 1", references) == pytest.approx(score)


@pytest.mark.parametrize(
    ("references", "score"),
    [(["yes"], 1), (["no"], 0), (["yes", "no", "no"], 1), (["yes", "no", "no", "no"], 0.25), (["yes"] * 4, 1)],
)
def test_vqa_accuracy_of_few_people(references: list[str], score: float) -> None:
    assert vqa_accuracy("Yes.", references) == pytest.approx(score)


def test_scores_need_a_reference() -> None:
    for score in (anls, vqa_accuracy, character_edits, word_edits):
        with pytest.raises(ValueError, match="0 references"):
            score("x", [])


@pytest.mark.parametrize(("said", "right"), [("Total:  5", 1), ("total: 5", 1), ("total 5", 0), ("", 0)])
def test_exact_match(said: str, right: int) -> None:
    assert exact_match(said, ["TOTAL:\n5", "five"]) == right


@pytest.mark.parametrize(
    ("said", "references", "characters", "words"),
    [
        ("kitten", ["sitting"], (3, 7), (1, 1)),
        ("the  cat\nsat", ["the cat sat down"], (5, 16), (1, 4)),
        ("sat the cat", ["the cat sat"], (7, 11), (2, 3)),  # all words are there: the order counts
        ("", ["abc de"], (6, 6), (2, 2)),
        ("abc", ["xyz uvw", "abd"], (1, 3), (2, 2)),  # the nearest by letters; by words both are as far
        ("", [""], (0, 0), (0, 0)),
        ("a b", [""], (3, 0), (2, 0)),
        ("a", ["", "b"], (1, 1), (1, 1)),
        ("", ["", "b"], (0, 0), (0, 0)),
        ("Abc", ["abc"], (1, 3), (1, 1)),
    ],
)
def test_edits(said: str, references: list[str], characters: tuple[int, int], words: tuple[int, int]) -> None:
    assert (character_edits(said, references), word_edits(said, references)) == (characters, words)


@pytest.mark.parametrize(
    ("said", "reference", "precision", "recall", "f1"),
    [
        ("tan woon yann", "TAN WOON YANN", (3, 3), (3, 3), (6, 6)),
        ("9.00 total: 9.00", "TOTAL 9.00 RM", (2, 3), (2, 3), (4, 6)),  # a word counts as often as it stands there
        ("RM total 9.00", "TOTAL 9.00 RM", (3, 3), (3, 3), (6, 6)),  # in any order
        ("a-b", "A B", (2, 2), (2, 2), (4, 4)),
        ("", "A B", (0, 0), (0, 2), (0, 2)),
        ("x", "", (0, 1), (0, 0), (0, 1)),
        ("é", "—", (0, 0), (0, 0), (0, 0)),
    ],
)
def test_words(said: str, reference: str, precision: tuple[int, int], recall: tuple[int, int], f1: tuple[int, int]) -> None:
    assert found_words(said, reference) == (precision, recall, f1)
