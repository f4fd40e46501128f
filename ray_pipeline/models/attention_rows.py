"""Attention probabilities of chosen query positions in chosen layers, while the fast kernel computes the output.

One row a[h, t, :] = softmax(q_t K^T * scale + mask_t) needs the query of position t and all keys, so O(S) work a head;
the layer's output still comes from SDPA (engine notes, section 2). Shapes: B batch, H query heads, R rows asked for,
S keys, D head width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

ROW_ATTENTION = "fovea_rows"


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

    def take(self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        """Compute and keep the rows of one layer; called from inside its attention.

        Raises:
            LayersDone: these were the last ones and the call shall stop here.
        """
        self.rows_BHRS[layer] = attention_rows(query, key, mask, scaling, self.positions_BR)
        if self.stop_after_rows and layer >= max(self.layers):
            raise LayersDone


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
    **kwargs: Any,
) -> tuple[Tensor, None]:
    layer = getattr(module, "layer_idx", None)
    if row_request is not None and layer is not None and layer in row_request.layers:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        row_request.take(int(layer), query, key, attention_mask, scale)
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    return output, None


# Function and mask under one name: without the mask function no mask is built and a continuation is silently wrong.
AttentionInterface.register(ROW_ATTENTION, _row_attention)
AttentionMaskInterface.register(ROW_ATTENTION, sdpa_mask)
