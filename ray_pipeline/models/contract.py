"""The conversation between the perceiver and a model family: requests, replies, and the family's protocol.

Legend: V views, T visual tokens, H heads, L layers, S sequence. Boxes are x0, y0, x1, y1 in pixels of the original
upright picture; every other frame (resized input, a view's 0..999) stays inside a family file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from ray_pipeline.geometry.footprints import Footprints
from schemas.picture import Box, Picture


@dataclass(frozen=True)
class VisualTokens:
    """A picture as the decoder has seen it: footprints of its tokens in order, and the family's own prefix state.

    `boxes_px` are the views in prompt order. `state` is immutable: continuing from it never changes it, so one prefix
    serves any number of suffixes (engine notes, section 2).
    """

    picture: Picture
    boxes_px: tuple[Box, ...]
    footprints: Footprints
    state: Any

    @property
    def count(self) -> int:
        return len(self.footprints.valid_T)


@dataclass(frozen=True)
class Encode:
    """Show views of a picture. With `behind`, one more zoomed view follows that shared prefix."""

    picture: Picture
    boxes_px: tuple[Box, ...]
    behind: VisualTokens | None = None


@dataclass(frozen=True)
class ReadAttention:
    """Attention of the last prompt position at one layer, for several questions on one prefix; nothing is decoded."""

    tokens: VisualTokens
    questions: tuple[str, ...]
    layer: int


@dataclass(frozen=True)
class Attention:
    """Per question, weights over the picture's visual tokens: (questions, H, T), normalised over all visible keys."""

    weights_QHT: Tensor


@dataclass(frozen=True)
class Generate:
    """Answer a question greedily; with `layer`, also read the last prompt position's attention there."""

    tokens: VisualTokens
    question: str
    max_new_tokens: int
    layer: int | None = None


@dataclass(frozen=True)
class Generation:
    """An answer: text without box notation, mean log-probabilities of text and box tokens, the box where given.

    `raw` is all that was written. `attention_HT` is the prompt's last row where asked for.
    """

    text: str
    raw: str
    text_logprob: float
    box_px: Box | None
    box_logprob: float | None
    tokens: int
    finished: bool
    attention_HT: Tensor | None = None


Request = Encode | ReadAttention | Generate
Reply = VisualTokens | Attention | Generation


@dataclass(frozen=True)
class FamilyDefaults:
    """What a family knows about itself: its input, where to look, how wide to zoom, when not to.

    `input_px` is the side of a view on the tower's input. `focus_layer` 0-based, None where this revision has no profile.
    `base_window_share` of the picture's geometric-mean side, or `base_window_px` as published. From a first answer of
    confidence `gate` on, zooming is not worth it.
    """

    input_px: int
    focus_layer: int | None
    base_window_px: float | None
    base_window_share: float | None
    gate: float


class Family(Protocol):
    """A loaded model family. Every method takes many rows' requests and answers them in order."""

    @property
    def defaults(self) -> FamilyDefaults: ...

    def encode(self, requests: Sequence[Encode]) -> list[VisualTokens]:
        """Views through the tower, then each row's prefix through the decoder."""
        ...

    def read_attention(self, requests: Sequence[ReadAttention]) -> list[Attention]:
        """Rows of the last prompt position over the visual tokens, per question; nothing is decoded."""
        ...

    def generate(self, requests: Sequence[Generate]) -> list[Generation]:
        """Greedy answers; rows do not influence each other."""
        ...
