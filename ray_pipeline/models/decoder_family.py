"""What every family with a causal decoder has in common: the whole conversation, on prefixes.

A family file says how it loads, how a picture becomes views and embeddings, where its tokens look (footprints), its prompt
and its box notation. Everything else is here, once: batching of unequal rows, shared prefixes, attention rows, gradients,
answers, candidates. To add a family: subclass, fill in the methods marked "family", add one line to families.py.
Shapes: T visual tokens, H query heads, L layers, Q questions, S keys, C the four coordinates, W width of the decoder.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ray_pipeline.geometry.footprints import Footprints, join
from ray_pipeline.models import contract
from ray_pipeline.models.answer_gradient import question_gradients, row_gradients
from ray_pipeline.models.attention_rows import ROW_ATTENTION, RowRequest
from ray_pipeline.models.box_text import BoxText
from ray_pipeline.models.contract import Encode, Generate, Generation, ReadAttention, Sample, Sampling, VisualTokens
from ray_pipeline.models.decoding import GREEDY, Task, Written, token_log_probability, write
from ray_pipeline.models.generation import generation
from ray_pipeline.models.native_ocr import PLAIN, ReadingStyle, Transcript, line_shown, prompt_of, transcribed
from ray_pipeline.models.prefix import EMPTY, Chunk, PrefixState, continue_batch, extended_states, up_to
from ray_pipeline.models.prompt_text import PromptText
from ray_pipeline.models.region_bias import region_bias
from ray_pipeline.models.segment import Segment, joined
from schemas.picture import Box
from schemas.status import RowFailure, Status


@dataclass(frozen=True)
class View:
    """One view as the tower takes it. `pixels` are normalised, in the family's own layout, and may be a gradient's leaf.

    `footprints` has one entry per token that `embed` gives for it, in order. `detail` is the family's own.
    """

    box_px: Box
    pixels: Tensor
    footprints: Footprints
    detail: Any = None
    grid: tuple[int, int] | None = None


@dataclass(frozen=True)
class FamilyState:
    """The prefix after the picture, where its visual tokens stand in it, its views, and the box of the last zoomed one."""

    prefix: PrefixState
    slots_T: Tensor
    views: tuple[View, ...]
    zoom_px: Box | None


@dataclass(frozen=True)
class Suffix:
    """A question behind a picture. `columns_U` are visual columns inside the suffix itself (families whose visual tokens
    depend on the question), and `chain_UT` carries weights over them to the picture's tokens; None where the prefix has them."""

    segment: Segment
    columns_U: Tensor | None = None
    chain_UT: Tensor | None = None


