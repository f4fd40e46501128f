"""Family LLaVA-1.5: a CLIP tower on one square input per view, a Vicuna decoder.

A picture is padded to a square, or cropped to its middle to reproduce published numbers; a zoomed crop is fitted in the same
way and follows the picture without a separator. Boxes are fractions of the input's sides, of the picture as first shown, or
of the last crop once one was shown.
Legend: V views, T visual tokens, D width, Y X rows and columns of the input.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ray_pipeline.models.box_text import BoxText, read_fractions
from ray_pipeline.models.checkpoint import all_end_ids, load_network, load_tokenizer
from ray_pipeline.models.contract import Abilities, Encode, FamilyDefaults, ViewGradient, VisualTokens
from ray_pipeline.models.decoder_family import DecoderFamily, View
from ray_pipeline.models.segment import Segment
from ray_pipeline.models.square_input import FITS, Frame, Preprocessing, frame_footprints, read_preprocessing, within_cut
from ray_pipeline.models.templates import ANSWER, LOCATE
from ray_pipeline.models.weights import ModelRefused
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box
from schemas.status import RowFailure, Status

VIEWS_PER_TOWER_CALL = 16  # bounds the tower's activations; chunking does not change results
QUESTION_ROOM = 256  # positions of the decoder's context that pictures leave to question and answer
OFFICIAL_LAYER = 14  # of LLaVA-1.5-7B; layers of other revisions must be chosen on data
TEMPLATES = ANSWER | {"locate": LOCATE}


@dataclass(frozen=True)
class Turn:
    """Texts before the first picture and behind the last one; `behind` holds {question} and ends where the answer begins."""

    before: str
    behind: str


PUBLISHED_TURN = Turn("", "\nUSER: {question}\nASSISTANT:")


class Llava(DecoderFamily):
    """A loaded LLaVA-1.5, answering batches of requests. Implements `contract.Family`."""

    network_class: ClassVar[type[PreTrainedModel]] = LlavaForConditionalGeneration
    config_class: ClassVar[type[PreTrainedConfig]] = LlavaConfig
    decoders: ClassVar[frozenset[str]] = frozenset({"llama"})

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        preprocessing: Preprocessing,
        views: ViewSettings = ViewSettings(),
        prompt: PromptSettings = PromptSettings(),
    ) -> None:
        asked = self.asked(prompt)
        self.network, self.preprocessing = network.eval().requires_grad_(False), preprocessing
        self.config: Any = network.config
        ends = all_end_ids(network.generation_config, tokenizer)
        super().__init__(network.model.language_model, network.lm_head, tokenizer, ends)
        self.patch_px: int = self.config.vision_config.patch_size
        self.fit = FITS[views.fit or "pad"]
        self.image_text = str(tokenizer.convert_ids_to_tokens(self.config.image_token_id))
        turn = self.turn()
        self.before = self._before(turn.before)
        self.template = turn.behind.replace("{question}", asked)
        self.question_ids("")  # a template without {question} is refused now, not at the first row

    @classmethod
    def load(cls, folder: Path, model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> Self:
        """Load safetensors, tokenizer and preprocessing from a folder that has passed the gate.

        Raises:
            ModelRefused: weights are missing, or the folder wants another architecture, preprocessing or prompt than we know.
        """
        network = load_network(cls.network_class, folder, model)
        config: Any = network.config
        cls._check(config)
        preprocessing = read_preprocessing(folder, config.vision_config.image_size)
        return cls(network, load_tokenizer(folder), preprocessing, views, prompt)

    @classmethod
    def abilities(cls, config: dict[str, Any]) -> Abilities:
        """What a folder's config.json says that this model can honour.

        Raises:
            ModelRefused: another tower or decoder than this family's.
        """
        full = cls._full(config)
        return Abilities(
            layers=full.text_config.num_hidden_layers,
            focus=frozenset({"rel_att", "grad_att", "pure_grad", "auto"}),
            boxes=True,
            crops=True,
            budget=False,
            fits=frozenset(FITS),
            resolution=False,
            official=True,
            boost=True,
            profiled_layer=_official_layer(full),
        )

    @property
    def defaults(self) -> FamilyDefaults:
        """The base window is the input's side: the smallest crop is shown pixel for pixel, as published."""
        side = self.preprocessing.side_px
        return FamilyDefaults(side, _official_layer(self.config), float(side), None, 1.0, locate=LOCATE)

    def asked(self, prompt: PromptSettings) -> str:
        """The text around a question, within its turn."""
        return prompt.question or TEMPLATES[prompt.template]

    def turn(self) -> Turn:
        """What stands around pictures and question."""
        return PUBLISHED_TURN

    def views(self, request: Encode, first_number: int) -> list[View]:
        """Every box fitted to the input on its own."""
        views = []
        for number, box in enumerate(request.boxes_px, first_number):
            frame = self.fit(request.picture, box, self.preprocessing)
            prints = within_cut(frame_footprints(frame, self.patch_px, number), request.picture, box)
            side = self.preprocessing.side_px // self.patch_px
            views.append(View(box, self.normalised([frame])[0], prints, frame, (side, side)))
        self.check_room(request, sum(len(view.footprints) for view in views))
        return views

    def embed(self, views: Sequence[View]) -> list[Segment]:
        """Tower and projector on all views."""
        return [Segment(features_TD) for features_TD in self.features(torch.stack([view.pixels for view in views]))]

    def normalised(self, frames: Sequence[Frame]) -> Tensor:
        """(V, 3, Y, X) on the model's device, in its precision."""
        return self.preprocessing.normalised([frame.pixels_YX3 for frame in frames]).to(self.network.device, self.network.dtype)

    def features(self, pixels_V3YX: Tensor) -> Tensor:
        """Projected features of the layer that config.json names, without the class token, in raster order: (V, T, D)."""
        return torch.cat([self._projected(chunk) for chunk in pixels_V3YX.split(VIEWS_PER_TOWER_CALL)])

    def _projected(self, pixels_V3YX: Tensor) -> Tensor:
        named = self.config.vision_feature_layer
        layers = [named] if isinstance(named, int) else list(named)
        hidden = self.network.model.vision_tower(pixels_V3YX, output_hidden_states=layers).hidden_states
        features: Tensor = self.network.model.multi_modal_projector(torch.cat([hidden[k][:, 1:] for k in layers], -1))
        return features

    def check_room(self, request: Encode, tokens: int) -> None:
        """Beyond its context the decoder would write noise.

        Raises:
            RowFailure: skipped, where the views leave no room for a question.
        """
        if (short := tokens - self.room(request)) > 0:
            most = self.config.text_config.max_position_embeddings
            raise RowFailure(
                Status.SKIPPED,
                f"{tokens} visual tokens in {len(request.boxes_px)} views, {short} too many for a context of {most} positions"
                f" that keeps {QUESTION_ROOM} for the question; expected fewer views or regions",
            )

    def room(self, request: Encode) -> int:
        """Positions that the views of a request may take."""
        taken = request.behind.state.prefix.position if request.behind else len(self.before)
        return int(self.config.text_config.max_position_embeddings) - QUESTION_ROOM - int(taken)

    def around(self, zoomed: bool) -> tuple[list[int], list[int]]:
        """What the tokenizer puts in front of a prompt; pictures follow each other without a separator."""
        return ([] if zoomed else self.before), []

    def question_ids(self, question: str) -> list[int]:
        """The question in its template, right behind a picture."""
        return self.text.behind(self.image_text, self.template, question)

    def gradient_views(self, view: View, norms_Q: Tensor) -> list[ViewGradient]:
        """The fitted square is the frame, padding included."""
        frame: Frame = view.detail
        return [ViewGradient(frame.box_px, frame.shown, norms_Q, self.patch_px)]

    def read_box(self, raw: str, question: str) -> BoxText:
        """Four fractions in brackets."""
        return read_fractions(raw, question)

    def box_px(self, values: tuple[float, ...], tokens: VisualTokens) -> Box:
        """Fractions of the last crop's input, or of the picture's where none was shown."""
        frame: Frame = tokens.state.views[0 if tokens.state.zoom_px is None else -1].detail
        in_view = torch.tensor(values, dtype=torch.float64) * self.preprocessing.side_px
        x0, y0, x1, y1 = frame.placement.to_picture(in_view).tolist()
        return x0, y0, x1, y1

    def _before(self, text: str) -> list[int]:
        """Ids in front of the first picture, as the tokenizer writes them there."""
        ids = self.text.ids(text + self.image_text, begin=True)
        if ids[-1:] != [self.config.image_token_id]:
            raise ModelRefused(f"{self.image_text!r} is {ids} to this tokenizer; expected one token {self.config.image_token_id}")
        return ids[:-1]

    @classmethod
    def _full(cls, config: dict[str, Any]) -> Any:
        """The configuration with the defaults of what config.json leaves out, as published ones do."""
        full = cls.config_class.from_dict(copy.deepcopy(config))
        cls._check(full)
        return full

    @classmethod
    def _check(cls, config: Any) -> None:
        tower, decoder = config.vision_config.model_type, config.text_config.model_type
        if tower != "clip_vision_model" or decoder not in cls.decoders:
            expected = f"clip_vision_model and one of {sorted(cls.decoders)}"
            raise ModelRefused(f"{config.model_type} with tower {tower} and decoder {decoder}; expected {expected}")
        if config.vision_feature_select_strategy != "default":
            found = config.vision_feature_select_strategy
            raise ModelRefused(f"vision_feature_select_strategy {found!r}; expected 'default': patches without the class token")
        windows = getattr(config.text_config, "sliding_window", None)
        if windows is not None:
            raise ModelRefused(f"decoder with a sliding window of {windows}; expected full attention in all layers")


def _official_layer(config: Any) -> int | None:
    """The published layer, where the sizes are those of LLaVA-1.5-7B."""
    text, vision = config.text_config, config.vision_config
    sizes = config.model_type, text.model_type, text.hidden_size, text.num_hidden_layers, vision.hidden_size, vision.image_size
    return OFFICIAL_LAYER if sizes == ("llava", "llama", 4096, 32, 1024, 336) else None
