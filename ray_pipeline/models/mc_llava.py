"""Family MC-LLaVA: the published 3B checkpoint's architecture and the embedded model.

Views are squashed to the tower's square input; each keeps some of its patch features, gets its coordinates added and is
projected. The picture's views form the shared prefix; a zoomed view and the question follow it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ray_pipeline.geometry.footprints import Footprints, join, view_footprints
from ray_pipeline.geometry.placement import Placement
from ray_pipeline.models.attention_rows import RowRequest
from ray_pipeline.models.box_text import read_locations
from ray_pipeline.models.contract import Attention, Encode, FamilyDefaults, Generate, Generation, ReadAttention, VisualTokens
from ray_pipeline.models.greedy import Written, decode_greedily
from ray_pipeline.models.mc_llava_network import McLlavaForConditionalGeneration
from ray_pipeline.models.multicrop_tokens import coordinates, split_tokens
from ray_pipeline.models.prefix import EMPTY, Chunk, PrefixState, continue_batch, extended_states
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture

VIEWS_PER_TOWER_CALL = 64  # bounds the tower's activations; chunking does not change results
LOCATION_TOLERANCE = 10  # bins of 1000: a location's probability is the mass within 1 % of the axis


@dataclass(frozen=True)
class McLlavaState:
    """The prefix after the picture, and where its visual tokens stand in it. `zoom_px` is the last view's box if zoomed."""

    prefix: PrefixState
    token_slots: tuple[int, ...]
    zoom_px: Box | None


