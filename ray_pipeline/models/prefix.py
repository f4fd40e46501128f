"""One picture's shared prefix, and continuations of many prefixes in one call.

In a causal decoder a position's states depend on earlier positions only, so everything before the question is computed
once and every suffix (question, generic prompt, zoomed view) continues from it. States are values: a continuation makes
a new one and leaves the old as it was, so rolling back is keeping the old. Shapes: B rows, H key heads, P prefix length,
Q chunk length, K keys, D width of a head, W width of the decoder, A position axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ray_pipeline.models.attention_rows import LayersDone, RowRequest
from ray_pipeline.models.segment import Segment


@dataclass(frozen=True)
class PrefixState:
    """Keys and values of every layer (or of the first ones), each (H, P, D), and the position that the next token takes."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    position: int

    @property
    def length(self) -> int:
        return self.keys[0].shape[1] if self.keys else 0


EMPTY = PrefixState((), (), 0)


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
    """Outcome of one batched call: hidden states (B, Q, W) right-padded, and what is needed to go on decoding.

    `depth` layers were extended: all, or those up to where the call was stopped.
    """

    hidden: Tensor | None
    cache: DynamicCache
    key_real: Tensor  # (B, K): True where a key belongs to the row
    prefix_pad: int
    lengths: list[int]
    depth: int

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of every extended layer, (B, H, K, D).

        Raises:
            TypeError: a layer caches something else (sliding windows, linear attention): its prefix cannot be kept apart.
        """
        kept = []
        for layer in self.cache.layers[: self.depth]:
            if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
                raise TypeError(f"cache layer {type(layer).__name__}, expected a full-attention layer with keys and values")
            kept.append((layer.keys, layer.values))
        return kept


def continue_batch(
    decoder: PreTrainedModel,
    states: Sequence[PrefixState],
    chunks: Sequence[Chunk],
    request: RowRequest | None = None,
    axes: int = 1,
    bias_BP: Tensor | None = None,
) -> Continued:
    """Run every row's chunk behind its prefix in one decoder call. Prefixes are left-padded, chunks right-padded.

    `decoder` is the language model without its head. With an early-stopping request no hidden states come back. `bias_BP` is
    added to the scores of the prefix's keys (B, longest prefix): log(factor) multiplies attention to a key by the factor.
    """
    longest = max(state.length for state in states)
    width = max(chunk.length for chunk in chunks)
    cache = _joined_cache(states, longest)
    embeds = torch.stack([_padded(torch.cat([part.embeds_QW for part in chunk.segments]), width) for chunk in chunks])
    device = embeds.device
    key_real = torch.zeros(len(chunks), longest + width, dtype=torch.bool, device=device)
    positions = torch.zeros(axes, len(chunks), width, dtype=torch.long, device=device)
    segment_of = torch.full((len(chunks), width), -1, device=device)
    for row, (state, chunk) in enumerate(zip(states, chunks, strict=True)):
        key_real[row, longest - state.length : longest + chunk.length] = True
        at = 0
        for number, segment in enumerate(chunk.segments):
            positions[:, row, at : at + len(segment)] = segment.positions(state.position, axes)
            segment_of[row, at : at + len(segment)] = number
            at += len(segment)
    plain = not longest and all(len(chunk.segments) == 1 and chunk.length == width for chunk in chunks)
    mask = None if plain else _mask(key_real[:, :longest], segment_of)  # without one, the kernel knows it is causal
    if bias_BP is not None and mask is not None:
        mask = _additive(mask, bias_BP, embeds.dtype)
    try:
        hidden = decoder(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions[0] if axes == 1 else positions,
            past_key_values=cache, use_cache=True, row_request=request, **_deepstack(chunks, width),
        ).last_hidden_state  # fmt: skip
        depth = len(cache.layers)
    except LayersDone:
        hidden, depth = None, max(request.layers) + 1 if request else 0
    return Continued(hidden, cache, key_real, longest, [chunk.length for chunk in chunks], depth)


def up_to(decoder: PreTrainedModel, rows: int, layer: int | None = None) -> RowRequest:
    """A request for nothing but to stop once a layer's keys and values are there, by default the last one's.

    A prefix needs no more: what the last layer makes of it is read by nobody.
    """
    last = int(decoder.config.num_hidden_layers) - 1
    nothing = torch.zeros(rows, 0, dtype=torch.long, device=decoder.device)
    return RowRequest((last if layer is None else layer,), nothing, stop_after_rows=True)


def extended_states(states: Sequence[PrefixState], continued: Continued, chunks: Sequence[Chunk]) -> list[PrefixState]:
    """The rows' new prefixes after single-segment chunks: old keys and values joined with the chunk's own."""
    layers = continued.layers
    if len(states) == 1:  # one row alone has no padding in it: nothing to cut, no copy
        cuts = [[(keys[0], values[0]) for keys, values in layers]]
    else:
        spans = [
            (continued.prefix_pad - state.length, continued.prefix_pad + chunk.length)
            for state, chunk in zip(states, chunks, strict=True)
        ]
        cuts = [[(k[row, :, a:b].clone(), v[row, :, a:b].clone()) for k, v in layers] for row, (a, b) in enumerate(spans)]
    return [
        PrefixState(tuple(k for k, _ in own), tuple(v for _, v in own), state.position + chunk.segments[0].step)
        for own, state, chunk in zip(cuts, states, chunks, strict=True)
    ]


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


def _joined_cache(states: Sequence[PrefixState], longest: int) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(len(states[0].keys)):
        cache.update(
            _stacked([state.keys[layer] for state in states], longest),
            _stacked([state.values[layer] for state in states], longest),
            layer,
        )
    return cache


def _stacked(tensors_HPD: Sequence[Tensor], length: int) -> Tensor:
    """(B, H, length, D), left-padded; a view where there is but one row."""
    if len(tensors_HPD) == 1:
        return tensors_HPD[0][None]
    return torch.stack([_left_padded(tensor, length) for tensor in tensors_HPD])


def _left_padded(tensor_HPD: Tensor, length: int) -> Tensor:
    return nn.functional.pad(tensor_HPD, (0, 0, length - tensor_HPD.shape[1], 0))


def _padded(tensor_QW: Tensor, length: int) -> Tensor:
    return nn.functional.pad(tensor_QW, (0, 0, 0, length - tensor_QW.shape[0]))
