"""Family InternVL 3 and 3.5 (the "-HF" checkpoints): tiles of a squashed picture and a thumbnail, one token per 2 x 2 patches.

Each picture's tokens stand in one run between `<img>` and `</img>`, tiles first. Boxes are written in thousandths of each
axis, which a squashed picture keeps (mc_llava 9.6 and 10). Legend: V tiles of a view, the thumbnail last, T tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import InternVLConfig, InternVLForConditionalGeneration, PreTrainedTokenizerBase

from ray_pipeline.geometry.placement import Placement
from ray_pipeline.models.box_text import BoxText, read_marked_boxes
from ray_pipeline.models.checkpoint import load_network, load_tokenizer, settled_end_ids
from ray_pipeline.models.contract import Abilities, Encode, FamilyDefaults, ViewGradient, VisualTokens
from ray_pipeline.models.decoder_family import DecoderFamily, View
from ray_pipeline.models.internvl_tiles import TileGrid, TileRule, tile_boxes, tile_footprints, tile_pixels
from ray_pipeline.models.native_ocr import MARKED, ReadingStyle
from ray_pipeline.models.segment import Segment, joined
from ray_pipeline.models.square_input import Preprocessing, processor_settings, read_preprocessing, whole_pixels
from ray_pipeline.models.templates import ANSWER, LOCATE
from ray_pipeline.models.weights import ModelRefused
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box

TILES_PER_TOWER_CALL = 64  # bounds the tower's activations; chunking does not change results
THOUSAND = 1000
DECODERS = frozenset({"llama", "qwen2", "qwen3", "qwen3_moe"})  # others add sinks or windows, which rows would not show
TEMPLATES = ANSWER | {"locate": LOCATE.replace("{question}", "<ref>{question}</ref>")}


@dataclass(frozen=True)
class Turn:
    """One user turn of the folder's chat template, cut where pictures and question stand.

    `head` stands before the first picture, `between` before each further one, `rest` behind the last; it holds {question}.
    """

    head: str
    between: str
    rest: str


class InternVl(DecoderFamily):
    """A loaded InternVL, answering batches of requests. Implements `contract.Family`."""

    reading: ClassVar[ReadingStyle] = MARKED

    def __init__(
        self,
        model: InternVLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        preprocessing: Preprocessing,
        rule: TileRule,
        views: ViewSettings = ViewSettings(),
        prompt: PromptSettings = PromptSettings(),
    ) -> None:
        self.model, self.settings = model.eval().requires_grad_(False), views
        ends = settled_end_ids(model.generation_config, tokenizer)
        super().__init__(model.model.language_model, model.lm_head, tokenizer, ends)
        self.preprocessing = preprocessing
        self.rule = rule if views.resolution_px is None else rule.within(views.resolution_px)
        vision: Any = model.config.vision_config
        self.side = int(rule.side_px // vision.patch_size[0] * model.config.downsample_ratio)
        self.turn = chat_turn(tokenizer, str(tokenizer.convert_ids_to_tokens(model.config.image_token_id)))
        self.template = prompt.question or TEMPLATES[prompt.template]
        self.question_ids("")  # a template without {question} is refused now, not at the first row

    @classmethod
    def load(cls, folder: Path, model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> "InternVl":
        """Load safetensors, tokenizer and image settings from a folder that has passed the gate."""
        network = load_network(InternVLForConditionalGeneration, folder, model)
        side_px = square_side(network.config)
        preprocessing, rule = read_preprocessing(folder, side_px), read_rule(folder, side_px)
        return cls(network, load_tokenizer(folder), preprocessing, rule, views, prompt)

    @staticmethod
    def abilities(config: dict[str, Any]) -> Abilities:
        """What a folder's config.json says that this model can honour.

        Raises:
            ModelRefused: a decoder whose attention is more than a softmax over all earlier tokens.
        """
        text: Any = InternVLConfig.from_dict(config).text_config
        if text.model_type not in DECODERS:
            raise ModelRefused(f"internvl with a {text.model_type} decoder; expected one of {sorted(DECODERS)}")
        return Abilities(
            layers=int(text.num_hidden_layers),
            focus=frozenset({"rel_att", "grad_att", "pure_grad", "auto"}),
            boxes=True,
            crops=False,
            budget=False,
            fits=frozenset({"squash"}),
            resolution=True,
            official=False,  # tiles and a thumbnail are no plain grid
            boost=True,
            profiled_layer=(config.get("focus") or {}).get("layer"),
        )

    @property
    def defaults(self) -> FamilyDefaults:
        focus = getattr(self.model.config, "focus", None) or {}
        return FamilyDefaults(
            self.rule.side_px, focus.get("layer"), focus.get("base_window_px"), focus.get("base_window_share"),
            focus.get("gate", 1.0), "whole", self.rule.side_px * math.isqrt(self.rule.most),
            TEMPLATES["locate"],
        )  # fmt: skip

    def views(self, request: Encode, first_number: int) -> list[View]:
        """Every box in tiles of its own; a view's first number is that of all it shows, its tiles follow."""
        views, number = [], first_number
        like = self.model
        for box in request.boxes_px:
            x0, y0, x1, y1 = whole_pixels(request.picture, box)
            cut: Box = (float(x0), float(y0), float(x1), float(y1))
            grid = self._grid(x1 - x0, y1 - y0, request.behind is not None)
            tiles = tile_pixels(request.picture.pixels_YX3[y0:y1, x0:x1], grid, self.rule.side_px)
            pixels = self.preprocessing.normalised(list(tiles)).to(like.device, like.dtype)
            prints = tile_footprints(cut, grid, self.side, number, number + 1)
            views.append(View(cut, pixels, prints, grid, (self.side, self.side) if grid.count == 1 else None))
            number += grid.count
        return views

    def _grid(self, width: int, height: int, zoomed: bool) -> TileGrid:
        enlarged = (self.settings.zoom_px or 0) ** 2 if zoomed else 0
        return self.rule.grid(width, height, max(width * height, enlarged))

    def embed(self, views: Sequence[View]) -> list[Segment]:
        """All tiles of all views through tower, pixel shuffle and projector; a view's tokens are one segment."""
        pixels = torch.cat([view.pixels for view in views])
        features_VTW = torch.cat(
            [self.model.model.get_image_features(chunk).pooler_output for chunk in pixels.split(TILES_PER_TOWER_CALL)]
        )
        counts = [len(view.pixels) for view in views]
        return [Segment(own.flatten(0, 1)) for own in features_VTW.split(counts)]

    def around(self, zoomed: bool) -> tuple[list[int], list[int]]:
        """The chat template's start or what it puts between pictures, and the picture's markers."""
        return self.text.ids((self.turn.between if zoomed else self.turn.head) + "<img>"), self.text.ids("</img>")

    def wrap(self, visual: Sequence[Segment], zoomed: bool) -> tuple[Segment, Tensor]:
        """Markers stand around every picture, also around each of several shown first."""
        if zoomed or len(visual) == 1:
            return super().wrap(visual, zoomed)
        first, slots = super().wrap(visual[:1], zoomed=False)
        others, more = super().wrap(visual[1:], zoomed=True)
        return joined([first, others]), torch.cat([slots, more + len(first)])

    def question_ids(self, question: str) -> list[int]:
        """The question in its template, to the end of the turn."""
        return self.text.behind("</img>", self.turn.rest.replace("{question}", self.template), question)

    def gradient_views(self, view: View, norms_Q: Tensor) -> list[ViewGradient]:
        """One frame per tile, the thumbnail last; a block is what one token sees."""
        shown_VYX3 = self.preprocessing.shown(view.pixels)
        block = self.rule.side_px // self.side
        return [
            ViewGradient(box, shown_VYX3[k], norms_Q[:, k], block) for k, box in enumerate(tile_boxes(view.box_px, view.detail))
        ]

    def read_box(self, raw: str, question: str) -> BoxText:
        """`<ref>name</ref><box>[[x0, y0, x1, y1]]</box>`."""
        return read_marked_boxes(raw, question)

    def box_px(self, values: tuple[float, ...], tokens: VisualTokens) -> Box:
        """Thousandths of the first picture's axes, also where a zoomed view was shown behind it."""
        frame = Placement.squashed(tokens.boxes_px[0], THOUSAND)
        x0, y0, x1, y1 = frame.to_picture(torch.tensor(values, dtype=torch.float64)).tolist()
        return x0, y0, x1, y1


