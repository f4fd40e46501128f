"""The conversation between the perceiver and a model family: requests, replies, and the family's protocol.

Legend: V views, T visual tokens, H heads, L layers, Q questions, C the four coordinates x0 y0 x1 y1, Y X image rows and
columns. Boxes are x0, y0, x1, y1 in pixels of the original upright picture; every other frame (resized input, padded
square, a view's 0..999) stays inside a family file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from ray_pipeline.geometry.footprints import Footprints
from schemas.picture import Box, Picture


@dataclass(frozen=True)
class VisualTokens:
    """A picture as the decoder has seen it: footprints of its tokens in order, and the family's own prefix state.

    `boxes_px` are the views in prompt order. `state` is immutable: continuing from it never changes it, so one prefix
    serves any number of suffixes (engine notes, section 2). `grid` is (rows, columns) where the first view's tokens are
    one plain grid in raster order, as the published code assumes; None where they are not.
    """

    picture: Picture
    boxes_px: tuple[Box, ...]
    footprints: Footprints
    state: Any
    grid: tuple[int, int] | None = None

    @property
    def count(self) -> int:
        return len(self.footprints.valid_T)


@dataclass(frozen=True)
class Encode:
    """Show views of a picture. With `behind`, more views, zoomed, follow that shared prefix.

    `until_layer` stops the decoder behind that layer: enough for reading attention there, useless for answers.
    """

    picture: Picture
    boxes_px: tuple[Box, ...]
    behind: VisualTokens | None = None
    until_layer: int | None = None


@dataclass(frozen=True)
class ReadAttention:
    """Attention of the last prompt position at one layer, for several questions on one prefix; nothing is decoded."""

    tokens: VisualTokens
    questions: tuple[str, ...]
    layer: int


@dataclass(frozen=True)
class Attention:
    """Per question, weights over the picture's visual tokens: (Q, H, T), normalised over all visible keys."""

    weights_QHT: Tensor


@dataclass(frozen=True)
class ReadGradient:
    """The same row times the positive part of its gradient (grad-att, ViCrop section 4.1): one forward, one backward.

    The scalar is the log-probability of the likeliest first answer token, or of `token` where given.
    """

    tokens: VisualTokens
    question: str
    layer: int
    token: int | None = None


@dataclass(frozen=True)
class GradientAttention:
    """(H, T): per head attention x max(gradient, 0). `token` is the id whose log-probability was differentiated,
    `margin` its logit's lead over the runner-up (0 in a tie: the choice, hence the map, is then arbitrary)."""

    weights_HT: Tensor
    token: int
    margin: float


@dataclass(frozen=True)
class ReadPixelGradient:
    """How strongly the likeliest first answer token depends on each pixel shown, per question (pure-grad, section 4.4)."""

    tokens: VisualTokens
    questions: tuple[str, ...]


@dataclass(frozen=True)
class ViewGradient:
    """One view's pixels and what they matter. `box_px` is what the whole frame shows; it may reach beyond the picture.

    `norms_QYX`: L2 norm over the channels of the gradient for the normalised pixels, per question. `pixels_YX3`: the view
    as the tower saw it, in 0..1. `block_px` is the side of a patch in the frame's pixels.
    """

    box_px: Box
    pixels_YX3: Tensor
    norms_QYX: Tensor
    block_px: int


@dataclass(frozen=True)
class PixelGradients:
    """One `ViewGradient` per view of the prefix, in order; `tokens_Q` the ids whose log-probabilities were differentiated."""

    views: tuple[ViewGradient, ...]
    tokens_Q: tuple[int, ...]


@dataclass(frozen=True)
class Boost:
    """Multiply the attention of question and answer to the visual tokens in some regions by `factor`, then renormalise."""

    boxes_px: tuple[Box, ...]
    factor: float


@dataclass(frozen=True)
class Generate:
    """Answer a question greedily; with `layer`, also read the last prompt position's attention there."""

    tokens: VisualTokens
    question: str
    max_new_tokens: int
    layer: int | None = None
    boost: Boost | None = None


@dataclass(frozen=True)
class Sampling:
    """How candidates are drawn (ACS section 3). `greedy_first` makes candidate 0 the greedy answer, one of `count`.

    Candidate k draws from a generator seeded by `seed` and k alone: neither the batch nor the other candidates matter.
    """

    count: int
    temperature: float
    top_p: float
    seed: int
    greedy_first: bool = True


