"""One picture's shared prefix, and continuations of many prefixes in one call.

In a causal decoder a position's states depend on earlier positions only, so everything before the question is computed
once and every suffix (question, generic prompt, zoomed view) continues from it. States are values: a continuation makes
a new one and leaves the old as it was, so rolling back is keeping the old. Shapes: B rows, H key heads, P prefix length,
Q chunk length, K keys, D width of a head, W width of the decoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ray_pipeline.models.attention_rows import LayersDone, RowRequest


@dataclass(frozen=True)
class PrefixState:
    """Keys and values of every layer, each (H, P, D), and the position that the next token takes."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    position: int

    @property
    def length(self) -> int:
        return self.keys[0].shape[1] if self.keys else 0


EMPTY = PrefixState((), (), 0)


@dataclass(frozen=True)
class Chunk:
    """What one row adds behind its prefix: segments (each (Q_i, W)) that see the prefix and themselves, not each other.

    Positions restart after the prefix for every segment, so that each equals a prompt of its own.
    """

    segments: tuple[Tensor, ...]

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
    """Outcome of one batched call: hidden states (B, Q, W) right-padded, and what is needed to go on decoding."""

    hidden: Tensor | None
    cache: DynamicCache
    key_real: Tensor  # (B, K): True where a key belongs to the row
    prefix_pad: int
    lengths: list[int]

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of every layer, (B, H, K, D).

        Raises:
            TypeError: a layer caches something else (sliding windows, linear attention): its prefix cannot be kept apart.
        """
        kept = []
        for layer in self.cache.layers:
            if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
                raise TypeError(f"cache layer {type(layer).__name__}, expected a full-attention layer with keys and values")
            kept.append((layer.keys, layer.values))
        return kept


def continue_batch(
    decoder: PreTrainedModel, states: Sequence[PrefixState], chunks: Sequence[Chunk], request: RowRequest | None = None
) -> Continued:
    """Run every row's chunk behind its prefix in one decoder call. Prefixes are left-padded, chunks right-padded.

    `decoder` is the language model without its head. With an early-stopping request no hidden states come back.
    """
    longest = max(state.length for state in states)
    width = max(chunk.length for chunk in chunks)
    cache = _joined_cache(states, longest)
    embeds = torch.stack([_padded(torch.cat(chunk.segments), width) for chunk in chunks])
    device = embeds.device
    key_real = torch.zeros(len(chunks), longest + width, dtype=torch.bool, device=device)
    positions = torch.zeros(len(chunks), width, dtype=torch.long, device=device)
    segment_of = torch.full((len(chunks), width), -1, device=device)
    for row, (state, chunk) in enumerate(zip(states, chunks, strict=True)):
        key_real[row, longest - state.length : longest + chunk.length] = True
        start = 0
        for number, segment in enumerate(chunk.segments):
            stop = start + len(segment)
            positions[row, start:stop] = torch.arange(state.position, state.position + len(segment), device=device)
            segment_of[row, start:stop] = number
            start = stop
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    own = causal & (segment_of[:, :, None] == segment_of[:, None, :])  # a padding query sees padding: never empty
    seen = key_real[:, None, :longest].expand(-1, width, -1)
    mask = torch.cat([seen, own], -1)[:, None]
    try:
        hidden = decoder(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            row_request=request,
        ).last_hidden_state  # fmt: skip
    except LayersDone:
        hidden = None
    return Continued(hidden, cache, key_real, longest, [chunk.length for chunk in chunks])


def extended_states(states: Sequence[PrefixState], continued: Continued) -> list[PrefixState]:
    """The rows' new prefixes after single-segment chunks: old keys and values joined with the chunk's own."""
    new = []
    for row, (state, length) in enumerate(zip(states, continued.lengths, strict=True)):
        start, stop = continued.prefix_pad - state.length, continued.prefix_pad + length
        keys = tuple(keys[row, :, start:stop].clone() for keys, _ in continued.layers)
        values = tuple(values[row, :, start:stop].clone() for _, values in continued.layers)
        new.append(PrefixState(keys, values, state.position + length))
    return new


def _joined_cache(states: Sequence[PrefixState], longest: int) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(len(states[0].keys)):
        keys = torch.stack([_left_padded(state.keys[layer], longest) for state in states])
        values = torch.stack([_left_padded(state.values[layer], longest) for state in states])
        cache.update(keys, values, layer)
    return cache


def _left_padded(tensor_HPD: Tensor, length: int) -> Tensor:
    return nn.functional.pad(tensor_HPD, (0, 0, length - tensor_HPD.shape[1], 0))


def _padded(tensor_QW: Tensor, length: int) -> Tensor:
    return nn.functional.pad(tensor_QW, (0, 0, 0, length - tensor_QW.shape[0]))