def square_side(config: InternVLConfig) -> int:
    """Side of a tile in pixels.

    Raises:
        ModelRefused: a tower with an oblong input or patch, or whose patches do not shuffle into whole tokens.
    """
    vision: Any = config.vision_config
    (height, width), (patch_y, patch_x) = vision.image_size, vision.patch_size
    merge = 1 / config.downsample_ratio
    if height != width or patch_y != patch_x or height % (patch_y * merge):
        sizes = f"{width} x {height} px, patches of {patch_x} x {patch_y} px, shuffled by {merge:g}"
        raise ModelRefused(f"internvl with a tower of {sizes}; expected squares that divide evenly")
    return int(height)


def read_rule(folder: Path, side_px: int) -> TileRule:
    """How many tiles a folder's image processor cuts, 1 to 12 where it does not say.

    Raises:
        ModelRefused: no processor, or an impossible range.
    """
    settings = processor_settings(folder)
    try:
        return TileRule(side_px, settings.get("min_patches", 1), settings.get("max_patches", 12))
    except ValueError as error:
        raise ModelRefused(f"{folder}: image processor with {error}") from None


def chat_turn(tokenizer: PreTrainedTokenizerBase, image: str) -> Turn:
    """The folder's chat template, rendered around one picture and around two, and cut at their placeholders.

    Raises:
        ModelRefused: no template, or prompts of one and of two pictures that do not begin and end alike.
    """
    if not tokenizer.chat_template:
        raise ModelRefused("a tokenizer without chat_template; expected the one the model was trained with")
    one, two = (_rendered(tokenizer, pictures).split(image) for pictures in (1, 2))
    if len(one) != 2 or len(two) != 3 or one[0] != two[0] or one[1] != two[2] or one[1].count("{question}") != 1:
        raise ModelRefused(f"chat template gives {one} around one picture and {two} around two; expected a shared prefix")
    return Turn(one[0], two[1], one[1])


def _rendered(tokenizer: PreTrainedTokenizerBase, pictures: int) -> str:
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": "{question}"}]
    turn: list[Any] = [{"role": "user", "content": content}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
