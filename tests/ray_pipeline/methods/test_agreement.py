"""Baselines and the tie rule: the published boxes, every tie-break, duplicates that count, order that does not."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.geometry.footprints import join
from ray_pipeline.methods.agreement import (
    all_agree,
    cluster,
    inside_mass,
    least_entropy,
    likeliest,
    mean_box,
    mean_iou_to_others,
    median_box,
    medoid,
    oracle,
    preferred,
    random_answer,
)
from schemas.picture import Box
from tests.ray_pipeline.methods.made_pools import FAR, FIRST, NEAR, SHIFTED, candidate, head, line, one_head_each, pool, profile

PUBLISHED = [candidate(box, index) for index, box in enumerate((FIRST, SHIFTED, NEAR))]
TRUTH = (100.0, 100, 120, 120)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (FIRST, 1.0),
        (SHIFTED, 256 / 544),
        ((110.0, 100, 130, 120), 1 / 3),
        ((200.0, 200, 220, 220), 0.0),
        ((120.0, 100, 140, 120), 0.0),  # they touch
    ],
)
def test_published_ious(box: Box, expected: float) -> None:
    pair = [candidate(TRUTH, 0), candidate(box, 1)]
    assert mean_iou_to_others(pair).tolist() == pytest.approx([expected, expected], abs=1e-6)


def test_published_medoid() -> None:
    sums = 2 * mean_iou_to_others(PUBLISHED)
    assert sums.tolist() == pytest.approx([1.2929, 0.9385, 1.2902], abs=1e-4)
    assert medoid(pool(PUBLISHED)).index == 0


def test_published_mean_and_median() -> None:
    mean, median = mean_box(pool(PUBLISHED)), median_box(pool(PUBLISHED))
    assert mean.box_px == pytest.approx((101.667, 101, 121.667, 121), abs=1e-3)
    assert median.box_px == (101, 100, 121, 120)
    assert mean.index is None and median.index is None and mean.entropies_nats == (None, None, None)


def test_duplicates_count_as_often_as_they_were_drawn() -> None:
    """One candidate of multiplicity three decides like three candidates."""
    drawn = [candidate(FAR, 0), candidate(FIRST, 1), candidate(FAR, 2), candidate(FAR, 3), candidate(NEAR, 4)]
    merged = [candidate(FAR, 0, multiplicity=3), candidate(FIRST, 1), candidate(NEAR, 4)]
    apart, together = mean_iou_to_others(drawn).tolist(), mean_iou_to_others(merged).tolist()
    assert together == pytest.approx([apart[0], apart[1], apart[4]])
    for selector in (medoid, cluster, mean_box, median_box):
        assert selector(pool(drawn)).box_px == pytest.approx(selector(pool(merged)).box_px)
    assert medoid(pool(merged)).box_px == FAR


@pytest.mark.parametrize(("boxes", "agreed"), [([FIRST], True), ([FIRST, (100.5, 100, 120, 120)], True), ([FIRST, NEAR], False)])
def test_all_agree(boxes: list[Box], agreed: bool) -> None:
    assert all_agree([candidate(box, index) for index, box in enumerate(boxes)]) is agreed


@pytest.mark.parametrize(
    ("costs", "logprobs", "boxes", "chosen"),
    [
        ((2.0, 1.0, 3.0), (-1, -9, -1), (FIRST, SHIFTED, NEAR), 1),
        ((1.0, 1.0 + 2e-6, 3.0), (-9, -1, -1), (FIRST, SHIFTED, NEAR), 0),  # more than a tie apart
        ((1.0, 1.0 + 9e-7, 3.0), (-9, -1, -1), (FIRST, SHIFTED, NEAR), 1),  # a tie: likelier digits
        ((1.0, 1.0, 1.0), (-1, -1, -1), (SHIFTED, FAR, NEAR), 0),  # then agreement: 0 and 2 overlap equally
        ((1.0, 1.0, 1.0), (-1, -1, -1), (FAR, SHIFTED, FIRST), 1),
        ((1.0, 1.0, 1.0), (-1, -1, -1), (SHIFTED, NEAR, FIRST), 2),
        ((math.nan, 5.0, 6.0), (-1, -9, -1), (FIRST, SHIFTED, NEAR), 1),  # NaN is never ranked
        ((math.inf, math.inf, math.nan), (-2, -1, 0), (FIRST, SHIFTED, NEAR), 1),
        ((1.0, 1.0, 1.0), (-math.inf, -math.inf, -math.inf), (FAR, FAR, FAR), 0),
    ],
)
def test_tie_rule(costs: tuple[float, ...], logprobs: tuple[float, ...], boxes: tuple[Box, ...], chosen: int) -> None:
    rows = zip(boxes, logprobs, strict=True)
    assert preferred([candidate(box, k, logprob) for k, (box, logprob) in enumerate(rows)], costs) == chosen


def test_tie_rule_ends_with_the_answer_drawn_first_wherever_it_stands() -> None:
    assert preferred([candidate(FAR, 7), candidate(FAR, 3), candidate(FAR, 5)], (1.0, 1.0, 1.0)) == 1


def test_nothing_but_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="2 costs, all NaN"):
        preferred(PUBLISHED[:2], (math.nan, math.nan))


def test_cluster_takes_the_likeliest_of_the_largest() -> None:
    members = [candidate(FAR, 0, -0.01), candidate(FIRST, 1, -0.6), candidate(NEAR, 2, -0.4), candidate(SHIFTED, 3, -0.1)]
    choice = cluster(pool(members))  # SHIFTED overlaps the others by less than one half
    assert choice.index == 2 and "cluster of 2 of 4" in choice.reason


def test_equal_clusters_compete_by_likelihood() -> None:
    far_too = (401.0, 301, 460, 420)
    members = [candidate(FAR, 0, -0.5), candidate(far_too, 1, -0.3), candidate(FIRST, 2, -0.4), candidate(NEAR, 3, -0.6)]
    assert cluster(pool(members)).index == 1


def test_a_chain_is_no_cluster() -> None:
    """Each overlaps its neighbour, the ends do not: only the middle has both around it."""
    chain = [candidate((x, 0.0, x + 40, 40.0), k, -1.0 + 0.1 * k) for k, x in enumerate((0.0, 12.0, 24.0, 36.0, 48.0))]
    choice = cluster(pool(chain))
    assert "cluster of 3 of 5" in choice.reason and choice.index == 4


def test_likelihoods_of_the_digits() -> None:
    members = [
        candidate(FAR, 0, -0.5, entropy=0.2),
        candidate(FIRST, 1, -0.2, entropy=0.9),
        candidate(NEAR, 2, -0.3, entropy=0.1),
    ]
    assert likeliest(pool(members)).index == 1
    choice = least_entropy(pool(members))
    assert choice.index == 2 and choice.entropies_nats == pytest.approx((0.2, 0.9, 0.1))
    unknown = [candidate(FAR, 0, entropy=math.inf), candidate(FIRST, 1, entropy=0.9)]
    assert least_entropy(pool(unknown)).entropies_nats == (None, pytest.approx(0.9))


def test_random_follows_its_seed_and_the_answers_drawn() -> None:
    members = [candidate(FAR, 0, multiplicity=3), candidate(FIRST, 1)]
    drawn = [random_answer(pool(members, seed=seed)).index for seed in range(400)]
    assert drawn == [random_answer(pool(members, seed=seed)).index for seed in range(400)]
    assert 0.65 < drawn.count(0) / 400 < 0.85


def test_oracle_finds_the_best_and_the_first_of_equals() -> None:
    assert oracle(PUBLISHED, (102, 98, 122, 118)).index == 2
    assert oracle([candidate(FAR, 4), candidate(FAR, 1)], TRUTH).index == 1
    with pytest.raises(ValueError, match="0 candidates"):
        oracle([], TRUTH)


def test_inside_mass_counts_parts_of_tokens() -> None:
    """Four tokens of 160 px side by side; boxes over the first, and over the last one and a half of them."""
    weights = torch.tensor([0.1, 0.0, 0.1, 0.2]).expand(4, 1, 1, 4)
    boxes = [(0.0, 0, 160, 480), (400.0, 0, 640, 480)]
    members = [candidate(box, k, weights=weights) for k, box in enumerate(boxes)]
    choice = inside_mass(pool(members, method="inside_mass", layers=(0,), profile=profile(one_head_each())))
    assert choice.index == 1 and "0.625" in choice.reason  # (0.05 + 0.2) / 0.4 against 0.25


def test_inside_mass_reads_the_finest_view_and_valid_heads_alone() -> None:
    """A thumbnail that looks left, crops that look right; the head of y0 sees nothing while the first box is written."""
    prints = join([line(4, 0), line(4, 1)])
    rows = torch.tensor([0.9, 0.0, 0.0, 0.0, 0.01, 0.01, 0.01, 0.07]).expand(4, 1, 2, 8).clone()
    spoiled = rows.clone()
    spoiled[1, 0, 0] = 0
    boxes = [(0.0, 0, 160, 480), (480.0, 0, 640, 480)]
    members = [candidate(box, k, weights=one) for k, (box, one) in enumerate(zip(boxes, (spoiled, rows), strict=True))]
    known = profile([head("x0"), head("y0", 0, 0), head("y0", 0, 1)])
    choice = inside_mass(pool(members, prints, "inside_mass", layers=(0,), profile=known))
    assert choice.index == 1 and "0.700" in choice.reason
    choice = inside_mass(pool(members, prints, "inside_mass", layers=(0,), profile=profile([head("x0"), head("y0")])))
    assert choice.reason.startswith("fallback: no valid head left for y0; medoid")


def test_inside_mass_without_attention_falls_back() -> None:
    choice = inside_mass(pool(PUBLISHED, method="inside_mass", layers=(0,), profile=profile([head("x0")])))
    assert choice.index == 0 and choice.reason.startswith("fallback: attention of 0 of 3 candidates is readable; medoid")


def test_inside_mass_needs_a_profile() -> None:
    with pytest.raises(ValueError, match="inside_mass needs profiled heads, but there is no profile"):
        inside_mass(pool(PUBLISHED, method="inside_mass"))


corner = st.integers(0, 60)
boxes = st.tuples(corner, corner, st.integers(5, 60), st.integers(5, 60))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(boxes, st.integers(-3, 0), st.integers(1, 3)), min_size=2, max_size=7), st.randoms())
def test_order_does_not_matter(rows: list[tuple[tuple[int, ...], int, int]], shuffle: object) -> None:
    members = [
        candidate((x, y, x + w, y + h), k, float(logprob), multiplicity=count, entropy=-float(logprob))
        for k, ((x, y, w, h), logprob, count) in enumerate(rows)
    ]
    shuffled = list(members)
    shuffle.shuffle(shuffled)
    for selector in (medoid, cluster, likeliest, least_entropy, mean_box, median_box):
        first, second = selector(pool(members)), selector(pool(shuffled))
        assert first.index == second.index and first.box_px == pytest.approx(second.box_px)


@settings(max_examples=60, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=9))
def test_mean_and_median_have_area(rows: list[tuple[int, ...]]) -> None:
    members = [candidate((x, y, x + w, y + h), k) for k, (x, y, w, h) in enumerate(rows)]
    for selector in (mean_box, median_box):
        x0, y0, x1, y1 = selector(pool(members)).box_px
        assert x1 - x0 >= 5 - 1e-9 and y1 - y0 >= 5 - 1e-9


def test_a_choice_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        medoid(pool(PUBLISHED)).reason = "other"  # type: ignore[misc]
