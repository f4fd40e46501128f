"""Family line-LLaVA: a decoder over read lines, for questions about printed documents.

A view is shrunk to the input's area, its lines are found and read, and every character becomes a visual token with the place
where it is printed. What is too small to be read in the whole picture comes out garbled or not at all, and clear in a zoomed
view. Boxes are 0..999 of the whole picture, also behind a zoomed view: characters carry their places in the picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.models.box_text import BoxText, read_locations
from ray_pipeline.models.checkpoint import load_network, load_tokenizer
from ray_pipeline.models.contract import (
    Abilities,
    Encode,
    FamilyDefaults,
    PixelGradients,
    ReadLines,
    ReadPixelGradient,
    TextLine,
    TextLines,
    ViewGradient,
    VisualTokens,
)
from ray_pipeline.models.decoder_family import DecoderFamily, Suffix, View
from ray_pipeline.models.line_llava_network import LineLlavaConfig, LineLlavaForConditionalGeneration
from ray_pipeline.models.line_tokens import LineTokens, line_tokens, token_features
from ray_pipeline.models.locations import LOCATIONS, location_score
from ray_pipeline.models.page_reading import READING_PX, PageReader, region_pixels
from ray_pipeline.models.print_boxes import PrintedWords, on_print, printed_words
from ray_pipeline.models.segment import Segment
from ray_pipeline.models.weights import LINE_FINDER, LINE_READER, ModelRefused
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture

LOCATE = "Where is '{question}'?"
BEHIND = "{question}<answer>"


@dataclass(frozen=True)
class _Read:
    """A view's characters as ids, and the words that they make up."""

    ids: Tensor
    lines: tuple[PrintedWords, ...]


