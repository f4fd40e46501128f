"""InstructBLIP's Q-Former: a picture's patches and a question become a few queries, and what each query looked at.

The decoder sees queries, which have no place. Their cross-attention to patches in one layer carries the decoder's attention
on to the picture (mc_llava 9.7, ViCrop section 4.2). Shapes: B question and view pairs, H heads of the Q-Former, V views,
Q queries of a view, P patches of a view, K = P + 1 keys (the class token first), W width of the decoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, InstructBlipForConditionalGeneration
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

CONNECTOR_ATTENTION = "fovea_connector"


@dataclass
class Connector:
    """Asks one cross-attention module for its probabilities; lives for one call and holds them afterwards, in fp32.

    `as_leaf` makes them a leaf of the graph: they are the value after softmax, as in the published code, and nothing before
    them needs a graph.
    """

    module: nn.Module
    as_leaf: bool = False
    weights_BHQK: Tensor | None = None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Output (B, Q, H, D) of attention that sees every key."""
        weights = (query.float() @ key.float().transpose(2, 3) * scale).softmax(-1)
        self.weights_BHQK = weights.detach().requires_grad_() if self.as_leaf else weights
        return (self.weights_BHQK.to(value.dtype) @ value).transpose(1, 2)


@dataclass(frozen=True)
class Queried:
    """`embeds_BQW` for the decoder; `connector_BHQK` the cross-attention that made them, a leaf where asked for."""

    embeds_BQW: Tensor
    connector_BHQK: Tensor


class QueryFormer:
    """The Q-Former of a loaded model, without its weights' gradients. `entry` counts its cross-attention layers from 0.

    Raises:
        ValueError: there is no such entry.
    """

    def __init__(self, model: InstructBlipForConditionalGeneration, entry: int) -> None:
        self.model = model
        layers = [layer for layer in model.qformer.encoder.layer if layer.has_cross_attention]
        if not 0 <= entry < len(layers):
            raise ValueError(f"connector layer {entry}; this Q-Former has cross-attention layers 0..{len(layers) - 1}")
        self.module: nn.Module = layers[entry].crossattention.attention
        model.qformer.set_attn_implementation(CONNECTOR_ATTENTION)

    def ask(self, features_BKD: Tensor, ids: Sequence[Sequence[int]], as_leaf: bool = False) -> Queried:
        """Ask each view's features (class token first) its question, given in ids of the Q-Former's own tokenizer.

        Questions may differ in length; none sees another's, or the padding.
        """
        model, device = self.model, features_BKD.device
        count, longest = model.config.num_query_tokens, max(len(one) for one in ids)
        padded = torch.tensor([[*one, *[0] * (longest - len(one))] for one in ids], device=device)
        real = torch.tensor([[1] * (count + len(one)) + [0] * (longest - len(one)) for one in ids], device=device)
        connector = Connector(self.module, as_leaf)
        hidden = model.qformer(
            input_ids=padded, attention_mask=real, query_embeds=model.query_tokens.expand(len(ids), -1, -1),
            encoder_hidden_states=features_BKD, connector=connector,
        ).last_hidden_state[:, :count]  # fmt: skip
        if connector.weights_BHQK is None:
            raise RuntimeError("the Q-Former ran without its connector; was its attention implementation replaced?")
        embeds = model.language_projection(hidden)
        return Queried(embeds.to(model.get_input_embeddings().weight.dtype), connector.weights_BHQK)


def chained(queries_VQ: Tensor, connector_VQK: Tensor) -> Tensor:
    """Weights (..., V, Q) on queries carried on to patches: (..., V * P), view by view, rows of patches left to right.

    The class token's share is dropped and nothing is renormalised, as published: the patches get at most what the queries
    had.
    """
    return torch.einsum("...vq,vqp->...vp", queries_VQ, connector_VQK[..., 1:]).flatten(-2)


def _connector_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    connector: Connector | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    if connector is not None and connector.module is module:
        return connector.attend(query, key, value, scaling), None
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    return output, None


# Function and mask under one name: without the mask function no mask is built and padding would be seen.
AttentionInterface.register(CONNECTOR_ATTENTION, _connector_attention)
AttentionMaskInterface.register(CONNECTOR_ATTENTION, sdpa_mask)
