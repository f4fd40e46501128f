"""CHOOSE by attention entropy (ACS-Free, section 7): the box that was written while looking at one place wins.

R(b) is the mean entropy over the profile's heads, coordinate by coordinate; lower is better. Legend: K candidates,
P profiled heads.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from ray_pipeline.methods.agreement import TIE, all_agree, coordinate_means, fallback, mean_iou_to_others, preferred
from ray_pipeline.methods.entropy import Entropies, shares_entropies
from ray_pipeline.methods.pool import Choice, Pool, told
from ray_pipeline.methods.profiled_maps import profiled_heads, profiled_maps
from schemas.profile import ProfiledHead

Aggregate = Literal["mean", "zscore", "rank"]
FEWEST_RANKED = 4  # ranks of fewer candidates are too coarse to tell them apart (section 7.2)


def acs_free(pool: Pool) -> Choice:
    """The lowest R among the candidates whose attention is readable (section 7.3 for everything else).

    Where all agree, the answer drawn first stands, unscored. Heads that look past the picture while any candidate is
    written are left out for all. Where a profiled coordinate has no head left, or fewer than two candidates can be read,
    the medoid stands in, flagged.

    Raises:
        ValueError: no profile with heads, or one that does not fit the attention read.
    """
    profiled_heads(pool)  # a missing profile is refused whatever the candidates say
    if all_agree(pool.candidates):
        first = min(range(len(pool.candidates)), key=lambda place: pool.candidates[place].index)
        return pool.pick(first, "all candidates agree")
    maps = profiled_maps(pool)
    if maps.defect:
        return fallback(pool, maps.defect)
    entropies = shares_entropies(maps.shares_KPV, maps.mass_KP)
    aggregate = usable_aggregate(pool.settings.aggregate, len(maps.mass_KP))
    costs = score(entropies, maps.heads, aggregate)
    costs = costs - pool.settings.agreement * costs.std(correction=0) * mean_iou_to_others(pool.candidates)[maps.ranked_K]
    place = preferred(pool.candidates, maps.spread(costs).tolist())
    reason = f"lowest entropy on {len(maps.heads)} heads, joined by {aggregate}"
    return pool.pick(place, reason, told(maps.spread(coordinate_means(entropies.nats, maps.heads))))


def usable_aggregate(asked: Aggregate | None, candidates: int) -> Aggregate:
    """What to join heads by: `zscore` unless asked otherwise (profiled heads carry statistics), `mean` for too few to rank."""
    if asked == "rank" and candidates < FEWEST_RANKED:
        return "mean"
    return asked or "zscore"


def score(entropies: Entropies, heads: Sequence[ProfiledHead], aggregate: Aggregate) -> Tensor:
    """R of each candidate, (K,), from entropies (K, P): nats, standard deviations from the head's mean, or ranks."""
    if aggregate == "mean":
        values = entropies.nats
    elif aggregate == "zscore":
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
