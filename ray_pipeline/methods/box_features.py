"""What attention and the other candidates say about one box: numbers for a regressor (beyond ACS, whose f sees maps alone).

A map tells good boxes from bad ones mostly by where it lies: a row that all candidates share, as before the first
coordinate, ranks them by which of them holds what it looks at.
Legend: K candidates, C coordinates, L layers, H heads, N = C x L x H maps, T visual tokens, V those that count, F features.
Lengths are in token sides: the median footprint's width or height.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ray_pipeline.geometry.boxes import area, clip, contained_share, iou
from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.methods.acs_free import LEAST_INSIDE
from ray_pipeline.methods.agreement import SAME_THING, mean_iou_to_others
from ray_pipeline.methods.candidates import Candidate, boxes_of
from ray_pipeline.methods.entropy import LEAST_MASS, renormalised, shares_entropies

FURTHEST = 3.0  # token sides beyond which it makes no difference how far off a map lies
LEAST_LOGPROB = -20.0  # stands in where a family tells no likelihood
COORDINATES_WRITTEN = 4  # mean log-probabilities times this are a box's own
MAP_FEATURES = (
    "inside", "density", "nearby", "right", "below", "right_or_left", "below_or_above", "entropy", "log_mass", "log_inside"
)  # fmt: skip
POOL_FEATURES = (
    "logprob", "digit_entropy", "agreement", "likely_agreement", "cluster_share", "pool_agreement", "logprob_to_likeliest",
    "x_unit", "y_unit", "width_unit", "height_unit", "log_width", "log_height",
    "x0_off", "y0_off", "x1_off", "y1_off", "x0_spread", "y0_spread", "x1_spread", "y1_spread",
)  # fmt: skip


def map_features(
    weights_KCLHT: Tensor, boxes_K4: Tensor, footprints: Footprints, kept_T: Tensor, width: int, height: int
) -> Tensor:
    """How each map lies to its candidate's box, (K, N, F) float32, named by `MAP_FEATURES`.

    Shares of the map in the box and within a token side of it, the former over the box's share of the picture; from the
    box's centre to the centre of the squared map, signed and not; entropy (0..1) and mass.

    Raises:
        ValueError: what `entropy.renormalised` refuses.
    """
    shares_KNV, mass_KN = renormalised(weights_KCLHT.flatten(1, 3), kept_T)
    prints_V4 = clip(footprints.boxes_T4_px[kept_T].double(), width, height)
    side_2 = token_side(prints_V4)
    near_K4 = torch.cat([boxes_K4[:, :2] - side_2, boxes_K4[:, 2:] + side_2], 1)
    inside_KN = torch.einsum("knv,vk->kn", shares_KNV, contained_share(prints_V4, boxes_K4))
    nearby_KN = torch.einsum("knv,vk->kn", shares_KNV, contained_share(prints_V4, near_K4))
    covered_K1 = (area(boxes_K4) / (width * height))[:, None]
    sharp_KNV = shares_KNV.square()
    sharp_KNV = sharp_KNV / sharp_KNV.sum(-1, keepdim=True).clamp(min=1e-12)
    off_KN2 = (sharp_KNV @ _centres(prints_V4) - _centres(boxes_K4)[:, None]) / side_2
    density_KN = ((inside_KN + LEAST_INSIDE) / (covered_K1 + LEAST_INSIDE)).log()
    return torch.stack(
        [
            inside_KN, density_KN, nearby_KN, *off_KN2.clamp(-FURTHEST, FURTHEST).unbind(-1),
            *off_KN2.abs().clamp(max=FURTHEST).unbind(-1), shares_entropies(shares_KNV, mass_KN).normalised,
            mass_KN.clamp(min=LEAST_MASS).log(), inside_KN.clamp(min=LEAST_INSIDE).log(),
        ],
        -1,
    ).float()  # fmt: skip


def pool_features(candidates: Sequence[Candidate], footprints: Footprints, kept_T: Tensor, width: int, height: int) -> Tensor:
    """What is known of each candidate without attention, (K, F) float32, named by `POOL_FEATURES`.

    Agreement counts answers, once each and by their likelihood. Offsets of the corners are from the answers' mean box, and
    their spreads, one for all candidates, around it.
    """
    boxes_K4 = boxes_of(candidates)
    counts_K = torch.tensor([float(one.multiplicity) for one in candidates], dtype=torch.float64)
    logprob_K = torch.tensor([one.digit_logprob for one in candidates], dtype=torch.float64).clamp(min=LEAST_LOGPROB)
    entropy_K = torch.tensor([one.digit_entropy for one in candidates], dtype=torch.float64).clamp(max=-LEAST_LOGPROB)
    overlap_KK, weight_K = iou(boxes_K4, boxes_K4), counts_K / counts_K.sum()
    agreement_K = mean_iou_to_others(candidates)
    likely_K = overlap_KK @ (COORDINATES_WRITTEN * logprob_K).softmax(0)
    cluster_K = (overlap_KK >= SAME_THING).double() @ weight_K
    sides_K2 = (boxes_K4[:, 2:] - boxes_K4[:, :2]) / boxes_K4.new_tensor([width, height])
    side_4 = token_side(clip(footprints.boxes_T4_px[kept_T].double(), width, height)).repeat(2)
    off_K4 = (boxes_K4 - weight_K @ boxes_K4) / side_4
    spread_4 = (weight_K @ off_K4.square()).sqrt()
    columns = [logprob_K, entropy_K, agreement_K, likely_K, cluster_K, agreement_K.mean().expand_as(agreement_K)]
    return torch.cat(
        [
            torch.stack([*columns, logprob_K - logprob_K.max()], 1),
            _centres(boxes_K4) / boxes_K4.new_tensor([width, height]), sides_K2, sides_K2.clamp(min=LEAST_INSIDE).log(),
            off_K4.clamp(-FURTHEST, FURTHEST), spread_4.expand_as(off_K4),
        ],
        1,
    ).float()  # fmt: skip


def token_side(prints_V4: Tensor) -> Tensor:
    """Median width and height of footprints, (2,) px; without any with area, 1 px."""
    seen_V4 = prints_V4[area(prints_V4) > 0]
    if not len(seen_V4):
        return prints_V4.new_ones(2)
    return (seen_V4[:, 2:] - seen_V4[:, :2]).median(0).values


def width_of_features(layers: int, heads: int, coordinates: int) -> int:
    """How many numbers describe one candidate."""
    return math.prod((coordinates, layers, heads, len(MAP_FEATURES))) + len(POOL_FEATURES)


def _centres(boxes_N4: Tensor) -> Tensor:
    return (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2
