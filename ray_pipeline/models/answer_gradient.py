"""Gradients of the first answer token's log-probability: for one attention row (grad-att), for the picture (pure-grad).

The published code differentiates for the whole matrix at a layer and uses one row of it. That row enters the model only
through the attention output of the last position, which no other position sees: so the gradient runs along the last
token's own residual stream, one decoding step and its backward above the layer (engine notes, section 2).
Shapes: B rows, H query heads, S keys, Q questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ray_pipeline.models.attention_rows import RowGradient
from ray_pipeline.models.lean_gate import lean_gates
from ray_pipeline.models.prefix import EMPTY, Chunk, PrefixState, continue_batch, extended_states, up_to
from ray_pipeline.models.segment import Segment


@dataclass(frozen=True)
class RowGradients:
    """rows_BHS x max(gradient, 0), the tokens differentiated and how far their logits lead.

    `prefix_ends` say, row by row, where in S the keys of its prefix end and those of its prompt begin.
    """

    weighted_BHS: Tensor
    tokens: list[int]
    margins: list[float]
    prefix_ends: list[int]


def row_gradients(
    decoder: PreTrainedModel,
    head: torch.nn.Module,
    states: Sequence[PrefixState],
    prompts: Sequence[Segment],
    layer: int,
    tokens: Sequence[int | None],
    axes: int = 1,
) -> RowGradients:
    """The last prompt position's row at `layer` times the positive part of its gradient, for many rows in one call.

    Raises:
        ValueError: a prompt of fewer than two tokens.
    """
    if min(len(prompt) for prompt in prompts) < 2:
        raise ValueError("a prompt of one token, expected at least two: the last one is differentiated alone")
    with torch.no_grad():
        chunks = [Chunk((_without_last(prompt),)) for prompt in prompts]
        behind = extended_states(states, continue_batch(decoder, states, chunks, axes=axes), chunks)
    ends = [Chunk((_last_only(prompt),)) for prompt in prompts]
    row = RowGradient(layer)
    with torch.enable_grad():
        continued = continue_batch(decoder, behind, ends, axes=axes, gradient=row)
        if continued.hidden is None or row.leaf_BHS is None:
            raise RuntimeError(f"layer {layer} was not reached")
        logits = head(continued.hidden[:, -1]).float()
        chosen, margins = answer_tokens(logits, tokens)
        scalar = logits.log_softmax(-1).gather(-1, chosen[:, None]).sum()
        (gradient,) = torch.autograd.grad(scalar, row.leaf_BHS)
    weighted = row.leaf_BHS.detach() * gradient.clamp(min=0)
    prefix_ends = [continued.prefix_pad - chunk.length for chunk in chunks]
    return RowGradients(weighted, chosen.tolist(), margins, prefix_ends)


def answer_tokens(logits_BV: Tensor, forced: Sequence[int | None]) -> tuple[Tensor, list[float]]:
    """The tokens whose log-probability is differentiated, the likeliest where none is forced, and their logits' lead."""
    best = logits_BV.detach().topk(2, -1)
    chosen = [int(own) if token is None else token for own, token in zip(best.indices[:, 0], forced, strict=True)]
    margins = []
    for k, token in enumerate(chosen):
        rival = best.values[k, 1] if token == int(best.indices[k, 0]) else best.values[k, 0]
        margins.append(float(logits_BV.detach()[k, token] - rival))
    return torch.tensor(chosen, device=logits_BV.device), margins


def question_gradients(
    decoder: PreTrainedModel,
    head: torch.nn.Module,
    picture: Segment,
    questions: Sequence[Segment],
    leaves: Sequence[Tensor],
    axes: int = 1,
) -> tuple[list[list[Tensor]], list[int]]:
    """Per question the gradients for all `leaves` that `picture` was computed from, and the token differentiated.

    The picture runs once, with its graph, up to the last layer's keys and values: nobody reads what comes after them. The
    questions follow one after the other, each with its backward pass: packed, every pass would run through all of them.
    """
    shown = [Chunk((picture,))]
    with lean_gates(decoder):
        (state,) = extended_states([EMPTY], continue_batch(decoder, [EMPTY], shown, up_to(decoder, 1), axes), shown)
        gradients, tokens = [], []
        for k, question in enumerate(questions):
            scalar, token = _likeliest(decoder, head, state, question, axes)
            gradients.append(list(torch.autograd.grad(scalar, list(leaves), retain_graph=k + 1 < len(questions))))
            tokens.append(token)
            del scalar  # and with it the question's own graph, before the next one grows
    return gradients, tokens


def _likeliest(
    decoder: PreTrainedModel, head: torch.nn.Module, state: PrefixState, question: Segment, axes: int
) -> tuple[Tensor, int]:
    """Log-probability of the likeliest first answer token behind a prefix, and the token."""
    hidden = continue_batch(decoder, [state], [Chunk((question,))], axes=axes).hidden
    if hidden is None:
        raise RuntimeError("no row was asked for, and yet the decoder stopped early")
    logits = head(hidden[:, -1]).float()
    (token,), _ = answer_tokens(logits, [None])
    return logits.log_softmax(-1)[0, token], int(token)


def _without_last(prompt: Segment) -> Segment:
    """All but the last token; the next position is the last token's own."""
    positions = prompt.positions(0, 1 if prompt.positions_AQ is None else len(prompt.positions_AQ))
    return Segment(prompt.embeds_QW[:-1].detach(), positions[:, :-1], int(positions[0, -1]))


def _last_only(prompt: Segment) -> Segment:
    return Segment(prompt.embeds_QW[-1:].detach())
