"""CTC columns to texts: decoding tables, sums over alignments, and against all alignments counted one by one."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.models.ctc_text import likeliest_text

ALPHABET = "ab 1"


@pytest.mark.parametrize(
    ("columns", "text", "scores"),
    [
        ([0, 0, 0], "", ()),
        ([1, 1, 1], "a", (0.9,)),
        ([1, 0, 1], "aa", (0.9, 0.9)),
        ([1, 2, 2, 0, 2], "abb", (0.9, 0.9, 0.9)),
        ([3, 1, 3, 2, 3, 0], "a b", (0.9, 0.9, 0.9)),
        ([3, 0, 3], "", ()),
    ],
)
def test_sure_columns_read_as_they_stand(columns: list[int], text: str, scores: tuple[float, ...]) -> None:
    probabilities = np.full((len(columns), 5), 0.025, np.float32)
    probabilities[np.arange(len(columns)), columns] = 0.9
    found = likeliest_text(np.log(probabilities), ALPHABET)
    assert found.text == text
    assert np.exp(found.log_probabilities) == pytest.approx(scores)


def test_alignments_are_summed() -> None:
    """Blank is the likelier class of both columns (0.36 together), yet a- and -a and aa are "a" (0.64)."""
    columns = np.array([[0.6, 0.4, 0, 0, 0]] * 2, np.float32)
    assert likeliest_text(np.log(columns + 1e-9), ALPHABET).text == "a"


def test_a_repeated_character_counts_with_its_best_column() -> None:
    columns = np.array([[0.4, 0.6, 0, 0, 0], [0.1, 0.9, 0, 0, 0], [0.3, 0.7, 0, 0, 0]], np.float32)
    assert np.exp(likeliest_text(np.log(columns + 1e-9), ALPHABET).log_probabilities) == pytest.approx([0.9], abs=1e-4)


def test_no_columns_are_no_text() -> None:
    assert likeliest_text(np.zeros((0, 5), np.float32), ALPHABET).text == ""


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_a_wide_search_finds_the_likeliest_of_all_texts(seed: int, width: int) -> None:
    columns = np.random.default_rng(seed).dirichlet([0.4, 0.4, 0.4], width)
    sums: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(3), repeat=width):
        merged = [which for which, before in zip(path, (None, *path), strict=False) if which and which != before]
        sums["".join("ab"[which - 1] for which in merged)] += float(np.prod(columns[np.arange(width), path]))
    found = likeliest_text(np.log(np.maximum(columns, 1e-12)).astype(np.float32), "ab", prefixes=200, classes=3)
    assert sums[found.text] >= max(sums.values()) - 0.01 * width
