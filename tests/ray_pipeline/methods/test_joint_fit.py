"""Pointing heads and weights of the joint score: planted ones are found, useless ones weigh nothing."""

import pytest
import torch

from ray_pipeline.methods.box_training import BoxQuery
from ray_pipeline.methods.joint_fit import fitted, pointing_heads, with_joint_score
from tests.ray_pipeline.methods.made_boxes import LAYERS, POINTS, box_queries
from tests.ray_pipeline.methods.made_pools import head, profile


def test_the_planted_head_points() -> None:
    found = pointing_heads(box_queries(), LAYERS, 3)
    assert (found[0].coordinate, found[0].layer, found[0].head) == POINTS and found[0].auroc > 0.8
    assert len(found) == 3 and found[1].auroc < 0.7 and found[0].sigma > 0


def test_at_most_two_heads_of_a_layer_point_for_one_coordinate() -> None:
    found = pointing_heads(box_queries(), LAYERS, 16)
    assert len(found) == 16
    assert (
        max(sum((one.coordinate, one.layer) == (c, layer) for one in found) for c in ("x0", "y0", "x1", "y1") for layer in LAYERS)
        == 2
    )


def test_no_right_or_wrong_candidates_are_refused() -> None:
    alike = [BoxQuery(one.image, one.features_KF, torch.ones(6)) for one in box_queries()[:3]]
    with pytest.raises(ValueError, match="in none of 3 queries"):
        pointing_heads(alike, LAYERS, 2)


def test_weights_go_to_the_cost_that_tells() -> None:
    random = torch.Generator().manual_seed(4)
    ious = [torch.rand(5, generator=random) for _ in range(80)]
    costs = [torch.stack([torch.rand(5, generator=random), 1 - one, one], 1) for one in ious]
    weights = fitted(costs, ious)
    assert (weights >= 0).all() and weights[1] > 5 * weights[0] and weights[1] > 50 * weights[2]


def test_a_joint_score_is_fitted_behind_the_profiles_heads() -> None:
    known = profile([head("y1", 3, 0, mu=0.9, sigma=0.1)])
    joined = with_joint_score(known, box_queries(), LAYERS, pointing=1)
    assert joined.joint is not None and (joined.pointing[0].layer, joined.pointing[0].head) == (6, 1)
    assert joined.joint.surprise > 0.2 and joined.heads == known.heads and joined.head_layers == (3, 6)


def test_without_heads_entropy_counts_for_nothing() -> None:
    joined = with_joint_score(profile([]), box_queries(), LAYERS, pointing=1)
    assert joined.joint is not None and joined.joint.entropy == 0.0 and joined.joint.surprise > 0.2
    assert joined.heads == () and joined.head_layers == (6,)
