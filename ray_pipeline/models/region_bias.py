"""Attention reweighting: attention to the visual tokens of a region times a factor, as a bias on the scores.

softmax(s + log f) multiplies a key's weight by f and renormalises over all keys, in any attention kernel.
"""

import math

import torch
from torch import Tensor

from ray_pipeline.geometry.boxes import contained_share
from ray_pipeline.models.contract import Boost, VisualTokens

HALF = 0.5  # of a token's footprint that must lie in the region


def region_bias(tokens: VisualTokens, boost: Boost) -> Tensor:
    """(P,) on the prefix's keys: log(factor) at visual tokens at least half of whose footprint lies in a region, else 0.

    Raises:
        ValueError: a factor that is not positive and finite.
    """
    if not (math.isfinite(boost.factor) and boost.factor > 0):
        raise ValueError(f"attention factor {boost.factor}, expected a finite one above 0")
    prints = tokens.footprints
    regions = torch.tensor(boost.boxes_px, dtype=prints.boxes_T4_px.dtype)
    inside = prints.valid_T & (contained_share(prints.boxes_T4_px, regions) >= HALF).any(1)
    bias = torch.zeros(tokens.state.prefix.length, device=tokens.state.prefix.blocks[0].keys[0].device)
    bias[tokens.state.slots_T[inside].to(bias.device)] = math.log(boost.factor)
    return bias
