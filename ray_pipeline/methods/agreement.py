"""CHOOSE without a profile: by agreement among the boxes, by likelihood or by chance (ACS section 8, the baselines).

And the tie rule that every selector shares (section 7.3). Legend: K candidates. Answers written alike are one candidate,
but each of them counts: the results are those of all answers drawn.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ray_pipeline.geometry.boxes import iou
from ray_pipeline.methods.candidates import Candidate, boxes_of
from ray_pipeline.methods.pool import Choice, Pool, told
from ray_pipeline.methods.profiled_maps import inside_shares, profiled_maps
from schemas.picture import Box
from schemas.profile import ProfiledHead

TIE = 1e-6  # differences up to this are none
SAME_THING = 0.5  # IoU above which two boxes belong to one cluster
AGREED = 0.9  # smallest pairwise IoU above which there is nothing to choose


def mean_iou_to_others(candidates: Sequence[Candidate]) -> Tensor:
    """Mean IoU of each candidate with all other answers, (K,) float64; 0 where there is no other."""
    counts = _counts(candidates)
    boxes = boxes_of(candidates)
    others = counts.sum() - 1
    return (iou(boxes, boxes) @ counts - 1) / others if others > 0 else torch.zeros_like(counts)


def all_agree(candidates: Sequence[Candidate]) -> bool:
    """Every two boxes overlap by more than 0.9: choosing has nothing to gain."""
    boxes = boxes_of(candidates)
    return bool((iou(boxes, boxes) > AGREED).all())


def preferred(candidates: Sequence[Candidate], costs: Sequence[float]) -> int:
    """The place of the lowest cost; a cost of NaN is never ranked.

    Ties go to the likelier digits, then to the higher mean IoU with the others, then to the answer drawn first.

    Raises:
        ValueError: all costs are NaN.
    """
    left = [place for place, cost in enumerate(costs) if not math.isnan(cost)]
    if not left:
        raise ValueError(f"{len(costs)} costs, all NaN; expected at least one number")
    unlikely = [-candidate.digit_logprob for candidate in candidates]
    for key in (costs, unlikely, (-mean_iou_to_others(candidates)).tolist()):
        best = min(key[place] for place in left)
        left = [place for place in left if key[place] <= best + TIE]
    return min(left, key=lambda place: candidates[place].index)


def medoid(pool: Pool) -> Choice:
    """The candidate that agrees most with the others: self-consistency for boxes."""
    agreement = mean_iou_to_others(pool.candidates)
    place = preferred(pool.candidates, (-agreement).tolist())
    return pool.pick(place, f"medoid, mean IoU {float(agreement[place]):.3f} with the others")


def fallback(pool: Pool, why: str) -> Choice:
    """The medoid in place of what was asked for, flagged (section 7.3)."""
    choice = medoid(pool)
    return replace(choice, reason=f"fallback: {why}; {choice.reason}")


def cluster(pool: Pool) -> Choice:
    """The likeliest member of the largest cluster: a candidate and all that overlap it by more than one half.

    Members of equally large clusters compete with each other.
    """
    boxes, counts = boxes_of(pool.candidates), _counts(pool.candidates)
    near = iou(boxes, boxes) > SAME_THING
    sizes = near.double() @ counts
    member = near[sizes == sizes.max()].any(0)
    place = preferred(pool.candidates, torch.where(member, 0.0, math.inf).tolist())
    return pool.pick(place, f"likeliest of a cluster of {int(sizes.max())} of {int(counts.sum())}")


def likeliest(pool: Pool) -> Choice:
    """The highest mean log-probability of the coordinates' digits."""
    place = preferred(pool.candidates, [-candidate.digit_logprob for candidate in pool.candidates])
    return pool.pick(place, f"likeliest digits, mean log-probability {pool.candidates[place].digit_logprob:.3f}")


def least_entropy(pool: Pool) -> Choice:
    """The lowest mean entropy of the distributions that wrote the digits."""
    entropies = [candidate.digit_entropy for candidate in pool.candidates]
    place = preferred(pool.candidates, entropies)
    return pool.pick(place, f"least entropy of the digits, {entropies[place]:.3f} nats", told(torch.tensor(entropies)))


def random_answer(pool: Pool) -> Choice:
    """One of the answers drawn, all equally likely; the same for the same seed."""
    counts = [candidate.multiplicity for candidate in pool.candidates]
    source = random.Random(f"one of the answers {pool.seed}")  # a stream apart from the one that drew the answers
    place = source.choices(range(len(counts)), counts)[0]
    return pool.pick(place, f"random among {sum(counts)}")


def mean_box(pool: Pool) -> Choice:
    """Coordinate by coordinate the mean of all answers: nobody's own box, without attention."""
    return _nobodys(_repeated(pool.candidates).mean(0), "mean", pool)


def median_box(pool: Pool) -> Choice:
    """Coordinate by coordinate the median of all answers (of the two middle ones their mean)."""
    return _nobodys(_repeated(pool.candidates).quantile(0.5, 0), "median", pool)


def inside_mass(pool: Pool) -> Choice:
    """The most attention inside its own box, mean over the profile's heads per coordinate (not in the paper).

    Raises:
        ValueError: no profile with heads, or one that does not fit the attention read.
    """
    maps = profiled_maps(pool)
    if maps.defect:
        return fallback(pool, maps.defect)
    inside_K = maps.spread(coordinate_means(inside_shares(pool, maps), maps.heads))
    place = preferred(pool.candidates, (-inside_K).tolist())
    return pool.pick(place, f"most attention inside its box, {float(inside_K[place]):.3f}")


def coordinate_means(values_KP: Tensor, heads: Sequence[ProfiledHead]) -> Tensor:
    """Mean over the heads of each coordinate, then over the coordinates that have heads, (K,): R of section 7.1."""
    names = [head.coordinate for head in heads]
    own = torch.tensor([[name == other for other in names] for name in dict.fromkeys(names)])
    return torch.stack([values_KP[:, mask].mean(1) for mask in own], 1).mean(1)


def oracle(candidates: Sequence[Candidate], reference_px: Box) -> Candidate:
    """The best of N by its IoU with the reference: what no selector can beat. Ties go to the answer drawn first.

    Raises:
        ValueError: no candidates.
    """
    if not candidates:
        raise ValueError("0 candidates, expected at least 1")
    truth = iou(boxes_of(candidates), torch.tensor([reference_px], dtype=torch.float64))[:, 0].tolist()
    ranking = sorted(range(len(candidates)), key=lambda place: (-truth[place], candidates[place].index))
    return candidates[ranking[0]]


def _nobodys(box_4: Tensor, name: str, pool: Pool) -> Choice:
    x0, y0, x1, y1 = box_4.tolist()
    nothing = (None,) * len(pool.candidates)
    return Choice((x0, y0, x1, y1), None, f"{name} of {int(_counts(pool.candidates).sum())} boxes", nothing, nothing)


def _counts(candidates: Sequence[Candidate]) -> Tensor:
    return torch.tensor([float(candidate.multiplicity) for candidate in candidates], dtype=torch.float64)


def _repeated(candidates: Sequence[Candidate]) -> Tensor:
    return boxes_of(candidates).repeat_interleave(_counts(candidates).long(), 0)
