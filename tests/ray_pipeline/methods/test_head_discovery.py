"""From labelled queries to a profile: the published AUROC, pairs within queries, every rule, planted heads found again."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ray_pipeline.methods.acs_learned import AirS
from ray_pipeline.methods.entropy import Entropies
from ray_pipeline.methods.head_discovery import (
    HeadRules,
    Origin,
    best_heads,
    discover,
    head_auroc,
    layer_attribution,
    ordered_pairs,
)
from ray_pipeline.methods.labelled_queries import LabelledQuery, QueryReading, image_parts, pseudo_iou, read_query
from schemas.profile import COORDINATES, HeadProfile
from tests.ray_pipeline.methods.made_pools import FAR, FIRST, HEADS, LAYERS, NEAR, PLANTED, SHIFTED, candidate, planted_queries

ORIGIN = Origin("0" * 64, "5.23.0", "bfloat16", "1" * 64, "planted attention", "2026-11-21")
EQUAL = torch.ones(len(LAYERS))


def reading(nats: list[float], iou: list[float], image: str = "a", tokens: int = 50, mass: float = 0.2) -> QueryReading:
    values = torch.tensor(nats, dtype=torch.float64).reshape(-1, 1, 1, 1).expand(-1, 4, 1, 1)
    return QueryReading(image, Entropies(values, values / math.log(tokens), torch.full_like(values, mass)), torch.tensor(iou))


def test_published_auroc() -> None:
    good, bad = torch.tensor([4.0, 4.2, 4.4])[:, None], torch.tensor([4.3, 4.5, 4.6])[:, None]
    assert ordered_pairs(good, bad).item() == 8
    auroc = head_auroc([reading([4.0, 4.2, 4.4, 4.3, 4.5, 4.6], [0.7, 0.9, 0.61, 0, 0, 0])], least_pairs=1)
    assert auroc.shape == (4, 1, 1) and auroc.flatten().tolist() == pytest.approx([0.888889] * 4, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.lists(st.integers(0, 6), min_size=1, max_size=8))
def test_ordered_pairs_counts_like_a_person(good: list[int], bad: list[int]) -> None:
    expected = sum((b > g) + 0.5 * (b == g) for g in good for b in bad)
    shaped = [torch.tensor(values, dtype=torch.float64)[:, None, None].repeat(1, 2, 3) for values in (good, bad)]
    assert ordered_pairs(*shaped).tolist() == [[expected] * 3] * 2


def test_what_is_neither_good_nor_bad_does_not_count() -> None:
    assert head_auroc([reading([1.0, 2.0, 9.0, 0.0], [0.9, 0.0, 0.6, 0.3])], 1).unique().tolist() == [1.0]


SPLIT = [reading([3.0, 3.2], [0.9, 0.0], "easy"), reading([4.0, 4.2], [0.9, 0.0], "hard")]


def test_pairs_are_drawn_within_queries() -> None:
    """Across queries a good box of the hard picture looks worse than a bad one of the easy picture."""
    assert head_auroc(SPLIT, least_pairs=2).unique().tolist() == [1.0]
    assert head_auroc(SPLIT, least_pairs=3).unique().tolist() == [0.75]


def test_all_pairs_are_compared_by_normalised_entropy() -> None:
    """In nats the bad box of the small picture would look more concentrated than the good one of the large picture."""
    apart = [reading([4.0], [0.9], "large", tokens=1000), reading([3.5], [0.0], "small", tokens=50)]
    assert head_auroc(apart, least_pairs=1).unique().tolist() == [1.0]


@pytest.mark.parametrize(("iou", "found"), [([0.9, 0.7], "2 good and 0 bad"), ([0.0, 0.3], "0 good and 1 bad")])
def test_one_sided_labels_are_refused(iou: list[float], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        head_auroc([reading([1.0, 2.0], iou)], 1)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (HeadRules(), [(1, 0), (0, 1), (1, 2), (2, 0)]),  # (1, 1) passes but is the third of its layer
        (HeadRules(per_layer=3), [(1, 0), (0, 1), (1, 2), (1, 1)]),
        (HeadRules(per_coordinate=1), [(1, 0)]),
        (HeadRules(per_layer=1), [(1, 0), (0, 1), (2, 0)]),
    ],
)
def test_the_best_heads_of_a_coordinate(rules: HeadRules, expected: list[tuple[int, int]]) -> None:
    auroc = torch.tensor([[0.99, 0.80, 0.59], [0.90, 0.70, 0.75], [0.65, 0.60, 0.61]])
    passed = torch.tensor([[False, True, False], [True, True, True], [True, False, False]])
    assert best_heads(auroc, passed, rules) == expected


def discovered(**more: object) -> HeadProfile:
    readings = [read_query(query, "finest_view") for query in planted_queries(80)]
    return discover(readings, LAYERS, EQUAL, ORIGIN, **more)


def heads_of(profile: HeadProfile) -> dict[str, set[tuple[int, int]]]:
    return {
        name: {(LAYERS.index(one.layer), one.head) for one in profile.heads if one.coordinate == name} for name in COORDINATES
    }


def test_planted_heads_are_found() -> None:
    profile = discovered(rules=HeadRules(per_coordinate=2), regressor_layers=LAYERS)
    assert heads_of(profile) == PLANTED
    assert min(head.auroc for head in profile.heads) > 0.8
    assert (profile.model, profile.dtype, profile.tokens, profile.rows) == ("0" * 64, "bfloat16", "finest_view", "prediction")
    assert profile.layers == LAYERS and HeadProfile.model_validate_json(profile.model_dump_json()) == profile


def test_planted_heads_are_among_the_usual_four() -> None:
    found = heads_of(discovered())
    assert all(PLANTED[name] <= heads and len(heads) <= 4 for name, heads in found.items())


def test_statistics_are_those_of_the_normalised_entropy() -> None:
    readings = [read_query(query, "finest_view") for query in planted_queries(80)]
    values = torch.cat([one.entropies.normalised for one in readings])
    for one in discovered().heads:
        own = values[:, COORDINATES.index(one.coordinate), LAYERS.index(one.layer), one.head]
        assert (one.mu, one.sigma) == pytest.approx((own.mean().item(), own.std(correction=0).item()))


def test_layers_the_regressor_does_not_use_are_left_out() -> None:
    readings = [read_query(query, "finest_view") for query in planted_queries(80)]
    profile = discover(readings, LAYERS, torch.tensor([0.3, 0.1, 0.2]), ORIGIN, HeadRules(layers=2))
    assert {head.layer for head in profile.heads} <= {5, 9}


def test_heads_that_hardly_see_the_picture_are_dropped() -> None:
    queries = planted_queries(80)
    for query in queries:
        query.weights_KCLHT[2:, 0, 1, 2] *= 0.03  # mass 0.003 .. 0.009 for six of eight candidates
    profile = discover([read_query(query, "finest_view") for query in queries], LAYERS, EQUAL, ORIGIN)
    assert heads_of(profile)["x0"] & PLANTED["x0"] == {(2, 0)}


@pytest.mark.parametrize("half", [0, 1])
def test_heads_that_work_on_one_half_of_the_images_are_dropped(half: int) -> None:
    queries = planted_queries(80)
    halves = image_parts({query.image for query in queries}, 2)
    for query in queries:
        if halves[query.image] == half:  # there this head looks closer the worse the box
            ascending, rank = query.iou_K.argsort(), query.iou_K.argsort().argsort()
            query.weights_KCLHT[:, 0, 1, 2] = query.weights_KCLHT[ascending.flip(0)[rank], 0, 1, 2]
    readings = [read_query(query, "finest_view") for query in queries]
    many = HeadRules(per_coordinate=12, per_layer=12, least_auroc=0.3)  # so that chance and rank exclude nobody
    assert heads_of(discover(readings, LAYERS, EQUAL, ORIGIN, many))["x0"] & PLANTED["x0"] == {(2, 0)}


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="2 layers, 3 attributions and readings of 1"):
        discover(SPLIT, (4, 5), torch.ones(3), ORIGIN)


class Watching(AirS):
    """Reads the place of attention in one layer alone."""

    def forward(self, maps_BCNYX: Tensor, scalars_BCN2: Tensor, kept_BN: Tensor | None = None) -> Tensor:
        return maps_BCNYX[:, :, HEADS : 2 * HEADS, :, 4:].sum((1, 2, 3, 4)) + 0.1 * scalars_BCN2[:, 0, 0, 0]


def test_attribution_names_the_layer_that_was_looked_at() -> None:
    attribution = layer_attribution(Watching(LAYERS, HEADS, 8), planted_queries(2))
    assert attribution.argsort(descending=True).tolist()[:2] == [1, 0] and attribution[2].item() == 0


def test_attribution_is_gradient_times_input() -> None:
    """f = ln of the mass of one head: |a df/da| sums to 1 there, so a layer's mean is 1 / (4 coordinates x heads)."""

    class Weighing(AirS):
        def forward(self, maps_BCNYX: Tensor, scalars_BCN2: Tensor, kept_BN: Tensor | None = None) -> Tensor:
            return scalars_BCN2[:, 2, 2 * HEADS + 1, 1]

    attribution = layer_attribution(Weighing(LAYERS, HEADS, 8), planted_queries(2))
    assert attribution.tolist() == pytest.approx([0, 0, 1 / (4 * HEADS)], abs=1e-6)
    with pytest.raises(ValueError, match="0 queries"):
        layer_attribution(Weighing(LAYERS, HEADS, 8), [])


