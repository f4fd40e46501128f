"""The published split of tokens (mc_llava 3.1), and coordinates."""

from typing import Any, Literal

import pytest

from ray_pipeline.models.multicrop_tokens import coordinates, split_tokens


@pytest.mark.parametrize(
    ("tokens", "views", "each", "last", "total"),
    [
        (728, 1, 728, 728, 728),
        (728, 7, 104, 104, 728),
        (728, 13, 56, 56, 728),
        (728, 37, 19, 44, 728),
        (728, 97, 7, 56, 728),
        (728, 101, 7, 28, 728),
        (728, 183, 3, 182, 728),
        (1456, 101, 14, 56, 1456),
        (1456, 183, 7, 182, 1456),
        (1456, 1, 728, 728, 728),  # only 728 exist
        (5000, 3, 728, 728, 2184),
        (2183, 3, 727, 728, 2182),  # the last could take 729: published code loses one
    ],
)
def test_official_split(tokens: int, views: int, each: int, last: int, total: int) -> None:
    split = split_tokens(views, tokens, 728, "official")
    assert split == [each] * (views - 1) + [last] and sum(split) == total


@pytest.mark.parametrize(
    ("tokens", "views", "expected"),
    [
        (728, 37, [20] * 25 + [19] * 12),
        (728, 7, [104] * 7),
        (2183, 3, [728, 728, 727]),
        (5000, 3, [728] * 3),
        (3, 3, [1, 1, 1]),
    ],
)
def test_even_split(tokens: int, views: int, expected: list[int]) -> None:
    assert split_tokens(views, tokens, 728, "even") == expected


@pytest.mark.parametrize("split", ["official", "even"])
def test_fewer_tokens_than_views_are_refused(split: Literal["official", "even"]) -> None:
    with pytest.raises(ValueError, match="100 visual tokens for 101 views"):
        split_tokens(101, 100, 728, split)


def test_unknown_split_is_refused() -> None:
    other: Any = "fair"
    with pytest.raises(ValueError, match="'fair', expected official or even"):
        split_tokens(2, 4, 728, other)


def test_other_numbers_of_coordinates_are_refused() -> None:
    with pytest.raises(ValueError, match="3 coordinates a view"):
        coordinates([(0, 0, 1, 1)], 1, 1, 3)
