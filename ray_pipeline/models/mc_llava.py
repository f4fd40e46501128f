"""Family MC-LLaVA: the published 3B checkpoint's architecture and the embedded model.

Views are squashed to the tower's square input; each keeps some of its patch features, gets its coordinates added and is
projected. The picture's views form the shared prefix; a zoomed view and the question follow it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ray_pipeline.geometry.footprints import view_footprints
from ray_pipeline.geometry.placement import Placement
from ray_pipeline.models.box_text import BoxText, read_locations
from ray_pipeline.models.checkpoint import load_network, load_tokenizer, on_device, precision
from ray_pipeline.models.contract import Abilities, Encode, FamilyDefaults, ReadLines, TextLines, ViewGradient, VisualTokens
from ray_pipeline.models.decoder_family import DecoderFamily, View
from ray_pipeline.models.decoding import token_log_probability
from ray_pipeline.models.locations import LOCATIONS, location_score
from ray_pipeline.models.mc_llava_checkpoint import is_published, load_published
from ray_pipeline.models.mc_llava_network import McLlavaForConditionalGeneration
from ray_pipeline.models.multicrop_tokens import coordinates, split_tokens
from ray_pipeline.models.page_reading import READING_PX, PageReader
from ray_pipeline.models.segment import Segment
from ray_pipeline.models.templates import CLOSELY
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture

VIEWS_PER_TOWER_CALL = 64  # bounds the tower's activations; chunking does not change results
LOCATE = "Where is the {question}?"  # of the questions that the embedded model knows, the one for things of any kind


@dataclass(frozen=True)
class CropDetail:
    """Where a view lies, as the coordinate embedding is told, and how many of its last features are kept."""

    coordinates_C: Tensor
    kept: int


class McLlava(DecoderFamily):
    """A loaded MC-LLaVA, answering batches of requests. Implements `contract.Family`."""

    def __init__(
        self,
        model: McLlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        views: ViewSettings = ViewSettings(),
        prompt: PromptSettings = PromptSettings(),
        pages: PageReader | None = None,
    ) -> None:
        self.model, self.settings, self.prompt, self.pages = model.eval().requires_grad_(False), views, prompt, pages
        language = model.language_model
        super().__init__(language.model, language.lm_head, tokenizer, frozenset())
        config = model.config
        self.end_ids = frozenset({self.text.token(config.prompt["end"])})
        self.input_px: int = config.vision_config.image_size
        self.patch_px: int = config.vision_config.patch_size
        self.side = self.input_px // self.patch_px
        self.per_view = self.side**2 - int(config.drop_first_feature)
        self.first_location = self.text.token("<loc000>") if "<loc000>" in tokenizer.get_vocab() else None
        self.question_ids("")  # a template without {question} is refused now, not at the first row

    @classmethod
    def load(cls, folder: Path, model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> "McLlava":
        """Load safetensors and tokenizer from a folder that has passed the gate."""
        if is_published(folder):
            network = on_device(load_published(folder, precision(model)), model)
        else:
            network = load_network(McLlavaForConditionalGeneration, folder, model)
        return cls(network, load_tokenizer(folder), views, prompt, PageReader.load(folder))

    @staticmethod
    def abilities(config: dict[str, Any]) -> Abilities:
        """What a folder's config.json says that this model can honour."""
        embedded = "<zoom>" in str((config.get("prompt") or {}).get("zoom", ""))
        return Abilities(
            layers=int(config.get("text_config", {}).get("num_hidden_layers", 32)),
            focus=frozenset({"rel_att", "grad_att", "pure_grad", "auto"}),
            boxes=embedded,  # the published card documents no boxes
            crops=True,
            budget=True,
            fits=frozenset({"squash"}),
            resolution=False,
            official=_plain_grid(config),
            boost=True,
            profiled_layer=(config.get("focus") or {}).get("layer"),
            worded=not embedded,  # it knows its own questions alone
        )

    @property
    def defaults(self) -> FamilyDefaults:
        focus = self.model.config.focus
        return FamilyDefaults(
            self.input_px, focus.get("layer"), focus.get("base_window_px"), focus.get("base_window_share"),
            focus.get("gate", 1.0), reading_px=READING_PX if self.pages else None,
            locate=LOCATE,
        )  # fmt: skip

    def read_lines(self, requests: Sequence[ReadLines]) -> list[TextLines]:
        """With the networks of its own where the folder has them, else as every family."""
        return super().read_lines(requests) if self.pages is None else [self.pages.read(request) for request in requests]

    def views(self, request: Encode, first_number: int) -> list[View]:
        """Every box squashed to the input; the budget of tokens is split over the views of one request."""
        picture, boxes = request.picture, request.boxes_px
        places = coordinates(boxes, picture.width, picture.height, self.model.config.coordinate_size)
        budget = self.settings.num_tokens or self.model.config.num_tokens or self.per_view * len(boxes)
        kept = split_tokens(len(boxes), budget, self.per_view, self.settings.token_split)
        share = self.side * self.patch_px / self.input_px
        views = []
        for k, (box, count) in enumerate(zip(boxes, kept, strict=True)):
            pixels = torch.from_numpy(view_pixels(picture, box, self.input_px)).permute(2, 0, 1).float() / 127.5 - 1
            prints = view_footprints(box, self.side, self.side, share, self.side**2 - count, first_number + k, "auto")
            grid = (self.side, self.side) if count == self.side**2 else None
            like = self.model
            views.append(View(box, pixels.to(like.device, like.dtype), prints, CropDetail(places[k], count), grid))
        return views

    def embed(self, views: Sequence[View]) -> list[Segment]:
        """Tower on all views, then each view's last features with its coordinates through the projector."""
        pixels = torch.stack([view.pixels for view in views])
        features_VTD = torch.cat([self.model.view_features(chunk) for chunk in pixels.split(VIEWS_PER_TOWER_CALL)])
        segments = []
        for view, features_TD in zip(views, features_VTD, strict=True):
            detail: CropDetail = view.detail
            place = detail.coordinates_C[None].to(features_TD)
            segments.append(Segment(self.model.project(features_TD[None, -detail.kept :], place)[0]))
        return segments

    def around(self, zoomed: bool) -> tuple[list[int], list[int]]:
        """The texts of config.json; nothing follows the visual tokens before the question."""
        return self.text.ids(self.model.config.prompt["zoom" if zoomed else "before"]), []

    def question_ids(self, question: str) -> list[int]:
        """The question in its template, within the chat markers of config.json."""
        after = self.model.config.prompt["after"].replace("{question}", self._asked())
        return self.text.behind("", after, question)

    def _asked(self) -> str:
        """As published, a question stands alone, unless it is worded for small things."""
        return self.prompt.question or CLOSELY.get(self.prompt.template, "{question}")

    def gradient_views(self, view: View, norms_Q: Tensor) -> list[ViewGradient]:
        """The squashed view itself is the frame."""
        shown = (view.pixels.detach().float().cpu() / 2 + 0.5).permute(1, 2, 0)
        return [ViewGradient(view.box_px, shown, norms_Q, self.patch_px)]

    def score(self, log_p: Tensor, tokens: Tensor) -> Tensor:
        """A location's probability is the mass within 1 % of the axis: neighbouring bins mean the same place."""
        first = self.first_location
        return token_log_probability(log_p, tokens) if first is None else location_score(log_p, tokens, first)

    def read_box(self, raw: str, question: str) -> BoxText:
        """Location tokens, 0..999 of a view, where the model has any."""
        return super().read_box(raw, question) if self.first_location is None else read_locations(raw)

    def box_px(self, values: tuple[float, ...], tokens: VisualTokens) -> Box:
        """0..999 of the zoomed view, or of the whole picture where none was shown; the middle of each bin."""
        if self.first_location is None:
            return super().box_px(values, tokens)
        view = Placement.squashed(tokens.state.zoom_px or tokens.boxes_px[0], LOCATIONS)
        x0, y0, x1, y1 = view.to_picture(torch.tensor(values, dtype=torch.float64) + 0.5).tolist()
        return x0, y0, x1, y1


def _plain_grid(config: dict[str, Any]) -> bool:
    """Whether one view gives all of its patches, and so the plain grid of the published code."""
    vision = config.get("vision_config") or {}
    patches = (int(vision.get("image_size", 384)) // int(vision.get("patch_size", 14))) ** 2
    budget = config.get("num_tokens", patches - 1)
    return not config.get("drop_first_feature", True) and (budget is None or budget >= patches)


def view_pixels(picture: Picture, box_px: Box, side_px: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Cut whole pixels and squash to side_px x side_px with Pillow's bicubic filter, as the weights were trained with."""
    x0, y0 = math.floor(box_px[0]), math.floor(box_px[1])
    x1, y1 = max(x0 + 1, math.ceil(box_px[2])), max(y0 + 1, math.ceil(box_px[3]))
    cut = Image.fromarray(picture.pixels_YX3[max(0, y0) : y1, max(0, x0) : x1])
    return np.array(cut.resize((side_px, side_px), Image.Resampling.BICUBIC))