def test_candidates_that_cannot_be_read_are_left_out() -> None:
    (query, _) = planted_queries(2, candidates=3)
    query.weights_KCLHT[1, 0, 0, 0, 0] = math.nan
    read = read_query(query, "finest_view")
    assert read.iou_K.tolist() == query.iou_K[[0, 2]].tolist() and read.entropies.nats.isfinite().all()
    with pytest.raises(ValueError, match="image 0: 0 of 3 candidates"):
        replace(query, weights_KCLHT=torch.full_like(query.weights_KCLHT, math.nan)).readable()


def test_halves_of_attention_may_be_stored() -> None:
    (query, _) = planted_queries(2)
    halves = replace(query, weights_KCLHT=query.weights_KCLHT.half())
    full, half = (read_query(one, "finest_view").entropies.normalised for one in (query, halves))
    assert torch.allclose(full, half, atol=1e-3)


def test_attention_that_does_not_fit_is_refused() -> None:
    (query, _) = planted_queries(2)
    with pytest.raises(ValueError, match=r"expected \(7, 4, 'layers', 'heads', 48\)"):
        LabelledQuery(query.image, query.footprints, 640, 480, query.weights_KCLHT, query.iou_K[:7])


def test_images_are_parted_evenly_whatever_their_order() -> None:
    names = [f"image {k}" for k in range(101)]
    parts = image_parts(names, 2)
    assert parts == image_parts(reversed(names), 2) and sorted(parts) == sorted(names)
    assert sorted(parts.values()) == [0] * 51 + [1] * 50
    assert any(parts[one] == parts[two] for one, two in pairwise(names))  # not by their order
    assert parts != image_parts(names, 2, "other")


def test_without_the_truth_the_medoid_stands_for_it() -> None:
    members = [candidate(box, k) for k, box in enumerate((FIRST, SHIFTED, NEAR, FAR))]
    assert pseudo_iou(members).tolist() == pytest.approx([1.0, 0.470588, 0.822323, 0.0], abs=1e-5)