class LineLlava(DecoderFamily):
    """A loaded model of read lines. Implements `contract.Family`."""

    def __init__(
        self,
        model: LineLlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        pages: PageReader,
        views: ViewSettings = ViewSettings(),
        prompt: PromptSettings = PromptSettings(),
    ) -> None:
        self.model, self.pages, self.settings = model.eval().requires_grad_(False), pages, views
        language = model.language_model
        super().__init__(language.model, language.lm_head, tokenizer, frozenset())
        self.end_ids = frozenset({self.text.token("<eos>")})
        self.first_location = self.text.token("<loc000>")
        self.view_px: int = views.resolution_px or model.config.view_px
        self.asked = BEHIND.replace("{question}", prompt.question or "{question}")
        self.question_ids("")  # a template without {question} is refused now, not at the first row

    @classmethod
    def load(cls, folder: Path, model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> "LineLlava":
        """Load safetensors and tokenizer from a folder that has passed the gate.

        Raises:
            ModelRefused: weights are missing, or one of the networks that read.
        """
        pages = PageReader.load(folder)
        if pages is None:
            raise ModelRefused(f"{folder}: a line-llava without {LINE_FINDER} and {LINE_READER}; expected both")
        network = load_network(LineLlavaForConditionalGeneration, folder, model)
        return cls(network, load_tokenizer(folder), pages, views, prompt)

    @staticmethod
    def abilities(config: dict[str, Any]) -> Abilities:
        """What a folder's config.json says that this model can honour. Reading is not differentiable: no pure-grad."""
        full = LineLlavaConfig.from_dict(dict(config))
        return Abilities(
            layers=full.text_config.num_hidden_layers,
            focus=frozenset({"rel_att", "grad_att", "auto"}),
            boxes=True,
            crops=False,
            budget=False,
            fits=frozenset(),
            resolution=True,
            official=False,
            boost=True,
            profiled_layer=full.focus.get("layer"),
            worded=False,
        )

    @property
    def defaults(self) -> FamilyDefaults:
        focus = self.model.config.focus
        return FamilyDefaults(
            self.view_px, focus.get("layer"), None, focus.get("base_window_share"), focus.get("gate", 1.0),
            look="whole", reading_px=READING_PX, locate=LOCATE, print_only=True,
        )  # fmt: skip

    def read_lines(self, requests: Sequence[ReadLines]) -> list[TextLines]:
        """With the networks that read, from all of the picture's pixels."""
        return [self.pages.read(request) for request in requests]

    def views(self, request: Encode, first_number: int) -> list[View]:
        """Every box shrunk to the input's area and read."""
        picture, views = request.picture, []
        for number, box in enumerate(request.boxes_px, first_number):
            enlarged = (self.settings.zoom_px or 0) if request.behind else 0
            tokens = read_view(self.pages, picture, box, self.view_px, enlarged)
            boxes_px = torch.from_numpy(tokens.boxes_unit) * torch.tensor([picture.width, picture.height] * 2)
            prints = Footprints(boxes_px, torch.full((len(tokens),), number), torch.ones(len(tokens), dtype=torch.bool))
            features = torch.from_numpy(token_features(tokens, zoomed=request.behind is not None))
            detail = _Read(self._ids(tokens), tuple(printed_words(tokens.characters, boxes_px.tolist())))
            views.append(View(box, features.to(self.model.device, self.model.dtype), prints, detail))
        return views

    def _ids(self, tokens: LineTokens) -> Tensor:
        vocabulary, unknown = self.tokenizer.get_vocab(), self.tokenizer.unk_token_id
        return torch.tensor([vocabulary.get(sign, unknown) for sign in tokens.characters], device=self.model.device)

    def embed(self, views: Sequence[View]) -> list[Segment]:
        """Characters with their places and neighbours, each view by itself: padding would cost more than it saves."""
        segments = []
        for view in views:
            ids = view.detail.ids
            everything = torch.ones(1, len(ids), dtype=torch.bool, device=self.model.device)
            segments.append(Segment(self.model.visual(ids[None], view.pixels[None], everything)[0]))
        return segments

    def around(self, zoomed: bool) -> tuple[list[int], list[int]]:
        """A marker in front of each view; nothing follows the visual tokens before the question."""
        return self.text.ids("<zoom>" if zoomed else "<bos>"), []

    def question_ids(self, question: str) -> list[int]:
        """The question alone: the model knows no chat."""
        return self.text.behind("", self.asked, question)

    def suffix(self, tokens: VisualTokens, question: str) -> Suffix:
        """The question with its tokens' neighbours."""
        ids = torch.tensor([self.question_ids(question)], device=self.model.device)
        return Suffix(Segment(self.model.asked(ids, torch.ones_like(ids, dtype=torch.bool))[0]))

    def read_pixel_gradient(self, requests: Sequence[ReadPixelGradient]) -> list[PixelGradients]:
        """There is none: between pixels and characters lies a choice.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"pixel gradients asked of {len(requests)} read pages; expected rel_att or grad_att")

    def gradient_views(self, view: View, norms_Q: Tensor) -> list[ViewGradient]:
        """None either, and never asked for: `abilities` names no pure-grad."""
        raise ValueError("a gradient for read characters; expected rel_att or grad_att")

    def score(self, log_p: Tensor, tokens: Tensor) -> Tensor:
        """A location's probability is the mass within 1 % of the axis: neighbouring bins mean the same place."""
        return location_score(log_p, tokens, self.first_location)

    def read_box(self, raw: str, question: str) -> BoxText:
        """Location tokens, 0..999 of the picture."""
        return read_locations(raw)

    def box_px(self, values: tuple[float, ...], tokens: VisualTokens) -> Box:
        """Of the whole picture; the middle of each bin, then the words meant by it in any view."""
        width, height = tokens.picture.width, tokens.picture.height
        x0, y0, x1, y1 = (
            (value + 0.5) / LOCATIONS * side for value, side in zip(values, (width, height, width, height), strict=True)
        )
        return on_print((x0, y0, x1, y1), [line for view in tokens.state.views for line in view.detail.lines])


def read_view(pages: PageReader, picture: Picture, box_px: Box, view_px: int, enlarged_px: int = 0) -> LineTokens:
    """A region's lines as `read_view_lines` sees them, as tokens with places in the whole picture."""
    pixels, (left, top) = region_pixels(picture, box_px)
    region = float(left), float(top), float(left + pixels.shape[1]), float(top + pixels.shape[0])
    lines = read_view_lines(pages, picture, box_px, view_px, enlarged_px)
    return line_tokens(lines, region, (picture.width, picture.height))


def read_view_lines(pages: PageReader, picture: Picture, box_px: Box, view_px: int, enlarged_px: int = 0) -> list[TextLine]:
    """Lines of a region shrunk to the area of a square of `view_px` (one smaller than that of `enlarged_px` is enlarged to it).

    Boxes are pixels of the picture.
    """
    pixels, (left, top) = region_pixels(picture, box_px)
    height, width = pixels.shape[:2]
    side = math.sqrt(width * height)
    scale = max(min(1.0, view_px / side), min(enlarged_px, view_px) / side)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shown = pixels if size == (width, height) else np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    lines = pages.read(ReadLines(Picture(shown, picture.sha256), (0.0, 0.0, float(size[0]), float(size[1])))).lines
    return [_placed(line, left, top, width / size[0], height / size[1]) for line in lines]


def _placed(line: TextLine, left: float, top: float, across: float, down: float) -> TextLine:
    x0, y0, x1, y1 = line.box_px
    return replace(line, box_px=(left + x0 * across, top + y0 * down, left + x1 * across, top + y1 * down))
