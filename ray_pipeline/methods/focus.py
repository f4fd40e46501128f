"""The values of FOCUS: what is asked of a picture, how a method reads a map of a part of it, and what came of it.

Legend: H heads, T visual tokens, Y X cells. Boxes are pixels of the picture.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal, TypeVar

from torch import Tensor

from ray_pipeline.models.contract import FamilyDefaults, Reply, Request, VisualTokens
from schemas.methods import RefineSettings
from schemas.picture import Box

AnyReply = TypeVar("AnyReply")


@dataclass(frozen=True)
class Question:
    """The question's text and, where it has been answered, its last prompt position's attention (H, T)."""

    text: str
    attention_HT: Tensor | None


@dataclass(frozen=True)
class Focus:
    """The disjoint crops FOCUS decided on, in reading order, or none and why not; the map (Y, X) they came from.

    No map where none was read. The reason also says how sure the method was of what it differentiated or mixed.
    """

    boxes_px: tuple[Box, ...]
    reason: str
    map_YX: Tensor | None


@dataclass(frozen=True)
class Probe:
    """What is asked of every part of a picture, and under which settings."""

    question: Question
    generic: str
    settings: RefineSettings
    defaults: FamilyDefaults

    @property
    def official(self) -> bool:
        return self.settings.mode == "official"

    @property
    def layer(self) -> int:
        return focus_layer(self.settings, self.defaults)

    @property
    def gate(self) -> float:
        return zoom_gate(self.settings, self.defaults)


@dataclass(frozen=True)
class Reading:
    """A map (Y, X) of one region, and what a reader of the results should know about it."""

    map_YX: Tensor
    remark: str | None = None


ReadRegion = Callable[[VisualTokens, Box, Probe], Generator[Request, Reply, Reading]]


@dataclass(frozen=True)
class Reader:
    """A method that reads importance maps.

    `whole_decoder`: it needs a prefix through all layers, not only up to the one it reads. `background`: what its maps of two
    blocks of a picture are divided by before they lie side by side.
    """

    name: str
    read: ReadRegion
    whole_decoder: bool
    background: Literal["median", "mean"]


def expect(kind: type[AnyReply], reply: Reply) -> AnyReply:
    """The reply, if it is of the kind asked for.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(reply, kind):
        raise TypeError(f"asked for {kind.__name__}, got {type(reply).__name__}")
    return reply


def focus_layer(settings: RefineSettings, defaults: FamilyDefaults) -> int:
    """The layer to read: the setting, else the family's profile.

    Raises:
        ValueError: neither is there.
    """
    layer = settings.layer if settings.layer is not None else defaults.focus_layer
    if layer is None:
        raise ValueError("refine.layer is null and this model has no profile; expected a 0-based decoder layer")
    return layer


def zoom_gate(settings: RefineSettings, defaults: FamilyDefaults) -> float:
    """From which confidence on what is cheaper will do: the first answer, or of several methods' maps the first. 1: never."""
    return settings.gate if settings.gate is not None else defaults.gate


def window_px(width: int, height: int, settings: RefineSettings, defaults: FamilyDefaults) -> float:
    """Side of the smallest crop in picture pixels."""
    if settings.base_window_px is not None:
        return settings.base_window_px
    if defaults.base_window_px is not None:
        return defaults.base_window_px
    share = defaults.base_window_share if defaults.base_window_share is not None else 0.25
    return max(float(defaults.input_px) / 2, share * math.sqrt(width * height))


def nothing_to_zoom(width: int, height: int, base_px: float) -> str | None:
    """Why a picture is not worth a map, or None: one no larger than the smallest crop would be cropped to itself."""
    if max(width, height) > base_px:
        return None
    return f"the picture, {width} x {height} px, is no larger than the smallest window, {base_px:.0f} px"
