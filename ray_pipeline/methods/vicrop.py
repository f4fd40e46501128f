"""FOCUS: where the question looks compared with a general one, and the crop around it (ViCrop, rel-att).

The importance map divides two attention maps of the last prompt position at one layer, question over generic prompt.
Both are rasterised from footprints first, so that overlapping views cancel and no family is known here.
Shapes: Q questions, H heads, T visual tokens, Y X cells.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.geometry.raster import picture_means, rasterise
from ray_pipeline.methods.crop_box import select_crop
from ray_pipeline.models.contract import Attention, FamilyDefaults, ReadAttention, Reply, Request, VisualTokens
from schemas.methods import RefineSettings
from schemas.picture import Box


@dataclass(frozen=True)
class Question:
    """The question's text and, where it has been answered, its last prompt position's attention (H, T)."""

    text: str
    attention_HT: Tensor | None


@dataclass(frozen=True)
class Focus:
    """The crop FOCUS decided on, or None and why not; the map (Y, X) it came from."""

    box_px: Box | None
    reason: str
    map_YX: Tensor | None


def rel_att_map(question_T: Tensor, generic_T: Tensor, footprints: Footprints, width: int, height: int) -> Tensor:
    """Ratio of the two attention maps on the picture, (Y, X), cell by cell.

    The generic map is floored at a tenth of its own mean: where a general description looks nowhere the published
    quotient is noise over nothing, and one such cell outweighs the thing asked for. Scale-free in either map. Cells that
    no token covers are NaN, for the crop's choice to fill from their neighbours: a zero there would be a contrast.
    """
    weights, prints = picture_means(torch.stack([question_T, generic_T]), footprints)
    maps = rasterise(weights, prints, width, height)
    question, generic = maps.ratio_YX
    floor = 0.1 * generic[maps.covered_YX].mean()
    return torch.where(maps.covered_YX, question / torch.maximum(generic, floor), torch.nan)


def rel_att(
    tokens: VisualTokens, question: Question, generic: str, settings: RefineSettings, defaults: FamilyDefaults
) -> Generator[Request, Reply, Focus]:
    """Read attention on the shared prefix, divide, choose the crop (ViCrop sections 4.1 and 6).

    Where the question was answered already, its row is known and only the generic prompt runs; else both run packed.
    Either way only short suffixes are computed, up to one layer.
    """
    known = question.attention_HT
    prompts = (generic,) if known is not None else (question.text, generic)
    reply = yield ReadAttention(tokens, prompts, focus_layer(settings, defaults))
    if not isinstance(reply, Attention):
        raise TypeError(f"asked for attention, got {type(reply).__name__}")
    asked = known if known is not None else reply.weights_QHT[0]
    picture = tokens.picture
    importance = rel_att_map(asked.mean(0), reply.weights_QHT[-1].mean(0), tokens.footprints, picture.width, picture.height)
    return choose_crop(importance, picture.width, picture.height, settings, defaults)


def choose_crop(importance: Tensor, width: int, height: int, settings: RefineSettings, defaults: FamilyDefaults) -> Focus:
    """The crop of a map, or None where the map says nothing or the crop would be the whole picture."""
    base_px = window_px(width, height, settings, defaults)
    choice = select_crop(importance, width, height, base_px)
    if choice.whole:
        return Focus(None, "no region stands out of the importance map", importance)
    return Focus(choice.box_px, f"window {choice.ratio:g} x {base_px:.0f} px", importance)


def focus_layer(settings: RefineSettings, defaults: FamilyDefaults) -> int:
    """The layer to read: the setting, else the family's profile.

    Raises:
        ValueError: neither is there.
    """
    layer = settings.layer if settings.layer is not None else defaults.focus_layer
    if layer is None:
        raise ValueError("refine.layer is null and this model has no profile; expected a 0-based decoder layer")
    return layer


def window_px(width: int, height: int, settings: RefineSettings, defaults: FamilyDefaults) -> float:
    """Side of the smallest crop in picture pixels."""
    if settings.base_window_px is not None:
        return settings.base_window_px
    if defaults.base_window_px is not None:
        return defaults.base_window_px
    share = defaults.base_window_share if defaults.base_window_share is not None else 0.25
    return max(float(defaults.input_px) / 2, share * math.sqrt(width * height))
