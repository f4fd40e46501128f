"""Attention probabilities of chosen query positions in chosen layers, while the fast kernel computes the output.

One row a[h, t, :] = softmax(q_t K^T * scale + mask_t) needs the query of position t and all keys, so O(S) work a head;
the layer's output still comes from SDPA (engine notes, section 2). One attention function serves the decoder in all its
uses; what a call wants beyond the output travels with the call: no state outlives it.
Shapes: B batch, N candidates a row, H query heads, R rows asked for, S keys, P keys of a shared prefix, D head width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from ray_pipeline.models.causal_tiles import causal_tiles

ROW_ATTENTION = "fovea_rows"
TILE = 192  # queries; smaller ones skip more keys and start more kernels


class LayersDone(Exception):
    """Raised inside the decoder once every requested row is there and `stop_after_rows` was set."""


@dataclass
class RowRequest:
    """Which rows one forward call shall return; the call fills `rows_BHRS` (fp32, normalised over all visible keys).

    `positions_BR` are query indices within this call's chunk, per batch row. Lives for one call only.
    """

    layers: Sequence[int]
    positions_BR: Tensor
    stop_after_rows: bool = False
    rows_BHRS: dict[int, Tensor] = field(default_factory=dict)

    def wants(self, layer: int | None) -> bool:
        """Whether rows of this layer are asked for."""
        return layer in self.layers

    def take(self, layer: int, rows_BHRS: Tensor) -> None:
        """Keep the rows of one layer; called from inside its attention.

        Raises:
            LayersDone: these were the last ones and the call shall stop here.
        """
        self.rows_BHRS[layer] = rows_BHRS
        if self.stop_after_rows and layer >= max(self.layers):
            raise LayersDone


@dataclass
class Continuation:
    """A chunk behind prefixes: `before` gives a layer's keys and values of all rows (B, Hkv, P, D), None without prefixes.

    They are joined with the chunk's own for the time of one layer only; the chunk's own are kept in `own`, layer by layer.
    """

    before: Callable[[int], tuple[Tensor, Tensor] | None]
    own: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def keep(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor] | None:
        """Keep the chunk's own keys and values of a layer; what stands before them is given back."""
        self.own.append((key, value))
        return self.before(layer)


@dataclass(frozen=True)
class KeyPart:
    """A stretch of keys and values, per layer (B, Hkv, P, D). `bias_BP` is added to the scores of its keys: 0 where one may
    be seen, -inf where it is padding, log(factor) where attention to it is multiplied."""

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    bias_BP: Tensor