class McLlava:
    """A loaded MC-LLaVA, answering batches of requests. Implements `contract.Family`."""

    def __init__(
        self,
        model: McLlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        views: ViewSettings = ViewSettings(),
        prompt: PromptSettings = PromptSettings(),
    ) -> None:
        self.model, self.tokenizer, self.views, self.prompt = model.eval(), tokenizer, views, prompt
        model.use_row_attention()
        config = model.config
        self.input_px: int = config.vision_config.image_size
        self.patch_px: int = config.vision_config.patch_size
        self.side = self.input_px // self.patch_px
        self.first = int(config.drop_first_feature)
        self.per_view = self.side**2 - self.first
        self.end_id = self._token(config.prompt["end"])
        if prompt.question is not None and "{question}" not in prompt.question:
            raise ValueError(f"prompt.question is {prompt.question!r}, expected a text that holds {{question}}")

    @classmethod
    def load(cls, folder: Path, model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> "McLlava":
        """Load safetensors and tokenizer from a folder that has passed the gate."""
        network = McLlavaForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, model.dtype), use_safetensors=True)
        device = model.device if model.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        torch.nn.Module.to(network, device)
        return cls(network, tokenizer, views, prompt)

    @property
    def defaults(self) -> FamilyDefaults:
        focus = self.model.config.focus
        return FamilyDefaults(
            self.input_px, focus.get("layer"), focus.get("base_window_px"), focus.get("base_window_share"),
            focus.get("gate", 1.0),
        )  # fmt: skip

    @torch.inference_mode()
    def encode(self, requests: Sequence[Encode]) -> list[VisualTokens]:
        """Tower on all views of all requests, then every row's prefix through the whole decoder."""
        pixels = torch.cat([self._pixels(request) for request in requests])
        features = torch.cat([self.model.view_features(chunk) for chunk in pixels.split(VIEWS_PER_TOWER_CALL)])
        done, chunks, states = 0, [], []
        layouts = []
        for request in requests:
            own = features[done : done + len(request.boxes_px)]
            done += len(request.boxes_px)
            embeds, kept = self._visual_embeds(request, own)
            before = self._embed("zoom" if request.behind else "before")
            chunks.append(Chunk((torch.cat([before, embeds]),)))
            states.append(request.behind.state.prefix if request.behind else EMPTY)
            layouts.append((len(before), kept))
        new = extended_states(states, continue_batch(self.model.language_model.model, states, chunks))
        return [self._tokens(*row) for row in zip(requests, new, states, layouts, strict=True)]

    @torch.inference_mode()
    def read_attention(self, requests: Sequence[ReadAttention]) -> list[Attention]:
        """All questions of a request packed behind its prefix, the decoder stopped at the layer asked for."""
        replies: dict[int, Attention] = {}
        for layer in dict.fromkeys(request.layer for request in requests):
            group = [k for k, request in enumerate(requests) if request.layer == layer]
            replies |= zip(group, self._read_layer([requests[k] for k in group], layer), strict=True)
        return [replies[k] for k in range(len(requests))]

    def _read_layer(self, requests: Sequence[ReadAttention], layer: int) -> list[Attention]:
        states = [request.tokens.state.prefix for request in requests]
        chunks = [Chunk(tuple(self._question(text) for text in request.questions)) for request in requests]
        most = max(len(chunk.segments) for chunk in chunks)
        ends = [chunk.last_indices + [0] * (most - len(chunk.segments)) for chunk in chunks]
        request = RowRequest((layer,), torch.tensor(ends, device=self.model.device), stop_after_rows=True)
        continued = continue_batch(self.model.language_model.model, states, chunks, request)
        rows = request.rows_BHRS[layer]
        return [
            Attention(
                self._visual_columns(rows[k, :, : len(chunks[k].segments)], asked.tokens, continued.prefix_pad).transpose(0, 1)
            )
            for k, asked in enumerate(requests)
        ]

    @torch.inference_mode()
    def generate(self, requests: Sequence[Generate]) -> list[Generation]:
        """Greedy answers, row by row as if alone; attention of the last prompt position where a layer is given."""
        states = [request.tokens.state.prefix for request in requests]
        prompts = [self._question(request.question) for request in requests]
        layers = sorted({request.layer for request in requests if request.layer is not None})
        rows = None
        if layers:
            ends = torch.tensor([[len(prompt) - 1] for prompt in prompts], device=self.model.device)
            rows = RowRequest(layers, ends)
        most = [request.max_new_tokens for request in requests]
        written = decode_greedily(self.model.language_model, states, prompts, self.end_id, most, rows)
        longest = max(state.length for state in states)
        replies = []
        for k, (request, answer) in enumerate(zip(requests, written, strict=True)):
            attention = None
            if rows is not None and request.layer is not None:
                attention = self._visual_columns(rows.rows_BHRS[request.layer][k], request.tokens, longest)[:, 0]
            replies.append(self._generation(request, answer, attention))
        return replies

    def _pixels(self, request: Encode) -> Tensor:
        views = [view_pixels(request.picture, box, self.input_px) for box in request.boxes_px]
        device, dtype = self.model.device, self.model.dtype
        return (torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float() / 127.5 - 1).to(device, dtype)

    def _visual_embeds(self, request: Encode, features_VTD: Tensor) -> tuple[Tensor, list[int]]:
        picture, size = request.picture, self.model.config.coordinate_size
        places = coordinates(request.boxes_px, picture.width, picture.height, size).to(features_VTD)
        budget = self.views.num_tokens or self.model.config.num_tokens or self.per_view * len(request.boxes_px)
        kept = split_tokens(len(request.boxes_px), budget, self.per_view, self.views.token_split)
        projected = [
            self.model.project(features[None, -count:], place[None])[0]
            for features, place, count in zip(features_VTD, places, kept, strict=True)
        ]
        return torch.cat(projected), kept

    def _tokens(self, request: Encode, state: PrefixState, old: PrefixState, layout: tuple[int, list[int]]) -> VisualTokens:
        markers, kept = layout
        behind = request.behind
        known = len(behind.boxes_px) if behind else 0
        share = self.side * self.patch_px / self.input_px
        prints = [
            view_footprints(box, self.side, self.side, share, self.side**2 - count, known + k, "auto")
            for k, (box, count) in enumerate(zip(request.boxes_px, kept, strict=True))
        ]
        slots = tuple(range(old.length + markers, state.length))
        footprints: Footprints = join(([behind.footprints] if behind else []) + prints)
        return VisualTokens(
            request.picture, (behind.boxes_px if behind else ()) + request.boxes_px, footprints,
            McLlavaState(state, (behind.state.token_slots if behind else ()) + slots, request.boxes_px[-1] if behind else None),
        )  # fmt: skip

    def _visual_columns(self, rows_HRS: Tensor, tokens: VisualTokens, prefix_pad: int) -> Tensor:
        """Columns of the visual tokens, not renormalised: (H, R, T)."""
        offset = prefix_pad - tokens.state.prefix.length
        slots = torch.tensor(tokens.state.token_slots, device=rows_HRS.device) + offset
        return rows_HRS[..., slots].float().cpu()

    def _embed(self, part: str) -> Tensor:
        ids = self.tokenizer(self.model.config.prompt[part], add_special_tokens=False).input_ids
        return self._embed_ids(ids)

    def _question(self, question: str) -> Tensor:
        """The suffix of one question. Special tokens typed by a user stay text: they cannot end the turn."""
        before, after = self.model.config.prompt["after"].split("{question}")
        text = (self.prompt.question or "{question}").replace("{question}", question)
        ids = self.tokenizer(before, add_special_tokens=False).input_ids
        ids = ids + self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return self._embed_ids(ids + self.tokenizer(after, add_special_tokens=False).input_ids)

    def _embed_ids(self, ids: list[int]) -> Tensor:
        table = self.model.language_model.get_input_embeddings()
        embeds: Tensor = table(torch.tensor(ids, dtype=torch.long, device=self.model.device))
        return embeds

    def _token(self, text: str) -> int:
        token = self.tokenizer.convert_tokens_to_ids(text)
        if not isinstance(token, int):
            raise ValueError(f"{text!r} is {token!r} to this tokenizer; expected one token")
        return token

    def _generation(self, request: Generate, answer: Written, attention_HT: Tensor | None) -> Generation:
        raw = str(self.tokenizer.decode(answer.ids, skip_special_tokens=False))
        parsed = read_locations(raw)
        text_log_p, box_log_p = self._log_probabilities(answer)
        box = parsed.values and self._box_px(parsed.values, request.tokens)
        return Generation(
            parsed.text, raw, text_log_p, box, box_log_p if box else None, len(answer.ids), answer.finished, attention_HT
        )

    def _log_probabilities(self, answer: Written) -> tuple[float, float]:
        """Mean log-probability of text tokens (the end counts) and of location tokens (mass within 1 % of the axis)."""
        text = [] if answer.end_log_p is None else [answer.end_log_p]
        places = []
        first = self._token("<loc000>")
        has_locations = first != self.tokenizer.unk_token_id
        for token, log_p in zip(answer.ids, answer.log_p, strict=True):
            if has_locations and first <= token < first + 1000:
                low, high = max(first, token - LOCATION_TOLERANCE), min(first + 1000, token + LOCATION_TOLERANCE + 1)
                places.append(min(0.0, float(log_p[low:high].logsumexp(0))))
            else:
                text.append(float(log_p[token]))
        return (sum(text) / len(text) if text else -math.inf), (sum(places) / len(places) if places else -math.inf)

    @staticmethod
    def _box_px(values: tuple[int, int, int, int], tokens: VisualTokens) -> Box:
        """0..999 of the zoomed view, or of the whole picture where none was shown, to picture pixels."""
        view = Placement.squashed(tokens.state.zoom_px or tokens.boxes_px[0], 1000)
        x0, y0, x1, y1 = view.to_picture(torch.tensor(values, dtype=torch.float64) + 0.5).tolist()
        return x0, y0, x1, y1


def view_pixels(picture: Picture, box_px: Box, side_px: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Cut whole pixels and squash to side_px x side_px with Pillow's bicubic filter, as the weights were trained with."""
    x0, y0 = math.floor(box_px[0]), math.floor(box_px[1])
    x1, y1 = max(x0 + 1, math.ceil(box_px[2])), max(y0 + 1, math.ceil(box_px[3]))
    cut = Image.fromarray(picture.pixels_YX3[max(0, y0) : y1, max(0, x0) : x1])
    return np.asarray(cut.resize((side_px, side_px), Image.Resampling.BICUBIC))
