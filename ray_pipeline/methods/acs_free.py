"""CHOOSE by attention entropy (ACS-Free, section 7): the box that was written while looking at one place wins.

R(b) is the mean entropy over the profile's heads, coordinate by coordinate; lower is better. `joint`, this project's own,
adds how far attention misses the box, how unlikely its digits are and how much the other candidates disagree.
Legend: K candidates, P profiled heads.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ray_pipeline.methods.agreement import TIE, all_agree, coordinate_means, fallback, mean_iou_to_others, preferred
from ray_pipeline.methods.entropy import Entropies, shares_entropies
from ray_pipeline.methods.pool import Choice, Pool, told
from ray_pipeline.methods.profiled_maps import ProfiledMaps, inside_shares, profiled_heads, profiled_maps
from schemas.profile import HeadProfile, JointScore, ProfiledHead

Aggregate = Literal["mean", "zscore", "rank", "joint"]
FEWEST_RANKED = 4  # ranks of fewer candidates are too coarse to tell them apart (section 7.2)
LEAST_INSIDE = 1e-3  # share of a map inside a box below which missing it further makes no difference


def acs_free(pool: Pool) -> Choice:
    """The lowest R among the candidates whose attention is readable (section 7.3 for everything else).

    Where all agree, the answer drawn first stands, unscored. Heads that look past the picture while any candidate is
    written are left out for all. Where a profiled coordinate has no head left, or fewer than two candidates can be read,
    the medoid stands in, flagged.

    Raises:
        ValueError: no profile with heads, or one that does not fit the attention read.
    """
    profile = profiled_heads(pool)  # a missing profile is refused whatever the candidates say
    if all_agree(pool.candidates):
        first = min(range(len(pool.candidates)), key=lambda place: pool.candidates[place].index)
        return pool.pick(first, "all candidates agree")
    maps = profiled_maps(pool)
    if maps.defect:
        return fallback(pool, maps.defect)
    entropies = shares_entropies(maps.shares_KPV, maps.mass_KP)
    aggregate = usable_aggregate(pool.settings.aggregate, len(maps.mass_KP), profile)
    costs = score(entropies, maps.heads, aggregate)
    if aggregate == "joint" and profile.joint is not None:
        pointing = profiled_maps(pool, profile.pointing)
        if pointing.defect:
            return fallback(pool, pointing.defect)
        costs = joint_score(pool, profile.joint, costs, pointing)
    costs = costs - pool.settings.agreement * costs.std(correction=0) * mean_iou_to_others(pool.candidates)[maps.ranked_K]
    place = preferred(pool.candidates, maps.spread(costs).tolist())
    reason = f"lowest {'score' if aggregate == 'joint' else 'entropy'} on {len(maps.heads)} heads, joined by {aggregate}"
    return pool.pick(place, reason, told(maps.spread(coordinate_means(entropies.nats, maps.heads))))


def joint_score(pool: Pool, weights: JointScore, entropy_K: Tensor, pointing: ProfiledMaps) -> Tensor:
    """The four costs as the profile weighs them, (K ranked,). Likelihood is left out where the family does not tell it."""
    surprise_K = -coordinate_means(inside_shares(pool, pointing).clamp(min=LEAST_INSIDE).log(), pointing.heads)
    logprob_K = torch.tensor([one.digit_logprob for one in pool.candidates], dtype=torch.float64)[pointing.ranked_K]
    costs = weights.entropy * entropy_K + weights.surprise * surprise_K
    if all(map(math.isfinite, logprob_K.tolist())):
        costs = costs - weights.likelihood * logprob_K
    return costs - weights.agreement * mean_iou_to_others(pool.candidates)[pointing.ranked_K]


def usable_aggregate(asked: Aggregate | None, candidates: int, profile: HeadProfile) -> Aggregate:
    """What to join heads by, `joint` where the profile has weights, else `zscore`, unless asked otherwise.

    Profiled heads carry statistics; ranks of too few candidates give way to `mean`.

    Raises:
        ValueError: `joint` was asked for and the profile has no weights or no pointing heads; or it has nothing else and
            another one was asked for.
    """
    weighed = profile.joint is not None and bool(profile.pointing)
    if asked == "joint" and not weighed:
        raise ValueError("acs_free by joint needs a profile with weights and pointing heads; calibrate this model first")
    if not profile.heads and not (weighed and asked in (None, "joint")):
        raise ValueError(
            f"acs_free by {asked} needs heads whose entropy tells boxes apart, and this model has none; expected joint"
        )
    if asked == "rank" and candidates < FEWEST_RANKED:
        return "mean"
    return asked or ("joint" if weighed else "zscore")


def score(entropies: Entropies, heads: Sequence[ProfiledHead], aggregate: Aggregate) -> Tensor:
    """R of each candidate, (K,), from entropies (K, P): nats, standard deviations from the head's mean (also for
    `joint`), or ranks."""
    if aggregate == "mean":
        values = entropies.nats
    elif aggregate in ("zscore", "joint"):
        mu = entropies.normalised.new_tensor([head.mu for head in heads])
        sigma = entropies.normalised.new_tensor([head.sigma for head in heads])
        values = (entropies.normalised - mu) / sigma
    else:
        values = mid_ranks(entropies.nats)
    return coordinate_means(values, heads)


def mid_ranks(values_KP: Tensor) -> Tensor:
    """Ranks within each column, 1 the lowest, (K, P); values within a tie's width share the mean of their ranks."""
    difference = values_KP[:, None] - values_KP[None]
    lower, tied = (difference > TIE).sum(1), (difference.abs() <= TIE).sum(1)
    return lower + (tied + 1) / 2
