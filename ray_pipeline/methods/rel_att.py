"""rel-att: where the question looks compared with a general prompt (ViCrop, section 4.1).

Both maps are attention of the last prompt position at one layer. They are rasterised from footprints first and divided
then, so that the coverage of overlapping views cancels.
Shapes: Q questions, H heads, T visual tokens, Y X cells.
"""

from collections.abc import Generator

import torch
from torch import Tensor

from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.methods.focus import Probe, Reader, Reading, expect
from ray_pipeline.methods.importance import head_mean, on_published_grid, on_region
from ray_pipeline.models.contract import Attention, ReadAttention, Reply, Request, VisualTokens
from schemas.picture import Box

FLOOR = 0.1  # of the generic map's mean


def rel_att_map(question_T: Tensor, generic_T: Tensor, footprints: Footprints, region_px: Box) -> Tensor:
    """Ratio of the two attention maps on a region, (Y, X), cell by cell.

    The generic map is floored at a tenth of its own mean: where a general description looks nowhere the published
    quotient is noise over nothing, and one such cell outweighs the thing asked for. Scale-free in either map. Cells that
    no token covers are NaN, for the crop's choice to fill from their neighbours: a zero there would be a contrast.
    """
    maps = on_region(torch.stack([question_T, generic_T]), footprints, region_px)
    question, generic = maps.ratio_YX
    floor = FLOOR * generic[maps.covered_YX].mean()
    return torch.where(maps.covered_YX, question / torch.maximum(generic, floor), torch.nan)


def published_rel_att_map(question_T: Tensor, generic_T: Tensor, tokens: VisualTokens) -> Tensor:
    """The published quotient on the token grid, without a floor: infinite or NaN where the general prompt looks nowhere.

    Raises:
        ValueError: the tokens form no plain grid.
    """
    maps = on_published_grid(torch.stack([question_T, generic_T]), tokens)
    return maps[0] / maps[1]


def read_rel_att(tokens: VisualTokens, region_px: Box, probe: Probe) -> Generator[Request, Reply, Reading]:
    """Where the question was answered already, its row is known and only the generic prompt runs; else both run packed.

    Either way only short suffixes are computed, up to one layer.
    """
    known = probe.question.attention_HT
    prompts = (probe.generic,) if known is not None else (probe.question.text, probe.generic)
    reply = expect(Attention, (yield ReadAttention(tokens, prompts, probe.layer)))
    question_T = head_mean(known if known is not None else reply.weights_QHT[0])
    generic_T = head_mean(reply.weights_QHT[-1])
    if probe.official:
        return Reading(published_rel_att_map(question_T, generic_T, tokens))
    return Reading(rel_att_map(question_T, generic_T, tokens.footprints, region_px))


# In a block that shows the thing asked for, the question leaves all the rest: blocks have their backgrounds in common.
REL_ATT = Reader("rel_att", read_rel_att, whole_decoder=False, background="median")
