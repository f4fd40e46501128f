"""grad-att: attention that the answer's first token depends on (ViCrop, section 4.1). The question alone is read.

Per head, attention of the last prompt position times the positive part of its gradient; then the mean over heads.
Shapes: H heads, T visual tokens, Y X cells.
"""

from collections.abc import Generator

import torch
from torch import Tensor

from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.methods.focus import Probe, Reader, Reading, expect
from ray_pipeline.methods.importance import head_mean, on_published_grid, on_region
from ray_pipeline.models.contract import GradientAttention, ReadGradient, Reply, Request, VisualTokens
from schemas.picture import Box


def grad_att_map(weights_T: Tensor, footprints: Footprints, region_px: Box) -> Tensor:
    """Weights on a region, (Y, X); NaN in cells that no token covers."""
    maps = on_region(weights_T, footprints, region_px)
    return torch.where(maps.covered_YX, maps.ratio_YX, torch.nan)


def read_grad_att(tokens: VisualTokens, region_px: Box, probe: Probe) -> Generator[Request, Reply, Reading]:
    """One forward and one backward pass of the question's last position."""
    reply = expect(GradientAttention, (yield ReadGradient(tokens, probe.question.text, probe.layer)))
    weights_T = head_mean(reply.weights_HT)
    if probe.official:
        map_YX = on_published_grid(weights_T, tokens)
    else:
        map_YX = grad_att_map(weights_T, tokens.footprints, region_px)
    return Reading(map_YX, f"gradient of token {reply.token}, ahead by {reply.margin:.3g}")


# The scale hangs on each block's own likeliest token, and little of a block matters to it: the background, as in rel-att.
GRAD_ATT = Reader("grad_att", read_grad_att, whole_decoder=True, background="median")