@dataclass
class SharedPrefix:
    """Stretches of keys and values that `count` candidates of a row share without a copy, and the candidates' own tails.

    A candidate sees its whole tail; `room` is the longest tail there can be, `written` how long it is.
    """

    parts: Sequence[KeyPart]
    count: int
    room: int
    written: int = 0
    tails: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """One query per candidate over prefix and tail: output (B N, 1, H, D), weights (B N, H, 1, P + tail) in fp32."""
        own_keys, own_values = self._tail(layer, key, value)
        rows, heads, _, width = query.shape
        groups, count = own_keys.shape[1], self.count
        batch, share = rows // count, heads // groups
        own = query.view(rows, groups, share, width)
        folded = own.view(batch, count, groups, share, width).transpose(1, 2).reshape(batch, groups, count * share, width)
        scores = []
        for part in self.parts:
            common = (folded @ part.keys[layer].transpose(2, 3)).float() * scale + part.bias_BP[:, None, None]
            common = common.view(batch, groups, count, share, -1).transpose(1, 2)
            scores.append(common.reshape(rows, groups, share, -1))
        scores.append((own @ own_keys.transpose(2, 3)).float() * scale)
        weights = torch.cat(scores, -1).softmax(-1)
        *shared, last = weights.to(value.dtype).split([one.shape[-1] for one in scores], -1)
        output = last @ own_values
        for part, spread in zip(self.parts, shared, strict=True):
            spread = spread.view(batch, count, groups, share, -1).transpose(1, 2).reshape(batch, groups, count * share, -1)
            common = (spread @ part.values[layer]).view(batch, groups, count, share, width).transpose(1, 2)
            output = output + common.reshape(rows, groups, share, width)
        return output.reshape(rows, 1, heads, width), weights.reshape(rows, heads, 1, -1)

    def _tail(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The tails with this step's key and value (B N, Hkv, 1, D) written into them, in place."""
        if layer not in self.tails:
            shape = (*key.shape[:2], self.room, key.shape[3])
            self.tails[layer] = key.new_empty(shape), value.new_empty(shape)
        keys, values = self.tails[layer]
        keys[:, :, self.written], values[:, :, self.written] = key[:, :, 0], value[:, :, 0]
        return keys[:, :, : self.written + 1], values[:, :, : self.written + 1]


@dataclass
class RowGradient:
    """The row of one query at one layer as a leaf of the graph: `leaf_BHS` after the call (grad-att, engine notes section 2).

    The leaf is the probability after softmax, as in the published code. Layers below need no graph, since nothing in
    them requires one; layers above carry the last position's own residual stream only.
    """

    layer: int
    leaf_BHS: Tensor | None = None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        """Output (B, 1, H, D) of the only query, as a function of the leaf."""
        rows = attention_rows(query, key, mask, scale, torch.zeros(len(query), 1, dtype=torch.long, device=query.device))
        self.leaf_BHS = rows[:, :, 0].detach().requires_grad_()
        batch, groups, _, width = value.shape
        folded = self.leaf_BHS.view(batch, groups, -1, value.shape[2]).to(value.dtype)
        return (folded @ value).reshape(batch, 1, -1, width)


def attention_rows(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, positions_BR: Tensor) -> Tensor:
    """Rows (B, H, R, S) of softmax attention for the queries at `positions_BR`, in fp32.

    query (B, H, Q, D); key (B, Hkv, S, D) with H a multiple of Hkv, keys are not repeated; mask (B or 1, 1, Q, S), boolean
    (True = may attend) or additive; None means causal with the last query aligned to the last key.
    """
    batch, heads, queries, width = query.shape
    groups, keys, count = key.shape[1], key.shape[2], positions_BR.shape[1]
    picked = query.gather(2, positions_BR[:, None, :, None].expand(batch, heads, count, width))
    folded = picked.reshape(batch, groups, heads // groups * count, width)
    scores = (folded.float() @ key.float().transpose(2, 3) * scaling).view(batch, heads, count, keys)
    if mask is None:
        limit = positions_BR + (keys - queries)
        visible = torch.arange(keys, device=key.device)[None, None] <= limit[:, :, None]
        return scores.masked_fill(~visible[:, None], -torch.inf).softmax(-1)
    wanted = mask.expand(batch, 1, -1, -1).gather(2, positions_BR[:, None, :, None].expand(batch, 1, count, mask.shape[-1]))
    wanted = wanted[..., :keys]
    scores = scores.masked_fill(~wanted, -torch.inf) if wanted.dtype == torch.bool else scores + wanted.float()
    return scores.softmax(-1)


def _row_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    row_request: RowRequest | None = None,
    row_gradient: RowGradient | None = None,
    shared_prefix: SharedPrefix | None = None,
    continuation: Continuation | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    layer = getattr(module, "layer_idx", None)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    wanted = row_request is not None and row_request.wants(layer)
    if shared_prefix is not None and layer is not None:
        output, weights = shared_prefix.attend(int(layer), query, key, value, scale)
        if row_request is not None and wanted:
            row_request.take(int(layer), weights)
        return output, None
    earlier = continuation.keep(int(layer), key, value) if continuation is not None and layer is not None else None
    sdpa = partial(_tiled, module, mask=attention_mask, dropout=dropout, scaling=scaling, kwargs=kwargs)
    if earlier is not None:
        if torch.is_grad_enabled() and row_gradient is None and not wanted:  # joined keys are not worth keeping for the way back
            joined = partial(_joined, sdpa)
            return checkpoint(joined, query, key, value, *earlier, use_reentrant=False, preserve_rng_state=False), None
        key, value = torch.cat([earlier[0], key], 2), torch.cat([earlier[1], value], 2)
    if row_request is not None and layer is not None and wanted:
        row_request.take(int(layer), attention_rows(query, key, attention_mask, scale, row_request.positions_BR))
    if row_gradient is not None and row_gradient.layer == layer:
        return row_gradient.attend(query, key, value, attention_mask, scale), None
    return sdpa(query, key, value), None


def _joined(
    sdpa: Callable[[Tensor, Tensor, Tensor], Tensor], query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    return sdpa(query, torch.cat([keys, key], 2), torch.cat([values, value], 2))


def _tiled(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    kwargs: dict[str, Any],
) -> Tensor:
    """SDPA, a long masked chunk in tiles of queries: behind its last key no tile sees anything, so that part is left out.

    A mask hides from the kernel that a chunk is causal; with tiles it saves nearly what a causal kernel would.
    """
    queries, keys = query.shape[2], key.shape[2]
    if _in_causal_tiles(module, query, key, mask, dropout, kwargs):
        return causal_tiles(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling)
    if mask is None or queries < 2 * TILE:
        output: Tensor = sdpa_attention_forward(module, query, key, value, mask, dropout=dropout, scaling=scaling, **kwargs)[0]
        return output
    outputs = []
    for start in range(0, queries, TILE):
        stop = min(start + TILE, queries)
        seen = keys - queries + stop
        outputs.append(
            sdpa_attention_forward(
                module, query[:, :, start:stop], key[:, :, :seen], value[:, :, :seen], mask[:, :, start:stop, :seen],
                dropout=dropout, scaling=scaling, **kwargs,
            )[0]
        )  # fmt: skip
    return torch.cat(outputs, 1)


def _in_causal_tiles(
    module: torch.nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, dropout: float, kwargs: dict[str, Any]
) -> bool:
    """Whether the way back is worth it: other devices have kernels that skip what is not seen, forward passes gain little."""
    whole = mask is None and query.shape[2] == key.shape[2] >= 2 * TILE and getattr(module, "is_causal", True)
    plain = not dropout and not kwargs.get("position_bias") and kwargs.get("is_causal") is None
    return bool(whole and plain and query.device.type == "cpu" and torch.is_grad_enabled() and query.requires_grad)


# Function and mask under one name: without the mask function no mask is built and a continuation is silently wrong.
AttentionInterface.register(ROW_ATTENTION, _row_attention)
AttentionMaskInterface.register(ROW_ATTENTION, sdpa_mask)
