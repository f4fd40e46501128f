"""Family LLaVA-NeXT: the whole picture squashed to the tower's input, then any-res tiles of it at a higher resolution.

A zoomed crop is shown in the same way, as a picture of its own; where the decoder's context has no room for its tiles, the
squashed crop alone, as the family shows pictures without tiles. The published code has no prompt of this family: Vicuna
decoders get LLaVA-1.5's, others the one of their model card. Boxes are not documented, so none are read.
Legend: V tower views (the whole picture, then its tiles), T visual tokens, D width, Y X rows and columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration, PreTrainedConfig, PreTrainedModel

from ray_pipeline.geometry.footprints import Footprints, join
from ray_pipeline.models.any_res import Tiling, canvas, newline_footprint, packed, tile_footprints, tile_frames, tiling
from ray_pipeline.models.box_text import BoxText
from ray_pipeline.models.contract import Abilities, Encode, FamilyDefaults, ViewGradient, VisualTokens
from ray_pipeline.models.decoder_family import DecoderFamily, View
from ray_pipeline.models.llava import PUBLISHED_TURN, Llava, Turn
from ray_pipeline.models.segment import Segment
from ray_pipeline.models.square_input import Frame, frame_footprints, squashed, whole_pixels, within_cut
from ray_pipeline.models.weights import ModelRefused
from schemas.model import PromptSettings
from schemas.picture import Box

MISTRAL_TURN = Turn("[INST] ", "\n{question} [/INST]")
CHATML_TURN = Turn(
    "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n",
    "\n{question}<|im_end|><|im_start|>assistant\n",
)  # of the 34B checkpoint


@dataclass(frozen=True)
class ShownTiles:
    """A view's input: the squashed whole, then the tiles row by row. Without `layout` there are none."""

    frames: tuple[Frame, ...]
    layout: Tiling | None


class LlavaNext(Llava):
    """A loaded LLaVA-NeXT, answering batches of requests. Implements `contract.Family`."""

    network_class: ClassVar[type[PreTrainedModel]] = LlavaNextForConditionalGeneration
    config_class: ClassVar[type[PreTrainedConfig]] = LlavaNextConfig
    decoders: ClassVar[frozenset[str]] = frozenset({"llama", "mistral"})

    @classmethod
    def abilities(cls, config: dict[str, Any]) -> Abilities:
        """What a folder's config.json says that this model can honour: its own tiles in place of a fit or of crops."""
        return replace(super().abilities(config), boxes=False, crops=False, fits=frozenset(), official=False)

    @property
    def defaults(self) -> FamilyDefaults:
        """No figures of this family say where to look or how far to zoom."""
        reading_px = max(min(pinpoint) for pinpoint in self.config.image_grid_pinpoints)
        return FamilyDefaults(self.preprocessing.side_px, None, None, None, 1.0, "whole", reading_px)

    def asked(self, prompt: PromptSettings) -> str:
        """LLaVA-1.5's texts, but for boxes.

        Raises:
            ModelRefused: a question for boxes.
        """
        if prompt.template == "locate" and prompt.question is None:
            raise ModelRefused(
                "prompt.template 'locate' with llava_next, whose boxes are not documented; expected 'short' or 'plain'"
            )
        return super().asked(prompt)

    def turn(self) -> Turn:
        """By decoder: Vicuna's, Mistral's, or ChatML where the tokenizer has its marks.

        Raises:
            ModelRefused: the tokenizer has marks of turns that no model card of this family documents here.
        """
        if self.config.text_config.model_type == "mistral":
            return MISTRAL_TURN
        marks = set(self.tokenizer.get_added_vocab())
        if "<|start_header_id|>" in marks:
            raise ModelRefused("llava_next with a Llama-3 decoder; expected Vicuna, Mistral or one with ChatML")
        return CHATML_TURN if "<|im_start|>" in marks else PUBLISHED_TURN

    def views(self, request: Encode, first_number: int) -> list[View]:
        """Every box with its tiles; two numbers each, the whole's and the tile grid's, which is one view."""
        views: list[View] = []
        for box in request.boxes_px:
            number = first_number + 2 * len(views)
            view = self._tiled(request, box, number)
            taken = sum(len(shown.footprints) for shown in views)
            if request.behind is not None and taken + len(view.footprints) > self.room(request):
                view = self._untiled(request, box, number)
            views.append(view)
        self.check_room(request, sum(len(view.footprints) for view in views))
        return views

    def _tiled(self, request: Encode, box_px: Box, number: int) -> View:
        x0, y0, x1, y1 = whole_pixels(request.picture, box_px)
        side = self.preprocessing.side_px
        layout = tiling(x1 - x0, y1 - y0, self.config.image_grid_pinpoints, side, self.patch_px)
        whole = squashed(request.picture, box_px, self.preprocessing)
        shown = canvas(request.picture, box_px, layout)
        tiles = within_cut(tile_footprints(shown.placement, layout, number + 1), request.picture, box_px)
        prints = [frame_footprints(whole, self.patch_px, number), tiles]
        return self._view(box_px, ShownTiles((whole, *tile_frames(shown, layout)), layout), join(prints))

    def _untiled(self, request: Encode, box_px: Box, number: int) -> View:
        whole = squashed(request.picture, box_px, self.preprocessing)
        prints = join([frame_footprints(whole, self.patch_px, number), newline_footprint()])
        return self._view(box_px, ShownTiles((whole,), None), prints)

    def _view(self, box_px: Box, shown: ShownTiles, footprints: Footprints) -> View:
        return View(box_px, self.normalised(shown.frames), footprints, shown)

    def embed(self, views: Sequence[View]) -> list[Segment]:
        """Tower and projector on the tiles of all views; each view's tokens unpadded, with its newlines."""
        features_VTD = self.features(torch.cat([view.pixels for view in views]))
        own = features_VTD.split([len(view.pixels) for view in views])
        newline_D: Tensor = self.network.model.image_newline
        return [Segment(packed(tiles, newline_D, view.detail.layout)) for view, tiles in zip(views, own, strict=True)]

    def gradient_views(self, view: View, norms_Q: Tensor) -> list[ViewGradient]:
        """The squashed whole and every tile are frames of their own."""
        shown: ShownTiles = view.detail
        return [ViewGradient(frame.box_px, frame.shown, norms_Q[:, k], self.patch_px) for k, frame in enumerate(shown.frames)]

    def read_box(self, raw: str, question: str) -> BoxText:
        """None: the frame of its numbers is not documented."""
        return DecoderFamily.read_box(self, raw, question)

    def box_px(self, values: tuple[float, ...], tokens: VisualTokens) -> Box:
        """None either."""
        return DecoderFamily.box_px(self, values, tokens)
