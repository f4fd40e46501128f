"""One picture's shared prefix, and continuations of many prefixes in one call.

In a causal decoder a position's states depend on earlier positions only, so everything before the question is computed
once and every suffix (question, generic prompt, zoomed view) continues from it. States are values: a continuation makes
a new one and leaves the old as it was, so rolling back is keeping the old, and a longer prefix shares the shorter one's
keys and values instead of copying them. Shapes: B rows, H key heads, P prefix length, Q chunk length, K keys, D width of
a head, W width of the decoder, A position axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ray_pipeline.models.attention_rows import Continuation, KeyPart, LayersDone, RowGradient, RowRequest
from ray_pipeline.models.segment import Segment


@dataclass(frozen=True)
class Block:
    """Keys and values of consecutive positions in every layer (or in the first ones), each (H, P, D)."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def length(self) -> int:
        """How many positions."""
        return self.keys[0].shape[1]


@dataclass(frozen=True)
class PrefixState:
    """A prefix as blocks in a row, shared with every shorter prefix of it, and the position that the next token takes."""

    blocks: tuple[Block, ...]
    position: int

    @property
    def length(self) -> int:
        """How many positions have keys."""
        return sum(block.length for block in self.blocks)

    @property
    def depth(self) -> int:
        """How many layers have keys, from the first one up; 0 for an empty prefix."""
        return min((len(block.keys) for block in self.blocks), default=0)

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, (H, P, D); views where there is one block only."""
        keys = [block.keys[layer] for block in self.blocks]
        values = [block.values[layer] for block in self.blocks]
        return (keys[0], values[0]) if len(keys) == 1 else (torch.cat(keys, 1), torch.cat(values, 1))


EMPTY = PrefixState((), 0)


@dataclass(frozen=True)
class Chunk:
    """What one row adds behind its prefix: segments that see the prefix and themselves, not each other.

    Positions restart for every segment, so that each equals a prompt of its own.
    """

    segments: tuple[Segment, ...]

    @property
    def length(self) -> int:
        return sum(len(segment) for segment in self.segments)

    @property
    def last_indices(self) -> list[int]:
        ends, total = [], 0
        for segment in self.segments:
            total += len(segment)
            ends.append(total - 1)
        return ends


@dataclass
class Continued:
    """Outcome of one batched call: hidden states (B, Q, W) right-padded, None where it was stopped early.

    `own` are the chunk's keys and values per layer reached, (B, H, Q, D); `own_real_BQ` says which belong to the row.
    """

    hidden: Tensor | None
    states: Sequence[PrefixState]
    own: list[tuple[Tensor, Tensor]]
    own_real_BQ: Tensor
    prefix_pad: int
    lengths: list[int]

    def parts(self, bias_BP: Tensor | None) -> list[KeyPart]:
        """All keys and values behind which decoding goes on: of one row as they are, of several rows side by side."""
        bias = torch.zeros(len(self.states), self.prefix_pad, device=self.own_real_BQ.device) if bias_BP is None else bias_BP
        keys, values = zip(*self.own, strict=True)
        chunk = KeyPart(list(keys), list(values), _hidden_if(~self.own_real_BQ))
        if not self.prefix_pad:
            return [chunk]
        if len(self.states) == 1:
            blocks = self.states[0].blocks
            shares = bias.split([block.length for block in blocks], 1)
            return [
                KeyPart([k[None] for k in block.keys], [v[None] for v in block.values], share)
                for block, share in zip(blocks, shares, strict=True)
            ] + [chunk]
        joined = [_joined(self.states, self.prefix_pad, layer) for layer in range(len(self.own))]
        padding = _padding(self.states, self.prefix_pad, bias.device)
        return [KeyPart([k for k, _ in joined], [v for _, v in joined], bias + _hidden_if(padding)), chunk]


def continue_batch(
    decoder: PreTrainedModel,
    states: Sequence[PrefixState],
    chunks: Sequence[Chunk],
    request: RowRequest | None = None,
    axes: int = 1,
    bias_BP: Tensor | None = None,
    gradient: RowGradient | None = None,
) -> Continued:
    """Run every row's chunk behind its prefix in one decoder call. Prefixes are left-padded, chunks right-padded.

    `decoder` is the language model without its head. With an early-stopping request no hidden states come back. `bias_BP` is
    added to the scores of the prefix's keys (B, longest prefix): log(factor) multiplies attention to a key by the factor.
    """
    longest = max(state.length for state in states)
    width = max(chunk.length for chunk in chunks)
    embeds = torch.stack([_padded(torch.cat([part.embeds_QW for part in chunk.segments]), width) for chunk in chunks])
    device = embeds.device
    positions = torch.zeros(axes, len(chunks), width, dtype=torch.long, device=device)
    segment_of = torch.full((len(chunks), width), -1, device=device)
    for row, (state, chunk) in enumerate(zip(states, chunks, strict=True)):
        at = 0
        for number, segment in enumerate(chunk.segments):
            positions[:, row, at : at + len(segment)] = segment.positions(state.position, axes)
            segment_of[row, at : at + len(segment)] = number
            at += len(segment)
    plain = not longest and all(len(chunk.segments) == 1 and chunk.length == width for chunk in chunks)
    mask = None if plain else _mask(~_padding(states, longest, device), segment_of)  # without one, the kernel is causal
    if bias_BP is not None and mask is not None:
        mask = _additive(mask, bias_BP, embeds.dtype)
    before = Continuation(lambda layer: _joined(states, longest, layer) if longest else None)
    try:
        hidden = decoder(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions[0] if axes == 1 else positions, use_cache=False,
            continuation=before, row_request=request, row_gradient=gradient, **_deepstack(chunks, width),
        ).last_hidden_state  # fmt: skip
    except LayersDone:
        hidden = None
    return Continued(hidden, states, before.own, segment_of >= 0, longest, [chunk.length for chunk in chunks])


def up_to(decoder: PreTrainedModel, rows: int, layer: int | None = None) -> RowRequest:
    """A request for nothing but to stop once a layer's keys and values are there, by default the last one's.

    A prefix needs no more: what the last layer makes of it is read by nobody.
    """
    last = int(decoder.config.num_hidden_layers) - 1
    nothing = torch.zeros(rows, 0, dtype=torch.long, device=decoder.device)
    return RowRequest((last if layer is None else layer,), nothing, stop_after_rows=True)


def extended_states(states: Sequence[PrefixState], continued: Continued, chunks: Sequence[Chunk]) -> list[PrefixState]:
    """The rows' new prefixes after single-segment chunks: the old ones' blocks and one more."""
    new = []
    for row, (state, chunk) in enumerate(zip(states, chunks, strict=True)):
        if len(states) == 1:  # nobody's padding is in it: no copy
            own = [(keys[0], values[0]) for keys, values in continued.own]
        else:
            own = [
                (keys[row, :, : chunk.length].clone(), values[row, :, : chunk.length].clone()) for keys, values in continued.own
            ]
        block = Block(tuple(keys for keys, _ in own), tuple(values for _, values in own))
        new.append(PrefixState((*state.blocks, block), state.position + chunk.segments[0].step))
    return new


def _mask(prefix_real_BP: Tensor, segment_of_BQ: Tensor) -> Tensor:
    """(B, 1, Q, K) bool. A padding query sees padding, so that no row of the softmax is empty."""
    width = segment_of_BQ.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=segment_of_BQ.device).tril()
    own = causal & (segment_of_BQ[:, :, None] == segment_of_BQ[:, None, :])
    seen = prefix_real_BP[:, None].expand(-1, width, -1)
    return torch.cat([seen, own], -1)[:, None]


def _additive(mask: Tensor, bias_BP: Tensor, dtype: torch.dtype) -> Tensor:
    scores = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    scores[..., : bias_BP.shape[1]] += bias_BP[:, None, None].to(dtype)
    return scores


def _deepstack(chunks: Sequence[Chunk], width: int) -> dict[str, Any]:
    """Which tokens are visual and what early layers add to them, in the order of the flattened batch; nothing without."""
    parts = [part for chunk in chunks for part in chunk.segments]
    depth = max(len(part.deepstack) for part in parts)
    if not depth:
        return {}
    marks = torch.zeros(len(chunks), width, dtype=torch.bool, device=parts[0].embeds_QW.device)
    for row, chunk in enumerate(chunks):
        at = 0
        for part in chunk.segments:
            if part.visual_Q is not None and part.deepstack:
                marks[row, at : at + len(part)] = part.visual_Q
            at += len(part)
    features = [torch.cat([part.deepstack[k] for part in parts if part.deepstack]) for k in range(depth)]
    return {"visual_pos_masks": marks, "deepstack_visual_embeds": features}


def _joined(states: Sequence[PrefixState], longest: int, layer: int) -> tuple[Tensor, Tensor]:
    """One layer's keys and values of all rows, (B, H, longest, D), left-padded; views where there is one row of one block."""
    pairs = [state.layer(layer) if state.blocks else None for state in states]
    like = next(pair for pair in pairs if pair is not None)
    filled = [pair or (like[0][:, :0], like[1][:, :0]) for pair in pairs]
    if len(filled) == 1:
        return filled[0][0][None], filled[0][1][None]
    keys, values = zip(*filled, strict=True)
    return torch.stack([_left_padded(k, longest) for k in keys]), torch.stack([_left_padded(v, longest) for v in values])


def _padding(states: Sequence[PrefixState], longest: int, device: torch.device) -> Tensor:
    """(B, longest): True where a row's prefix has not begun yet."""
    lengths = torch.tensor([state.length for state in states], device=device)
    return torch.arange(longest, device=device)[None] < longest - lengths[:, None]


def _hidden_if(unseen: Tensor) -> Tensor:
    return torch.zeros(unseen.shape, device=unseen.device).masked_fill(unseen, -torch.inf)


def _left_padded(tensor_HPD: Tensor, length: int) -> Tensor:
    return nn.functional.pad(tensor_HPD, (0, 0, length - tensor_HPD.shape[1], 0))


def _padded(tensor_QW: Tensor, length: int) -> Tensor:
    return nn.functional.pad(tensor_QW, (0, 0, 0, length - tensor_QW.shape[0]))
