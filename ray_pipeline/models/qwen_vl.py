"""Family Qwen-VL: Qwen2.5-VL and Qwen3-VL, whose tower takes a picture at about its own resolution.

One view is one plain grid of tokens. Positions have three axes (time, row, column); Qwen3-VL's early decoder layers also
add features of early tower layers to the visual tokens. A zoomed crop follows the picture between markers of its own and
is enlarged first. Boxes are JSON: in pixels of the resized view (Qwen2.5-VL) or in thousandths of its sides (Qwen3-VL); of
the picture as first shown, or of the last crop once one was shown.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)

from ray_pipeline.geometry.footprints import grid_footprints
from ray_pipeline.geometry.placement import Placement
from ray_pipeline.models.box_text import BoxText, read_json_boxes
from ray_pipeline.models.checkpoint import all_end_ids, load_network, load_tokenizer
from ray_pipeline.models.contract import Abilities, Encode, FamilyDefaults, ViewGradient, VisualTokens
from ray_pipeline.models.decoder_family import DecoderFamily, View
from ray_pipeline.models.native_ocr import JSON, ReadingStyle
from ray_pipeline.models.qwen_pixels import (
    QWEN2_5_VL,
    QWEN3_VL,
    FittedView,
    PixelRule,
    fitted_view,
    normalised,
    patchified,
    read_rule,
    resized_pixels,
    tower_grid,
)
from ray_pipeline.models.qwen_positions import TokenGrid, prompt_positions
from ray_pipeline.models.qwen_prompt import Turn, published_turn, template_turn
from ray_pipeline.models.segment import Segment, joined
from ray_pipeline.models.templates import ANSWER
from ray_pipeline.models.weights import ModelRefused
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box

OFFICIAL_INPUT_PX = 448  # 256 x 28 x 28 px at most were shown for the published figures
OFFICIAL_WINDOW_PX = 224
OFFICIAL_LAYERS = {("qwen2_5_vl", 36, 2048): 22}  # Qwen2.5-VL-3B; layers of other revisions must be chosen on data
ZOOM_PX = 448  # a published 224 px crop is 64 tokens: enlarged, it is 256
READING_PX = 1024  # of a side, read as one view: what such a page holds, an answer of some thousand tokens can say
PATCHES_PER_TOWER_CALL = 32_768  # bounds the tower's activations; chunking does not change results
TEMPLATES = ANSWER | {"locate": "{question} Report bbox coordinates in JSON format."}


@dataclass(frozen=True)
class Kind:
    """What differs between the two: classes, published preprocessing, system turn, and the frame of boxes.

    `box_scale` is what a side of the view measures in written boxes; None where they are in its pixels.
    """

    network: Any
    pixels: PixelRule
    system: str | None
    box_scale: float | None


KINDS = {
    "qwen2_5_vl": Kind(Qwen2_5_VLForConditionalGeneration, QWEN2_5_VL, "You are a helpful assistant.", None),
    "qwen3_vl": Kind(Qwen3VLForConditionalGeneration, QWEN3_VL, None, 1000.0),
}


class QwenVl(DecoderFamily):
    """A loaded Qwen2.5-VL or Qwen3-VL, answering batches of requests. Implements `contract.Family`."""

    axes = 3
    reading: ClassVar[ReadingStyle] = JSON

    def __init__(
        self,
        network: Any,
        tokenizer: PreTrainedTokenizerBase,
        rule: PixelRule,
        turn: Turn,
        views: ViewSettings = ViewSettings(),
        prompt: PromptSettings = PromptSettings(),
    ) -> None:
        self.network, self.turn = network.eval().requires_grad_(False), turn
        self.kind = KINDS[network.config.model_type]
        self.tower: PreTrainedModel = network.model.visual
        ends = all_end_ids(network.generation_config, tokenizer)
        super().__init__(network.model.language_model, network.lm_head, tokenizer, ends)
        self.zoom_px = ZOOM_PX if views.zoom_px is None else views.zoom_px
        cap = views.resolution_px
        self.rule = rule if cap is None else rule.capped(cap)
        self.zoom_rule = rule if cap is None else rule.capped(max(cap, self.zoom_px))
        self.template = turn.ask + (prompt.question or TEMPLATES[prompt.template]) + turn.after
        self.question_ids("")  # a template without {question} is refused now, not at the first row

    @classmethod
    def load(cls, folder: Path, model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> "QwenVl":
        """Load safetensors, tokenizer and preprocessing from a folder that has passed the gate.

        The shipped generation config says how an answer ends; its temperature and penalties are not for us.

        Raises:
            ModelRefused: weights are missing, or the folder wants another decoder, preprocessing or prompt than we know.
        """
        config = _json(folder / "config.json")
        cls.abilities(config)
        kind = KINDS[config["model_type"]]
        network, tokenizer = load_network(kind.network, folder, model), load_tokenizer(folder)
        template = _json(folder / "chat_template.json").get("chat_template") or tokenizer.chat_template
        turn = template_turn(tokenizer, template) if template else published_turn(kind.system)
        return cls(network, tokenizer, _rule(folder, config, kind.pixels), turn, views, prompt)

    @staticmethod
    def abilities(config: dict[str, Any]) -> Abilities:
        """What a folder's config.json says that this model can honour.

        Raises:
            ModelRefused: layers without full attention: their prefix cannot be shared, nor their attention read; or no sizes.
        """
        kind, text = config["model_type"], config.get("text_config") or config
        kinds = set(text.get("layer_types") or ()) - {"full_attention"}
        if text.get("use_sliding_window") or kinds:
            found = ", ".join(sorted(kinds)) or "use_sliding_window"
            raise ModelRefused(f"this {kind} has decoder layers with {found}; expected full attention in all of them")
        if missing := {"num_hidden_layers", "hidden_size"} - set(text):
            raise ModelRefused(f"this {kind}'s config.json lacks {', '.join(sorted(missing))} of the decoder; expected its sizes")
        layers = int(text["num_hidden_layers"])
        return Abilities(
            layers=layers,
            focus=frozenset({"rel_att", "grad_att", "pure_grad", "auto"}),
            boxes=True,
            crops=False,
            budget=False,
            fits=frozenset(),
            resolution=True,
            official=True,
            boost=True,
            profiled_layer=OFFICIAL_LAYERS.get((kind, layers, int(text["hidden_size"]))),
        )

    @property
    def defaults(self) -> FamilyDefaults:
        config = self.network.config
        layer = self.abilities(config.to_dict()).profiled_layer
        reading_px = min(READING_PX, math.isqrt(self.rule.most_area_px))
        return FamilyDefaults(OFFICIAL_INPUT_PX, layer, OFFICIAL_WINDOW_PX, None, 1.0, "whole", reading_px, TEMPLATES["locate"])

    def views(self, request: Encode, first_number: int) -> list[View]:
        """Every box at its own resolution within the limits; crops behind a prefix are enlarged."""
        zoomed = request.behind is not None
        rule, zoom_px = (self.zoom_rule, self.zoom_px) if zoomed else (self.rule, 0)
        views = []
        for number, box in enumerate(request.boxes_px, first_number):
            fitted = fitted_view(request.picture, box, rule, zoom_px)
            pixels = normalised(resized_pixels(request.picture, fitted), rule)
            prints = grid_footprints(fitted.box_px, fitted.rows, fitted.columns, number)
            views.append(View(box, pixels, prints, fitted, (fitted.rows, fitted.columns)))
        return views

    def embed(self, views: Sequence[View]) -> list[Segment]:
        """Tower on all views; each view's tokens with their positions and what early decoder layers add to them."""
        segments = []
        for chunk in _tower_calls(views, self.rule):
            patches = [patchified(view.pixels, self.rule) for view in chunk]
            seen = self.network.model.get_image_features(
                torch.cat(patches).to(self.network.device, self.tower.dtype),
                torch.cat([tower_grid(view.detail, self.rule) for view in chunk]).to(self.network.device),
            )
            deep = getattr(seen, "deepstack_features", None) or ()
            for k, view in enumerate(chunk):
                segments.append(_segment(view.detail, seen.pooler_output[k], tuple(layer[k] for layer in deep)))
        return segments

    def around(self, zoomed: bool) -> tuple[list[int], list[int]]:
        """The turn's opening, or what opens a further picture; and the closing marker."""
        opening = self.text.ids(self.turn.between) if zoomed else self.text.ids(self.turn.before, begin=True)
        return opening, self.text.ids(self.turn.behind)

    def wrap(self, visual: Sequence[Segment], zoomed: bool) -> tuple[Segment, Tensor]:
        """Every view has markers of its own, those of a first request too."""
        if zoomed or len(visual) == 1:
            return super().wrap(visual, zoomed)
        first, slots = super().wrap(visual[:1], zoomed=False)
        others, more = super().wrap(visual[1:], zoomed=True)
        return joined([first, others]), torch.cat([slots, more + len(first)])

    def question_ids(self, question: str) -> list[int]:
        """The question in its template, up to the assistant's turn."""
        return self.text.behind(self.turn.behind, self.template, question)

    def gradient_views(self, view: View, norms_Q: Tensor) -> list[ViewGradient]:
        """The resized view itself is the frame."""
        pixels = view.pixels.detach().float().cpu()
        mean, std = pixels.new_tensor(self.rule.mean), pixels.new_tensor(self.rule.std)
        shown = (pixels.permute(1, 2, 0) * std + mean).clamp(0, 1)
        fitted: FittedView = view.detail
        return [ViewGradient(fitted.box_px, shown, norms_Q, self.rule.patch_px)]

    def read_box(self, raw: str, question: str) -> BoxText:
        """`bbox_2d` of a JSON list."""
        return read_json_boxes(raw, question)

    def box_px(self, values: tuple[float, ...], tokens: VisualTokens) -> Box:
        """From the frame of the last crop, or of the picture as first shown where there is none."""
        shown: FittedView = tokens.state.views[0 if tokens.state.zoom_px is None else -1].detail
        scale = self.kind.box_scale
        placement = shown.placement if scale is None else Placement.squashed(shown.box_px, scale)
        x0, y0, x1, y1 = placement.to_picture(torch.tensor(values, dtype=torch.float64)).tolist()
        return x0, y0, x1, y1


def _segment(shown: FittedView, features_TW: Tensor, deepstack: tuple[Tensor, ...]) -> Segment:
    positions, advance = prompt_positions([TokenGrid(shown.rows, shown.columns)], 0)
    marks = torch.ones(len(features_TW), dtype=torch.bool, device=features_TW.device) if deepstack else None
    return Segment(features_TW, positions, advance, marks, deepstack)


def _tower_calls(views: Sequence[View], rule: PixelRule) -> list[list[View]]:
    """Views in order, as many a call as keep it below the bound; one alone may exceed it."""
    calls: list[list[View]] = []
    room = 0
    for view in views:
        patches = int(tower_grid(view.detail, rule).prod())
        if patches > room:
            calls.append([])
            room = PATCHES_PER_TOWER_CALL
        calls[-1].append(view)
        room -= patches
    return calls


def _rule(folder: Path, config: Mapping[str, Any], published: PixelRule) -> PixelRule:
    settings = _json(folder / "preprocessor_config.json") or _json(folder / "processor_config.json").get("image_processor") or {}
    try:
        return read_rule(settings, config.get("vision_config") or {}, published)
    except ValueError as error:
        raise ModelRefused(f"{folder}: {error}") from None


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none."""
    content: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return content
