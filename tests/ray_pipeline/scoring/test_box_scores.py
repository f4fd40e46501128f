"""Overlap, pairing, average precision and sizes of boxes, against values computed by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.scoring.average_precision import Found, Page, average_precision
from ray_pipeline.scoring.matching import found_boxes, matches
from ray_pipeline.scoring.overlap import area_of, covered, overlaps
from ray_pipeline.scoring.sizes import relative_area, size_of
from schemas.picture import Box

TRUE = (100, 100, 120, 120)


@pytest.mark.parametrize(
    ("box", "iou"),
    [
        (TRUE, 1), ((104, 104, 124, 124), 256 / 544), ((110, 100, 130, 120), 1 / 3), ((200, 200, 220, 220), 0),
        ((120, 100, 140, 120), 0), ((110, 110, 110, 110), 0), ((90, 100, 130, 110), 200 / 600),
    ],
)  # fmt: skip
def test_overlap(box: Box, iou: float) -> None:
    assert overlaps([box], [TRUE])[0, 0] == pytest.approx(iou)
    assert overlaps([TRUE], [(0, 0, 1, 1), box])[0].tolist() == pytest.approx([0, iou])


def test_no_boxes_overlap_nothing() -> None:
    assert overlaps([], [TRUE]).shape == (0, 1) and overlaps([TRUE], []).shape == (1, 0)
    assert covered((3, 3, 3, 9), TRUE) == 0 and area_of((5, 5, 4, 9)) == 0


def test_part_of_a_box_inside_another() -> None:
    assert covered((110, 90, 130, 110), TRUE) == pytest.approx(0.25)


def test_the_pair_that_overlaps_most_goes_first() -> None:
    true = [(0, 0, 10, 10), (0, 12, 10, 22)]
    found = [(0, 2, 10, 11), (0, 0, 10, 10), (0, 12, 10, 23), (50, 50, 60, 60)]
    assert matches(found, true) == [None, 0, 1, None]
    assert found_boxes(matches(found, true), 2) == ((2, 4), (2, 2), (4, 6))
    assert matches([], true) == [] and matches(found, []) == [None] * 4


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(4)))
def test_pairs_do_not_depend_on_the_order(order: list[int]) -> None:
    true: list[Box] = [(0, 20 * k, 15 + k, 20 * k + 11) for k in range(4)]
    found = [true[place] for place in order]
    assert matches(found, true) == order


def page(*found: tuple[Box, float | None], true: tuple[Box, ...], area: float | None = 10_000, label: str = "") -> Page:
    return Page(area, tuple(Found(box, label, sure) for box, sure in found), tuple((box, label) for box in true))


@pytest.mark.parametrize(
    ("pages", "ap", "ap_50", "ar"),
    [
        # one of two found, and a stray: precision 1 up to a recall of one half, which is 51 of COCO's 101 points
        ([page(((0, 0, 10, 10), 0.9), ((50, 50, 60, 60), 0.8), true=((0, 0, 10, 10), (0, 0, 50, 50)))], 51 / 101, 51 / 101, 0.5),
        ([page(((50, 50, 60, 60), 0.9), ((0, 0, 10, 10), 0.8), true=((0, 0, 10, 10),))], 0.5, 0.5, 1),  # the stray is surer
        ([page(((50, 50, 60, 60), None), ((0, 0, 10, 10), 0.1), true=((0, 0, 10, 10),))], 1, 1, 1),  # unsure comes last
        ([page(((0, 0, 10, 16), 0.9), true=((0, 0, 10, 10),))], 0.3, 1, 0.3),  # 0.625: three of ten thresholds
        ([page(true=((0, 0, 10, 10),))], 0, 0, 0),
        ([page(((0, 0, 9, 9), 1.0), true=())], None, None, None),
    ],
)
def test_average_precision(pages: list[Page], ap: float | None, ap_50: float | None, ar: float | None) -> None:
    found = average_precision(pages)["all"]
    for name, value in (("ap", ap), ("ap_50", ap_50), ("ar", ar)):
        assert found[name] == (None if value is None else pytest.approx(value))


def test_average_precision_by_share_of_the_picture() -> None:
    small, medium, large = (0, 0, 4, 4), (20, 20, 40, 40), (50, 50, 90, 90)  # 0.16, 4 and 16 % of 100 x 100
    found = average_precision([page((small, 0.9), (large, 0.8), true=(small, medium, large))])
    assert [found[size]["ap"] for size in ("small", "medium", "large")] == [1, 0, 1]
    tenfold = average_precision([page((small, 0.9), true=(small,), area=100.0)])  # the same box in a smaller picture
    assert tenfold["large"]["ap"] == 1 and tenfold["small"]["ap"] is None


def test_a_page_of_unknown_size_is_missed_and_has_no_size() -> None:
    found = average_precision([page(true=(TRUE,), area=None), page((TRUE, 1.0), true=(TRUE,))])
    assert found["all"]["ar"] == 0.5 and found["medium"]["ar"] == 1
    assert found["small"]["ar"] is None and found["large"]["ar"] is None


def test_labels_are_scored_apart() -> None:
    cat, dog = page((TRUE, 0.9), true=(TRUE,), label="cat"), page(true=(TRUE,), label="dog")
    assert average_precision([cat, dog])["all"]["ap"] == 0.5
    assert average_precision([Page(1e4, (Found(TRUE, "dog", 0.9),), ((TRUE, "cat"),))])["all"]["ap"] == 0


@pytest.mark.parametrize(
    ("shares", "size"),
    [
        ([], "unknown"), ([0.0049], "small"), ([0.005], "medium"), ([0.0499], "medium"), ([0.05], "large"), ([1.0], "large"),
        ([0.001, 0.2, 0.002], "small"),
    ],
)  # fmt: skip
def test_sizes(shares: list[float], size: str) -> None:
    assert size_of(shares) == size


def test_relative_area() -> None:
    assert relative_area((10, 20, 30, 25), 200, 100) == pytest.approx(0.005)
