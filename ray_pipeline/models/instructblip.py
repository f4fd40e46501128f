"""Family InstructBLIP with a Vicuna: a few queries per picture, which have read the question before the decoder does.

So nothing of the decoder can be shared between questions: a prefix keeps the vision tower's features, the expensive part,
and every question brings [queries of the picture] [queries of the zoomed view] <s> Question: ... Short answer: of its own.
Attention over queries is chained to the 16 x 16 patches of each view (mc_llava 9.7, ViCrop section 4.2).
Shapes: V views, Q queries of a view, U = V * Q, P patches of a view, T = V * P visual tokens, K = P + 1, H heads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import InstructBlipConfig, InstructBlipForConditionalGeneration, PreTrainedTokenizerBase

from ray_pipeline.geometry.footprints import grid_footprints, join
from ray_pipeline.models.answer_gradient import answer_tokens, row_gradients
from ray_pipeline.models.checkpoint import load_network, load_tokenizer, settled_end_ids
from ray_pipeline.models.contract import (
    Abilities,
    Encode,
    FamilyDefaults,
    GradientAttention,
    ReadGradient,
    ViewGradient,
    VisualTokens,
)
from ray_pipeline.models.decoder_family import DecoderFamily, FamilyState, Suffix, View
from ray_pipeline.models.prefix import EMPTY, Chunk, continue_batch
from ray_pipeline.models.query_former import Queried, QueryFormer, chained
from ray_pipeline.models.segment import Segment
from ray_pipeline.models.square_input import Preprocessing, read_preprocessing, squashed, whole_pixels
from ray_pipeline.models.templates import CLOSELY
from ray_pipeline.models.weights import ModelRefused
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box

VIEWS_PER_TOWER_CALL = 64  # bounds the tower's activations; chunking does not change results
PUBLISHED_SHAPE, PUBLISHED_LAYER = (32, 6), 15  # decoder layers and connector layers of Vicuna-7B; where ViCrop reads
PUBLISHED_CONNECTOR = 2
TEMPLATES = {"short": "Question: {question} Short answer:", "plain": "{question}"} | CLOSELY


class InstructBlip(DecoderFamily):
    """A loaded InstructBLIP, answering batches of requests. Implements `contract.Family`."""

    def __init__(
        self,
        model: InstructBlipForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        reader: PreTrainedTokenizerBase,
        preprocessing: Preprocessing,
        prompt: PromptSettings = PromptSettings(),
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        language = model.language_model
        super().__init__(language.model, language.lm_head, tokenizer, settled_end_ids(language.generation_config, tokenizer))
        self.reader, self.preprocessing = reader, preprocessing
        self.begin, self.end = put_around(tokenizer)
        self.focus = focus_profile(model.config)
        self.former = QueryFormer(model, self.focus["connector_layer"])
        vision: Any = model.config.vision_config
        self.patch_px: int = vision.patch_size
        self.side = preprocessing.side_px // self.patch_px
        if prompt.question is None and prompt.template not in TEMPLATES:
            raise ValueError(
                f"prompt.template {prompt.template!r} with instructblip, which writes no boxes; expected short or plain"
            )
        self.template = prompt.question or TEMPLATES[prompt.template]
        self.question_ids("")  # a template without {question} is refused now, not at the first row

    @classmethod
    def load(cls, folder: Path, model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> "InstructBlip":
        """Load safetensors, both tokenizers and image settings from a folder that has passed the gate."""
        network = load_network(InstructBlipForConditionalGeneration, folder, model)
        if not (folder / "qformer_tokenizer").is_dir():
            raise ModelRefused(f"{folder}: no qformer_tokenizer folder, expected the Q-Former's own tokenizer there")
        tokenizer, reader = load_tokenizer(folder), load_tokenizer(folder / "qformer_tokenizer")
        vision: Any = network.config.vision_config
        return cls(network, tokenizer, reader, read_preprocessing(folder, vision.image_size), prompt)

    @staticmethod
    def abilities(config: dict[str, Any]) -> Abilities:
        """What a folder's config.json says that this model can honour.

        Raises:
            ModelRefused: an encoder-decoder language model, such as T5: its prompt has no last position that looks back.
        """
        parsed = InstructBlipConfig.from_dict(config)
        text: Any = parsed.text_config
        if text.model_type != "llama":
            raise ModelRefused(f"instructblip with a {text.model_type} language model; expected llama (Vicuna)")
        return Abilities(
            layers=int(text.num_hidden_layers),
            focus=frozenset({"rel_att", "grad_att", "pure_grad", "auto"}),
            boxes=False,
            crops=False,
            budget=False,
            fits=frozenset({"squash"}),
            resolution=False,
            official=True,
            boost=False,  # queries have no place
            profiled_layer=focus_profile(parsed)["layer"],
        )

    @property
    def defaults(self) -> FamilyDefaults:
        side_px = self.preprocessing.side_px
        return FamilyDefaults(
            side_px, self.focus["layer"], self.focus.get("base_window_px", float(side_px)), None,
            self.focus.get("gate", 1.0), "whole",
        )  # fmt: skip

    def views(self, request: Encode, first_number: int) -> list[View]:
        """Every box squashed to the input."""
        like, grid = self.model, (self.side, self.side)
        views = []
        for k, box in enumerate(request.boxes_px):
            x0, y0, x1, y1 = whole_pixels(request.picture, box)
            cut: Box = (float(x0), float(y0), float(x1), float(y1))
            frame = squashed(request.picture, cut, self.preprocessing)
            pixels = self.preprocessing.normalised([frame.pixels_YX3])[0].to(like.device, like.dtype)
            views.append(View(cut, pixels, grid_footprints(cut, *grid, first_number + k), None, grid))
        return views

    def embed(self, views: Sequence[View]) -> list[Segment]:
        """Features of each view's class token and patches, (K, tower width): what the Q-Former asks, not the decoder."""
        pixels = torch.stack([view.pixels for view in views])
        features = torch.cat([self.model.vision_model(chunk).last_hidden_state for chunk in pixels.split(VIEWS_PER_TOWER_CALL)])
        return [Segment(own) for own in features]

    @torch.no_grad()
    def encode(self, requests: Sequence[Encode]) -> list[VisualTokens]:
        """Tower on all views of all requests; the decoder has nothing to do before the question is known."""
        views = [self.views(request, 0 if request.behind is None else len(request.behind.boxes_px)) for request in requests]
        features = iter(self.embed([view for own in views for view in own]))
        replies = []
        for request, own in zip(requests, views, strict=True):
            seen = [View(v.box_px, v.pixels, v.footprints, next(features).embeds_QW, v.grid) for v in own]
            replies.append(_tokens(request, seen))
        return replies

    def around(self, zoomed: bool) -> tuple[list[int], list[int]]:
        """No markers: queries come before everything, also before the token that starts a text."""
        return [], []

    def question_ids(self, question: str) -> list[int]:
        """The question in its template, between what the tokenizer puts around a text."""
        return [*self.begin, *self.text.behind("", self.template, question), *self.end]

    def reader_ids(self, question: str) -> list[int]:
        """The same text in the Q-Former's own words, cut at its start where it is longer than the Q-Former reads."""
        former: Any = self.model.config.qformer_config
        text = self.template.replace("{question}", question)
        longest = former.max_position_embeddings
        ids: list[int] = self.reader(text, split_special_tokens=True, truncation=True, max_length=longest).input_ids
        return ids

    def suffix(self, tokens: VisualTokens, question: str) -> Suffix:
        """All queries and the text; weights on the queries are chained to the patches they looked at."""
        asked = self._ask(torch.stack([view.detail for view in tokens.state.views]), question)
        connector_VQK = asked.connector_BHQK.mean(1)
        segment = self._segment(asked, question)
        views, queries = connector_VQK.shape[:2]
        each = torch.eye(views * queries, device=connector_VQK.device).view(-1, views, queries)
        return Suffix(segment, torch.arange(views * queries), chained(each, connector_VQK))

    def _ask(self, features_VKD: Tensor, question: str, as_leaf: bool = False) -> Queried:
        return self.former.ask(features_VKD, [self.reader_ids(question)] * len(features_VKD), as_leaf)

    def _segment(self, asked: Queried, question: str) -> Segment:
        text = self.token_segment(self.question_ids(question)).embeds_QW
        return Segment(torch.cat([asked.embeds_BQW.flatten(0, 1), text]))

    def read_gradient(self, requests: Sequence[ReadGradient]) -> list[GradientAttention]:
        """S x max(dv/dS, 0) per head, chained by the mean over the Q-Former's heads of T x max(dv/dT, 0).

        S is the decoder's row over the queries, T the connector's probabilities, both after softmax. Row by row: the graph
        reaches from the connector through the whole decoder.
        """
        return [self._gradient_attention(request) for request in requests]

    def _gradient_attention(self, request: ReadGradient) -> GradientAttention:
        with torch.enable_grad():
            asked = self._ask(torch.stack([view.detail for view in request.tokens.state.views]), request.question, as_leaf=True)
            segment = self._segment(asked, request.question)
            scalar, token, margin = self._answer(segment, request.token)
            (gradient,) = torch.autograd.grad(scalar, asked.connector_BHQK)
        connector_VQK = (asked.connector_BHQK.detach() * gradient.clamp(min=0)).mean(1)
        segment = Segment(segment.embeds_QW.detach())
        row = row_gradients(self.decoder, self.head, [EMPTY], [segment], request.layer, [token], self.axes)
        queries = row.weighted_BHS[0, :, : connector_VQK.shape[0] * connector_VQK.shape[1]].unflatten(1, connector_VQK.shape[:2])
        return GradientAttention(chained(queries, connector_VQK).float().cpu(), token, margin)

    def _answer(self, segment: Segment, forced: int | None) -> tuple[Tensor, int, float]:
        """Log-probability of the first answer token (the likeliest, unless forced), the token, and its logit's lead."""
        hidden = continue_batch(self.decoder, [EMPTY], [Chunk((segment,))], axes=self.axes).hidden
        if hidden is None:
            raise RuntimeError("no row was asked for, and yet the decoder stopped early")
        logits = self.head(hidden[:, -1]).float()
        chosen, margins = answer_tokens(logits, [forced])
        return logits.log_softmax(-1)[0, chosen[0]], int(chosen[0]), margins[0]

    def pixel_gradients(
        self, tokens: VisualTokens, views: list[View], questions: Sequence[str], leaves: list[Tensor]
    ) -> tuple[list[list[Tensor]], list[int]]:
        """Through decoder and Q-Former per question, then through the tower, whose pass all questions share."""
        features = torch.stack([segment.embeds_QW for segment in self.embed(views)])
        gradients, chosen = [], []
        for question in questions:
            cut = features.detach().requires_grad_()
            scalar, token, _ = self._answer(self._segment(self._ask(cut, question), question), None)
            (onwards,) = torch.autograd.grad(scalar, cut)
            gradients.append(list(torch.autograd.grad(features, leaves, onwards, retain_graph=True)))
            chosen.append(token)
        return gradients, chosen

    def gradient_views(self, view: View, norms_Q: Tensor) -> list[ViewGradient]:
        """The squashed view itself is the frame."""
        return [ViewGradient(view.box_px, self.preprocessing.shown(view.pixels), norms_Q, self.patch_px)]