class DecoderFamily(ABC):
    """A loaded family. Implements `contract.Family` for all of its subclasses."""

    axes = 1  # position axes of the decoder
    reading: ClassVar[ReadingStyle] = PLAIN  # Family: how it is asked for all text of a picture, and how it writes that

    def __init__(
        self, decoder: PreTrainedModel, head: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, end_ids: frozenset[int]
    ) -> None:
        self.decoder, self.head, self.tokenizer, self.end_ids = decoder, head, tokenizer, end_ids
        decoder.set_attn_implementation(ROW_ATTENTION)
        self.text = PromptText(tokenizer)

    @property
    @abstractmethod
    def defaults(self) -> contract.FamilyDefaults:
        """Family: what it knows about itself."""

    @abstractmethod
    def views(self, request: Encode, first_number: int) -> list[View]:
        """Family: pixels and footprints of the boxes asked for; `first_number` numbers the first view (0: none before it)."""

    @abstractmethod
    def embed(self, views: Sequence[View]) -> list[Segment]:
        """Family: visual tokens of views through tower and projector, differentiable in their `pixels`; may batch them all."""

    @abstractmethod
    def around(self, zoomed: bool) -> tuple[list[int], list[int]]:
        """Family: token ids before and after the visual tokens, of the first picture or of each zoomed view behind it."""

    @abstractmethod
    def question_ids(self, question: str) -> list[int]:
        """Family: token ids of the prompt behind the picture(s), up to the position that writes the answer's first token."""

    @abstractmethod
    def gradient_views(self, view: View, norms_Q: Tensor) -> list[contract.ViewGradient]:
        """Family: frames of a view for pure-grad; `norms_Q` is (Q, *view.pixels without the channel axis)."""

    def channel_axis(self) -> int:
        """Family: which axis of `View.pixels` is colour."""
        return -3

    def read_box(self, raw: str, question: str) -> BoxText:
        """Family: an answer's box in its own notation and frame; none by default."""
        return BoxText(raw.strip(), None, (), malformed=False)

    def box_px(self, values: tuple[float, ...], tokens: VisualTokens) -> Box:
        """Family: four numbers in the notation's frame to pixels of the picture."""
        raise ValueError(f"{type(self).__name__} writes no boxes, got {values}")

    def score(self, log_p: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability of written tokens; a family whose neighbouring tokens mean nearly the same may add them up."""
        return token_log_probability(log_p, tokens)

    def suffix(self, tokens: VisualTokens, question: str) -> Suffix:
        """The question behind its picture."""
        return Suffix(self.token_segment(self.question_ids(question)))

    def _room_for(self, tokens: VisualTokens, question: str, answer: int = 0) -> Suffix:
        """The question behind its picture, where both and an answer of so many tokens fit into what the decoder was made for.

        Raises:
            RowFailure: they do not; it would go on beyond its positions and write nonsense.
        """
        suffix = self.suffix(tokens, question)
        limit = getattr(self.decoder.config, "max_position_embeddings", None)
        needed = tokens.state.prefix.position + suffix.segment.step + answer
        if limit is not None and needed > limit:
            raise RowFailure(Status.SKIPPED, f"picture, question and answer take {needed} positions of the model's {limit}")
        return suffix

    def token_segment(self, ids: list[int]) -> Segment:
        """Embeddings (tokens, W) of token ids."""
        table = self.decoder.get_input_embeddings()
        return Segment(table(torch.tensor(ids, dtype=torch.long, device=self.decoder.device)))

    @torch.no_grad()
    def encode(self, requests: Sequence[Encode]) -> list[VisualTokens]:
        """Tower on all views of all requests, then every row's prefix through the decoder."""
        views = [self.views(request, _next_number(request)) for request in requests]
        flat = self.embed([view for own in views for view in own])
        replies: dict[int, VisualTokens] = {}
        for stop, group in _grouped(requests, lambda request: request.until_layer).items():
            prepared = []
            for k in group:
                before = sum(len(own) for own in views[:k])
                prepared.append((requests[k], views[k], flat[before : before + len(views[k])]))
            replies |= zip(group, self._prefixes(prepared, stop), strict=True)
        return [replies[k] for k in range(len(requests))]

    def _prefixes(self, rows: Sequence[tuple[Encode, list[View], list[Segment]]], stop: int | None) -> list[VisualTokens]:
        states = [request.behind.state.prefix if request.behind else EMPTY for request, _, _ in rows]
        wrapped = [self.wrap(visual, zoomed=request.behind is not None) for request, _, visual in rows]
        chunks = [Chunk((segment,)) for segment, _ in wrapped]
        continued = continue_batch(self.decoder, states, chunks, up_to(self.decoder, len(rows), stop), self.axes)
        new = extended_states(states, continued, chunks)
        return [
            self._tokens(request, views, state, old.length + slots)
            for (request, views, _), state, old, (_, slots) in zip(rows, new, states, wrapped, strict=True)
        ]

    def wrap(self, visual: Sequence[Segment], zoomed: bool) -> tuple[Segment, Tensor]:
        """Visual tokens between their markers, and their places in that segment. Each zoomed view has markers of its own."""
        before, after = self.around(zoomed)
        parts, slots, at = [], [], 0
        for group in [[one] for one in visual] if zoomed else [list(visual)]:
            lead = [self.token_segment(before)] if before else []
            tail = [self.token_segment(after)] if after else []
            at += sum(len(part) for part in lead)
            count = sum(len(part) for part in group)
            slots.append(torch.arange(at, at + count))
            at += count + sum(len(part) for part in tail)
            parts += [*lead, *group, *tail]
        return joined(parts), torch.cat(slots)

    def _tokens(self, request: Encode, views: list[View], state: PrefixState, slots_T: Tensor) -> VisualTokens:
        behind = request.behind
        old: FamilyState | None = behind.state if behind else None
        footprints = join(([behind.footprints] if behind else []) + [view.footprints for view in views])
        slots = torch.cat([old.slots_T, slots_T]) if old else slots_T
        if len(slots) != len(footprints):
            raise ValueError(
                f"{len(slots)} visual tokens with {len(footprints)} footprints: weights would fall on the wrong places"
            )
        kept = FamilyState(state, slots, (old.views if old else ()) + tuple(views), request.boxes_px[-1] if behind else None)
        grid = behind.grid if behind else views[0].grid if len(views) == 1 else None
        return VisualTokens(request.picture, (behind.boxes_px if behind else ()) + request.boxes_px, footprints, kept, grid)

    @torch.no_grad()
    def read_attention(self, requests: Sequence[ReadAttention]) -> list[contract.Attention]:
        """All questions of a request packed behind its prefix, the decoder stopped at the layer asked for."""
        replies: dict[int, contract.Attention] = {}
        for layer, group in _grouped(requests, lambda request: request.layer).items():
            replies |= zip(group, self._read_layer([requests[k] for k in group], layer), strict=True)
        return [replies[k] for k in range(len(requests))]

    def _read_layer(self, requests: Sequence[ReadAttention], layer: int) -> list[contract.Attention]:
        states = [request.tokens.state.prefix for request in requests]
        suffixes = [[self._room_for(request.tokens, text) for text in request.questions] for request in requests]
        chunks = [Chunk(tuple(suffix.segment for suffix in own)) for own in suffixes]
        most = max(len(chunk.segments) for chunk in chunks)
        ends = [chunk.last_indices + [0] * (most - len(chunk.segments)) for chunk in chunks]
        request = RowRequest((layer,), torch.tensor(ends, device=self.decoder.device), stop_after_rows=True)
        continued = continue_batch(self.decoder, states, chunks, request, self.axes)
        rows = request.rows_BHRS[layer]
        replies = []
        for k, (asked, own) in enumerate(zip(requests, suffixes, strict=True)):
            starts = [0, *(end + 1 for end in chunks[k].last_indices)]
            weights = [
                self.visual_weights(rows[k, :, r], asked.tokens, suffix, continued.prefix_pad, starts[r])
                for r, suffix in enumerate(own)
            ]
            replies.append(contract.Attention(torch.stack(weights)))
        return replies

    def visual_weights(self, row_HS: Tensor, tokens: VisualTokens, suffix: Suffix, prefix_end: int, start: int) -> Tensor:
        """A row's columns of the visual tokens, not renormalised: (H, T). `start` is the suffix's place in its chunk."""
        if suffix.columns_U is None:
            state: FamilyState = tokens.state
            return row_HS[:, state.slots_T.to(row_HS.device) + prefix_end - state.prefix.length].float().cpu()
        inside = row_HS[:, suffix.columns_U.to(row_HS.device) + prefix_end + start].float()
        return (inside if suffix.chain_UT is None else inside @ suffix.chain_UT.to(inside)).cpu()

    def read_gradient(self, requests: Sequence[contract.ReadGradient]) -> list[contract.GradientAttention]:
        """The last prompt position's row times the positive part of its gradient, per head."""
        replies: dict[int, contract.GradientAttention] = {}
        for layer, group in _grouped(requests, lambda request: request.layer).items():
            asked = [requests[k] for k in group]
            states = [request.tokens.state.prefix for request in asked]
            suffixes = [self._room_for(request.tokens, request.question) for request in asked]
            forced = [request.token for request in asked]
            segments = [suffix.segment for suffix in suffixes]
            read = row_gradients(self.decoder, self.head, states, segments, layer, forced, self.axes)
            for row, k in enumerate(group):
                weights = self.visual_weights(read.weighted_BHS[row], requests[k].tokens, suffixes[row], read.prefix_ends[row], 0)
                replies[k] = contract.GradientAttention(weights, read.tokens[row], read.margins[row])
        return [replies[k] for k in range(len(requests))]

    def read_pixel_gradient(self, requests: Sequence[contract.ReadPixelGradient]) -> list[contract.PixelGradients]:
        """Gradient norms on the pixels shown. One row at a time: the graph holds the whole picture's way to the answer."""
        return [self._pixel_gradient(request) for request in requests]

    def _pixel_gradient(self, request: contract.ReadPixelGradient) -> contract.PixelGradients:
        views = [replace(view, pixels=view.pixels.detach().clone().requires_grad_()) for view in request.tokens.state.views]
        leaves = [view.pixels for view in views]
        with torch.enable_grad():
            gradients, chosen = self.pixel_gradients(request.tokens, views, request.questions, leaves)
        axis = self.channel_axis()
        norms = [torch.stack([own[k].float().square().sum(axis).sqrt() for own in gradients]).cpu() for k in range(len(leaves))]
        frames = [frame for view, own in zip(views, norms, strict=True) for frame in self.gradient_views(view, own)]
        return contract.PixelGradients(tuple(frames), tuple(chosen))

    def pixel_gradients(
        self, tokens: VisualTokens, views: list[View], questions: Sequence[str], leaves: list[Tensor]
    ) -> tuple[list[list[Tensor]], list[int]]:
        """Per question the gradient of its likeliest answer token for every leaf, and that token.

        In two steps, from the answer to the visual tokens and from there to the pixels; the tower runs twice, and is small.
        """
        if tokens.state.zoom_px is not None:
            raise ValueError("pixel gradients of a prefix with a zoomed view; expected the picture as first shown")
        with torch.no_grad():
            shown = self.embed(views)
        cuts = [replace(one, embeds_QW=_leaf(one.embeds_QW), deepstack=tuple(map(_leaf, one.deepstack))) for one in shown]
        segments = [self._room_for(tokens, question).segment for question in questions]
        picture, _ = self.wrap(cuts, zoomed=False)
        onwards, chosen = question_gradients(self.decoder, self.head, picture, segments, _tensors(cuts), self.axes)
        again = _tensors(self.embed(views))  # now with its graph, when the decoder's is gone: never both in memory
        gradients = [
            list(torch.autograd.grad(again, leaves, own, retain_graph=k + 1 < len(onwards))) for k, own in enumerate(onwards)
        ]
        return gradients, chosen

    @torch.no_grad()
    def generate(self, requests: Sequence[Generate]) -> list[Generation]:
        """Greedy answers, row by row as if alone; attention of the last prompt position where a layer is given."""
        suffixes = [self._room_for(request.tokens, request.question, request.max_new_tokens) for request in requests]
        layers = sorted({request.layer for request in requests if request.layer is not None})
        rows = None
        if layers:
            ends = [[len(suffix.segment) - 1] for suffix in suffixes]
            rows = RowRequest(layers, torch.tensor(ends, device=self.decoder.device))
        task = self._task(requests, suffixes, ())
        written = write(self.decoder, self.head, task, GREEDY, rows)
        longest = max(request.tokens.state.prefix.length for request in requests)
        replies = []
        for k, (request, (answer,)) in enumerate(zip(requests, written, strict=True)):
            attention = None
            if rows is not None and request.layer is not None:
                row = rows.rows_BHRS[request.layer][k][:, 0]
                attention = self.visual_weights(row, request.tokens, suffixes[k], longest, 0)
            replies.append(replace(self._generation(request, answer), attention_HT=attention))
        return replies

    @torch.no_grad()
    def sample(self, requests: Sequence[Sample]) -> list[contract.Samples]:
        """Candidates of every row from its one prefix, with the rows that decided their boxes."""
        replies: dict[int, contract.Samples] = {}
        for (sampling, layers), group in _grouped(requests, lambda request: (request.sampling, request.layers)).items():
            asked = [requests[k] for k in group]
            suffixes = [self._room_for(request.tokens, request.question, request.max_new_tokens) for request in asked]
            written = self._candidates(asked, suffixes, sampling, layers)
            for k, request, answers in zip(group, asked, written, strict=True):
                replies[k] = contract.Samples(tuple(self._generation(request, answer) for answer in answers))
        return [replies[k] for k in range(len(requests))]

    @torch.no_grad()
    def read_lines(self, requests: Sequence[contract.ReadLines]) -> list[contract.TextLines]:
        """The family's own OCR: every region as one view, its text asked for in the family's own words.

        Loaded with the plain prompt template, or that adds to them. An answer is as long as the context has room for.
        """
        shown = [line_shown(request) if request.single else (request.picture, request.box_px) for request in requests]
        tokens = self.encode([Encode(picture, (box,)) for picture, box in shown])
        asked = [
            Generate(seen, prompt_of(self.reading, request.single), request.max_new_tokens)
            for seen, request in zip(tokens, requests, strict=True)
        ]
        return [
            transcribed(request, seen, transcript, self.reading, self.box_px)
            for request, seen, transcript in zip(requests, tokens, self._transcripts(asked), strict=True)
        ]

    def _transcripts(self, asked: Sequence[Generate]) -> list[Transcript]:
        suffixes = [self._room_for(one.tokens, one.question, answer=1) for one in asked]
        limit = getattr(self.decoder.config, "max_position_embeddings", None) or math.inf
        room = [limit - one.tokens.state.prefix.position - own.segment.step for one, own in zip(asked, suffixes, strict=True)]
        asked = [replace(one, max_new_tokens=int(min(one.max_new_tokens, left))) for one, left in zip(asked, room, strict=True)]
        written = write(self.decoder, self.head, self._task(asked, suffixes, ()))
        return [Transcript(*self.text.spelled(one.ids), one.log_p, one.finished) for (one,) in written]

    def _candidates(
        self, asked: Sequence[Sample], suffixes: Sequence[Suffix], sampling: Sampling, layers: tuple[int, ...]
    ) -> list[list[Written]]:
        if layers and any(suffix.columns_U is not None for suffix in suffixes):
            raise ValueError("attention of candidates where visual tokens depend on the question; expected no layers")
        return write(self.decoder, self.head, self._task(asked, suffixes, layers), sampling)

    def _task(self, requests: Sequence[Generate | Sample], suffixes: Sequence[Suffix], layers: tuple[int, ...]) -> Task:
        boosts = [getattr(request, "boost", None) for request in requests]
        return Task(
            [request.tokens.state.prefix for request in requests],
            [suffix.segment for suffix in suffixes],
            self.end_ids,
            [request.max_new_tokens for request in requests],
            [request.tokens.state.slots_T.to(self.decoder.device) for request in requests] if layers else (),
            layers,
            [boost and region_bias(request.tokens, boost) for request, boost in zip(requests, boosts, strict=True)],
            self.axes,
            self.score,
        )

    def _generation(self, request: Generate | Sample, answer: Written) -> Generation:
        raw, starts = self.text.spelled(answer.ids)
        parsed = self.read_box(raw, request.question)
        box = None if parsed.values is None else self.box_px(parsed.values, request.tokens)
        if box is not None and not all(math.isfinite(value) for value in box):
            box = None
        return generation(answer, raw, starts, parsed, box)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _tensors(segments: Sequence[Segment]) -> list[Tensor]:
    """All that the decoder takes from visual tokens."""
    return [tensor for one in segments for tensor in (one.embeds_QW, *one.deepstack)]


def _next_number(request: Encode) -> int:
    """Number of the first new view: those of all views before it, tiles included, are taken."""
    behind = request.behind
    return 0 if behind is None else int(behind.footprints.view_T.max()) + 1


def _grouped(requests: Sequence[Any], key: Any) -> dict[Any, list[int]]:
    """Indices of the requests by a property that a call must have in common, in order of first appearance."""
    groups: dict[Any, list[int]] = {}
    for k, request in enumerate(requests):
        groups.setdefault(key(request), []).append(k)
    return groups
