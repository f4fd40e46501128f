"""Non-maximum suppression: worked examples, and what holds for any boxes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.geometry.boxes import iou
from ray_pipeline.geometry.suppression import suppress, weighted_means
from schemas.picture import Box

A, SHIFTED, HALF, FAR = (0.0, 0.0, 10.0, 4.0), (1.0, 0.0, 11.0, 4.0), (5.0, 0.0, 15.0, 4.0), (50.0, 7.0, 53.0, 9.0)
# IoU: A with SHIFTED 36 / 44, A with HALF 20 / 60, SHIFTED with HALF 24 / 56


def tensors(boxes: list[Box], scores: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize(
    ("boxes", "scores", "iou_above", "kept", "owner"),
    [
        ([], [], 0.5, [], []),
        ([FAR], [0.0], 0.5, [0], [0]),
        ([A, SHIFTED, FAR], [0.5, 0.9, 0.7], 0.5, [1, 2], [1, 1, 2]),
        ([A, A, A], [0.3, 0.3, 0.3], 0.5, [0], [0, 0, 0]),  # equal scores: the lower index
        ([A, SHIFTED, HALF], [0.9, 0.8, 0.7], 0.3, [0], [0, 0, 0]),
        ([A, SHIFTED, HALF], [0.9, 0.8, 0.7], 0.4, [0, 2], [0, 0, 2]),  # a suppressed box suppresses nothing
        ([A, SHIFTED, HALF], [0.8, 0.9, 0.7], 0.4, [1], [1, 1, 1]),
        ([A, SHIFTED], [0.9, 0.8], 36 / 44, [0, 1], [0, 1]),  # exactly the threshold is not above it
        ([A, A], [0.9, 0.8], 1.0, [0, 1], [0, 1]),
        ([A, HALF], [0.2, 0.9], 0.0, [1], [1, 1]),
        ([(3, 3, 3, 3), (3, 3, 3, 3)], [0.1, 0.2], 0.0, [1, 0], [0, 1]),  # without area: overlaps nothing
    ],
)
def test_worked_examples(boxes: list[Box], scores: list[float], iou_above: float, kept: list[int], owner: list[int]) -> None:
    result = suppress(*tensors(boxes, scores), iou_above)
    assert (result.kept_K.tolist(), result.owner_N.tolist()) == (kept, owner)


def test_means_are_weighted_by_scores() -> None:
    boxes, scores = tensors([A, SHIFTED, FAR, (1.0, 0.5, 11.0, 4.5)], [0.6, 0.2, 0.0, 0.2])
    result = suppress(boxes, scores, 0.5)
    assert result.kept_K.tolist() == [0, 2] and result.members(0) == [0, 1, 3] and result.members(2) == [2]
    means = weighted_means(boxes, scores, result)
    assert means[0].tolist() == pytest.approx([0.4, 0.1, 10.4, 4.1])
    assert means[1].tolist() == list(FAR), "a score of 0 still is a box"


@pytest.mark.parametrize(
    ("boxes", "scores", "iou_above", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2), 0.5, "boxes (2, 3) with scores (2,)"),
        (torch.zeros(2, 4), torch.zeros(3), 0.5, "boxes (2, 4) with scores (3,)"),
        (torch.zeros(1, 4), torch.tensor([torch.nan]), 0.5, "not finite"),
        (torch.full((1, 4), torch.inf), torch.zeros(1), 0.5, "not finite"),
        (torch.zeros(1, 4), torch.zeros(1), 1.1, "overlap 1.1, expected 0..1"),
        (torch.zeros(1, 4), torch.zeros(1), -0.1, "overlap -0.1"),
    ],
)
def test_refused(boxes: torch.Tensor, scores: torch.Tensor, iou_above: float, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        suppress(boxes, scores, iou_above)
    assert message in str(refused.value)


def test_a_negative_weight_is_refused() -> None:
    boxes, scores = tensors([A, FAR], [-0.5, 0.5])
    with pytest.raises(ValueError, match="lowest score -0.5"):
        weighted_means(boxes, scores, suppress(boxes, scores, 0.5))


side = st.integers(0, 12)
box = st.tuples(side, side, st.integers(1, 9), st.integers(1, 9)).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
scored = st.lists(st.tuples(box, st.integers(0, 4).map(lambda k: k / 4)), max_size=12)
threshold = st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])


@settings(deadline=None, max_examples=50)
@given(scored, threshold)
def test_kept_boxes_are_apart_and_the_others_are_worse_and_close(rows: list[tuple[Box, float]], iou_above: float) -> None:
    boxes, scores = tensors([b for b, _ in rows], [s for _, s in rows])
    result = suppress(boxes, scores, iou_above)
    overlaps, kept = iou(boxes, boxes), result.kept_K.tolist()
    rank = {k: (-float(scores[k]), k) for k in range(len(rows))}
    assert [rank[k] for k in kept] == sorted(rank[k] for k in kept)
    for k, owner in enumerate(result.owner_N.tolist()):
        assert owner in kept and rank[owner] <= rank[k]
        if k in kept:
            assert owner == k and all(overlaps[k, other] <= iou_above for other in kept if other != k)
        else:
            assert overlaps[owner, k] > iou_above
            better = [other for other in kept if rank[other] < rank[owner]]
            assert all(overlaps[other, k] <= iou_above for other in better), "it belongs to the best that claims it"


@settings(deadline=None, max_examples=50)
@given(scored, threshold, st.randoms(use_true_random=False))
def test_the_order_given_does_not_matter(rows: list[tuple[Box, float]], iou_above: float, rng: object) -> None:
    distinct = [(b, (k + 1) / (len(rows) + 1)) for k, (b, _) in enumerate(rows)]
    shuffled = list(distinct)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    outcomes = []
    for some in (distinct, shuffled):
        boxes, scores = tensors([b for b, _ in some], [s for _, s in some])
        result = suppress(boxes, scores, iou_above)
        means = weighted_means(boxes, scores, result)
        outcomes.append((boxes[result.kept_K], means))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert torch.allclose(outcomes[0][1], outcomes[1][1], rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(scored, threshold)
def test_a_mean_lies_within_its_members(rows: list[tuple[Box, float]], iou_above: float) -> None:
    boxes, scores = tensors([b for b, _ in rows], [s for _, s in rows])
    result = suppress(boxes, scores, iou_above)
    for kept, mean in zip(result.kept_K.tolist(), weighted_means(boxes, scores, result), strict=True):
        own = boxes[result.members(kept)]
        assert bool((mean >= own.amin(0) - 1e-9).all()) and bool((mean <= own.amax(0) + 1e-9).all())
