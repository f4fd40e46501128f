"""Greedy decoding of many rows behind their prefixes, with every token's log-probability."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ray_pipeline.models.attention_rows import RowRequest
from ray_pipeline.models.prefix import Chunk, Continued, PrefixState, continue_batch


@dataclass
class Written:
    """Tokens of one answer without the end token; log-probabilities (tokens,); log-distribution of each step."""

    ids: list[int] = field(default_factory=list)
    log_p: list[Tensor] = field(default_factory=list)  # one (vocabulary,) each, of the step that wrote the token
    end_log_p: float | None = None
    finished: bool = False


def decode_greedily(
    model: PreTrainedModel,
    states: Sequence[PrefixState],
    prompts: Sequence[Tensor],
    end_id: int,
    most_tokens: Sequence[int],
    request: RowRequest | None = None,
) -> list[Written]:
    """Answer each row's prompt (Q, W) behind its prefix. `model` has `.model` (decoder) and `.lm_head`.

    A row stops at `end_id` or after its own `most_tokens`; the others go on. Rows do not influence each other.
    """
    written = [Written() for _ in states]
    chunks = [Chunk((prompt,)) for prompt in prompts]
    continued = continue_batch(model.model, states, chunks, request)
    if continued.hidden is None:
        raise RuntimeError("decoding needs the whole decoder; the row request stopped it early")
    last = torch.tensor([length - 1 for length in continued.lengths], device=continued.hidden.device)
    hidden = continued.hidden[torch.arange(len(written)), last]
    positions = [state.position + length for state, length in zip(states, continued.lengths, strict=True)]
    for step in range(max(most_tokens)):
        log_p = model.lm_head(hidden).float().log_softmax(-1)
        chosen = log_p.argmax(-1)
        _note(written, log_p, chosen.tolist(), end_id, most_tokens)
        if all(row.finished or len(row.ids) >= most for row, most in zip(written, most_tokens, strict=True)):
            break
        hidden = _step(model, continued, chosen, [position + step for position in positions])
    return written


def _note(written: list[Written], log_p: Tensor, chosen: list[int], end_id: int, most: Sequence[int]) -> None:
    for row, (answer, token) in enumerate(zip(written, chosen, strict=True)):
        if answer.finished or len(answer.ids) >= most[row]:
            continue
        if token == end_id:
            answer.finished, answer.end_log_p = True, float(log_p[row, token])
        else:
            answer.ids.append(token)
            answer.log_p.append(log_p[row])


def _step(model: PreTrainedModel, continued: Continued, tokens: Tensor, positions: list[int]) -> Tensor:
    batch = len(positions)
    device = tokens.device
    real = torch.ones(batch, 1, dtype=torch.bool, device=device)
    continued.key_real = torch.cat([continued.key_real, real], 1)
    hidden: Tensor = model.model(
        inputs_embeds=model.get_input_embeddings()(tokens)[:, None],
        attention_mask=continued.key_real[:, None, None],
        position_ids=torch.tensor(positions, device=device)[:, None],
        past_key_values=continued.cache,
        use_cache=True,
    ).last_hidden_state
    return hidden[:, 0]
