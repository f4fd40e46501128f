"""Heads and regressor of one model, from candidates whose IoU with the truth is known (ACS sections 5 and 6).

Legend: K candidates of a query, C coordinates, L layers, H heads, F features of a map.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from ray_pipeline.calibration.drawing import Drawn
from ray_pipeline.calibration.isotonic import TooFew
from ray_pipeline.methods.agreement import coordinate_means
from ray_pipeline.methods.box_features import POOL_FEATURES
from ray_pipeline.methods.box_regressor import AirB
from ray_pipeline.methods.box_training import BoxQuery, train_box_regressor
from ray_pipeline.methods.candidates import gather
from ray_pipeline.methods.head_discovery import HeadRules, Origin, discover
from ray_pipeline.methods.joint_fit import with_joint_score
from ray_pipeline.methods.labelled_queries import QueryReading, read_query
from ray_pipeline.methods.regressor_training import Quality, quality
from schemas.profile import COORDINATES, HeadProfile

LEAST_QUERIES = 60  # to learn from: fewer leave the order within a question to chance
LEAST_HELD_OUT = 20
HEADS_PER_COORDINATE = (1, 2, 4, 8)


@dataclass(frozen=True)
class Learned:
    """What is kept of a query; the attention itself would not fit in memory."""

    boxes: BoxQuery
    reading: QueryReading


def learned_from(drawn: Drawn) -> Learned | None:
    """None where no candidate is readable."""
    if (query := drawn.labelled()) is None or drawn.footprints is None:
        return None
    picture, heads = drawn.query.picture, query.weights_KCLHT.shape[3]
    candidates, _ = gather(drawn.generations, picture.width, picture.height)
    features_KF = AirB(drawn.layers, heads).features(candidates, drawn.footprints, picture.width, picture.height)
    seen = BoxQuery(query.image, features_KF[features_KF.isfinite().all(1)].half(), query.iou_K)
    return Learned(seen, read_query(query, "finest_view"))


def trained(queries: Sequence[Learned], held_out: Sequence[Learned], layers: Sequence[int], seed: int) -> tuple[AirB, Quality]:
    """The regressor, and how well it rates candidates on pictures it never saw.

    Raises:
        TooFew: of `LEAST_QUERIES` to learn from or `LEAST_HELD_OUT` to measure on, or those are all alike.
    """
    if len(queries) < LEAST_QUERIES or len(held_out) < LEAST_HELD_OUT:
        found = f"{len(queries)} questions with boxes drawn to learn from and {len(held_out)} held back"
        raise TooFew(f"{found}, expected at least {LEAST_QUERIES} and {LEAST_HELD_OUT}")
    heads = queries[0].reading.entropies.nats.shape[3]
    regressor = train_box_regressor([one.boxes for one in queries], layers, heads, seed)
    # as it will be read back: its file holds halves
    reached = measured(AirB.from_bytes(regressor.to_bytes()), held_out)
    if not (math.isfinite(reached.pearson) and math.isfinite(reached.within_query)):
        raise TooFew(f"in none of {len(held_out)} held-back questions do candidates differ in IoU, expected some")
    return regressor, reached


@torch.no_grad()
def measured(regressor: AirB, queries: Sequence[Learned]) -> Quality:
    """How a regressor rates the candidates of these queries."""
    rated = [regressor(regressor.standardised(one.boxes.features_KF.float())).sigmoid() for one in queries]
    return quality(rated, [one.boxes.iou_K for one in queries])


def layer_weights(regressor: AirB, queries: Sequence[Learned]) -> Tensor:
    """How much each layer weighs in what the regressor predicts, (L,): gradient times input, mean over all else."""
    total_L = torch.zeros(len(regressor.layers))
    for one in queries:
        seen_KF = regressor.standardised(one.boxes.features_KF.float()).requires_grad_()
        (gradient_KF,) = torch.autograd.grad(regressor(seen_KF).sum(), seen_KF)
        maps_KM = (seen_KF * gradient_KF).detach().abs()[:, : -len(POOL_FEATURES)]
        total_L += maps_KM.unflatten(1, (len(COORDINATES), len(regressor.layers), -1)).mean((0, 1, 3))
    return total_L / max(1, len(queries))


def found_heads(
    queries: Sequence[Learned], choosing: Sequence[Learned], layers: Sequence[int], weights_L: Tensor, about: Origin
) -> HeadProfile:
    """The profile whose number of heads selects best among the queries `choosing`, with its joint score.

    Where no head's entropy tells good boxes from bad ones, heads whose attention lies in the good ones do alone.

    Raises:
        ValueError: no head passes the rules either way, or no query tells right from wrong.
    """
    readings = [one.reading for one in queries]
    best: tuple[float, HeadProfile] | None = None
    for count in HEADS_PER_COORDINATE:
        profile = discover(readings, layers, weights_L, about, HeadRules(per_coordinate=count), layers)
        if not profile.heads:
            return _pointing_only(profile, queries, layers)
        reached = fmean(selected_iou(one.reading, profile, layers) for one in choosing or queries)
        if best is None or reached > best[0] + 1e-3:  # fewer where it makes no difference
            best = reached, profile
    if best is None:
        raise ValueError("0 settings tried, expected at least one")
    return with_joint_score(best[1], [one.boxes for one in queries], layers)


def _pointing_only(profile: HeadProfile, queries: Sequence[Learned], layers: Sequence[int]) -> HeadProfile:
    found = with_joint_score(profile, [one.boxes for one in queries], layers)
    if not found.pointing or found.pointing[0].auroc < HeadRules().least_auroc:
        raise ValueError(f"no head tells good boxes from bad ones by the rules, of {len(queries)} questions")
    return found


def no_heads(about: Origin, layers: Sequence[int]) -> HeadProfile:
    """The profile of a regressor that has no heads beside it."""
    return HeadProfile(
        model=about.model, transformers=about.transformers, dtype=about.dtype, tokens=about.tokens,
        prompt_sha256=about.prompt_sha256, calibrated_on=about.calibrated_on, date=about.date, heads=(),
        regressor_layers=tuple(layers),
    )  # fmt: skip


def selected_iou(reading: QueryReading, profile: HeadProfile, layers: Sequence[int]) -> float:
    """IoU of the candidate that mean z-scores on the profile's heads select."""
    entropies_KP = torch.stack(
        [
            (reading.entropies.normalised[:, COORDINATES.index(one.coordinate), list(layers).index(one.layer), one.head] - one.mu)
            / one.sigma
            for one in profile.heads
        ],
        1,
    )
    return float(reading.iou_K[coordinate_means(entropies_KP, profile.heads).argmin()])