def focus_profile(config: InstructBlipConfig) -> dict[str, Any]:
    """Where to look: `layer` of the decoder (None where nobody knows) and `connector_layer` among the cross-attentions.

    config.json's own `focus` wins; else the published pair for Vicuna-7B's shape. An unknown shape is read at the published
    connector layer, or the last one there is.
    """
    text: Any = config.text_config
    former: Any = config.qformer_config
    entries = -(-former.num_hidden_layers // former.cross_attention_frequency)
    published = (text.num_hidden_layers, entries) == PUBLISHED_SHAPE
    own = getattr(config, "focus", None) or {}
    defaults = {"layer": PUBLISHED_LAYER if published else None, "connector_layer": min(PUBLISHED_CONNECTOR, entries - 1)}
    return defaults | own


def put_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What a tokenizer puts before and after a text. Vicuna's start token here is the end token of others: no guessing by id."""
    bare: list[int] = tokenizer("x", add_special_tokens=False).input_ids
    whole: list[int] = tokenizer("x").input_ids
    starts = [k for k in range(len(whole)) if whole[k : k + len(bare)] == bare]
    return whole[: starts[0]], whole[starts[0] + len(bare) :]


def _tokens(request: Encode, views: list[View]) -> VisualTokens:
    behind = request.behind
    known: tuple[View, ...] = behind.state.views if behind else ()
    shown = known + tuple(views)
    zoom = request.boxes_px[-1] if behind else None
    state = FamilyState(EMPTY, torch.zeros(0, dtype=torch.long), shown, zoom)
    boxes = (behind.boxes_px if behind else ()) + request.boxes_px
    grid = behind.grid if behind else views[0].grid if len(views) == 1 else None
    return VisualTokens(request.picture, boxes, join([view.footprints for view in shown]), state, grid)