@dataclass(frozen=True)
class Sample:
    """Several answers to one question from one uncopied prefix, with the attention paid while each box was written.

    `layers` are the layers to read (ACS section 4); empty reads none.
    """

    tokens: VisualTokens
    question: str
    max_new_tokens: int
    sampling: Sampling
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Generation:
    """An answer: text without box notation, mean log-probabilities of text and box tokens, the box where given.

    `raw` is all that was written. `attention_HT` is the prompt's last row where asked for. `box_entropy` is the mean
    entropy, in nats, of the distributions that wrote the box's digits. `weights_CLHT` are, per coordinate, the rows that
    decided its digits (prediction rows, mean over them) at the layers asked for, over the visual tokens, not renormalised;
    None where there is no box or no layer was asked for.
    """

    text: str
    raw: str
    text_logprob: float
    box_px: Box | None
    box_logprob: float | None
    tokens: int
    finished: bool
    attention_HT: Tensor | None = None
    box_entropy: float | None = None
    weights_CLHT: Tensor | None = None
    ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Samples:
    """Candidates in the order drawn."""

    generations: tuple[Generation, ...]


@dataclass(frozen=True)
class ReadLines:
    """Read all text in one region of a picture, line by line. `single`: the region is one line, to be read as a whole."""

    picture: Picture
    box_px: Box
    single: bool = False
    max_new_tokens: int = 1024


@dataclass(frozen=True)
class TextLine:
    """One line of text and the box around it. `logprob`: mean per character, or per token that wrote it, in nats.

    `slope`: pixels that its baseline falls per pixel to the right, where the model can say.
    """

    box_px: Box
    text: str
    logprob: float
    slope: float = 0.0


@dataclass(frozen=True)
class TextLines:
    """Lines of a region in the order read; none where it shows no text.

    `tokens` visual tokens were spent. Not `finished`: the model ran out of room before it came to an end. `placed` says
    whose the boxes are: the model's own, or slices of the region in the order written, because the model wrote none or
    wrote some that could not be read.
    """

    lines: tuple[TextLine, ...]
    tokens: int
    finished: bool
    placed: Literal["own", "none", "unreadable"] = "own"


Request = Encode | ReadAttention | ReadGradient | ReadPixelGradient | Generate | Sample | ReadLines
Reply = VisualTokens | Attention | GradientAttention | PixelGradients | Generation | Samples | TextLines


@dataclass(frozen=True)
class FamilyDefaults:
    """What a family knows about itself: its input, where to look, how wide to zoom, when not to.

    `input_px` is the side of a view on the tower's input. `focus_layer` 0-based, None where this revision has no profile.
    `base_window_share` of the picture's geometric-mean side, or `base_window_px` as published. From a first answer of
    confidence `gate` on, zooming is not worth it. `look` names how the family is first shown a picture. `reading_px`: side
    of the largest region, in pixels of the picture, that is read as one view; None where that is `input_px`. `locate` is
    how the family is asked, with its plain template, where a thing is; `{question}` stands for the thing. `print_only`: it
    can point at print alone, so that what is not printed is not there.
    """

    input_px: int
    focus_layer: int | None
    base_window_px: float | None
    base_window_share: float | None
    gate: float
    look: Literal["multicrop", "whole"] = "multicrop"
    reading_px: int | None = None
    locate: str = "{question}"
    print_only: bool = False


@dataclass(frozen=True)
class Abilities:
    """What a family can honour, known from its config.json alone, so that the rest is refused before anything is loaded.

    `layers` of the decoder; `focus` methods; `boxes`: it writes boxes with readable rows (needed to CHOOSE by attention);
    `crops`: views of its own choosing (multi-crop); `budget`: the number of visual tokens may be chosen; `fits`: ways to fit
    a picture to the input; `resolution`: the input's side may be chosen; `official`: tokens form the one plain grid of the
    published code; `profiled_layer` to look at; `reads` all text of a page; `worded`: its questions may be put in other words.
    """

    layers: int
    focus: frozenset[str]
    boxes: bool
    crops: bool
    budget: bool
    fits: frozenset[str]
    resolution: bool
    official: bool
    boost: bool
    profiled_layer: int | None
    reads: bool = True
    worded: bool = True


class Family(Protocol):
    """A loaded model family. Every method takes many rows' requests and answers them in order, each as if alone."""

    @property
    def defaults(self) -> FamilyDefaults: ...

    def encode(self, requests: Sequence[Encode]) -> list[VisualTokens]:
        """Views through the tower, then each row's prefix through the decoder."""
        ...

    def read_attention(self, requests: Sequence[ReadAttention]) -> list[Attention]:
        """Rows of the last prompt position over the visual tokens, per question; nothing is decoded."""
        ...

    def read_gradient(self, requests: Sequence[ReadGradient]) -> list[GradientAttention]:
        """The last prompt position's row times the positive part of its gradient, per head."""
        ...

    def read_pixel_gradient(self, requests: Sequence[ReadPixelGradient]) -> list[PixelGradients]:
        """Gradient norms on the pixels shown, per question."""
        ...

    def generate(self, requests: Sequence[Generate]) -> list[Generation]:
        """Greedy answers; rows do not influence each other."""
        ...

    def sample(self, requests: Sequence[Sample]) -> list[Samples]:
        """Candidate answers, each row's from one prefix."""
        ...

    def read_lines(self, requests: Sequence[ReadLines]) -> list[TextLines]:
        """All text of each region, from pixels to lines."""
        ...
