"""Writing answers behind prefixes: greedy and sampled, any number of candidates on one uncopied prefix.

The prompt runs once per row; its keys and values then serve all candidates of the row, whose own tails alone grow. One
step has one query per candidate, so the attention row of a step costs no more than the step (engine notes, section 2).
Shapes: B rows, N candidates a row, H query heads, S keys, T visual tokens, L layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ray_pipeline.models.attention_rows import RowRequest, SharedPrefix
from ray_pipeline.models.contract import Sampling
from ray_pipeline.models.prefix import Chunk, Continued, PrefixState, continue_batch
from ray_pipeline.models.segment import Segment

GREEDY = Sampling(count=1, temperature=1.0, top_p=1.0, seed=0, greedy_first=True)
Score = Callable[[Tensor, Tensor], Tensor]  # log-distribution (R, vocabulary), tokens (R,) -> their log-probabilities (R,)


def token_log_probability(log_p: Tensor, tokens: Tensor) -> Tensor:
    """The log-probability of each token itself."""
    return log_p.gather(-1, tokens[:, None])[:, 0]


@dataclass
class Written:
    """Tokens of one answer without the end token, each with its log-probability and the entropy (nats) it was drawn from.

    Both belong to the model's own distribution, whatever the temperature. `rows_LHT` are, per token, the attention rows
    that decided it, over the visual tokens, where layers were asked for. `prompt_rows` are the last prompt position's.
    """

    ids: list[int] = field(default_factory=list)
    log_p: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    end_log_p: float | None = None
    finished: bool = False
    rows_LHT: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """What a batch of rows shall write. Every row brings its prefix, its prompt and its own longest answer.

    `columns` are, per row, the visual tokens' indices within its prefix; with `layers`, rows over them are kept of every
    token written. `bias_P` (one a row) is added to the scores of the prefix's keys. A row ends at any of `end_ids`.
    """

    states: Sequence[PrefixState]
    prompts: Sequence[Segment]
    end_ids: frozenset[int]
    most_tokens: Sequence[int]
    columns: Sequence[Tensor] = ()
    layers: tuple[int, ...] = ()
    bias_P: Sequence[Tensor | None] = ()
    axes: int = 1
    score: Score = token_log_probability


def write(
    decoder: PreTrainedModel,
    head: torch.nn.Module,
    task: Task,
    sampling: Sampling = GREEDY,
    prompt_rows: RowRequest | None = None,
) -> list[list[Written]]:
    """Candidates of every row, (B, N). `decoder` is the language model without its head.

    Rows and candidates do not influence each other. `prompt_rows` also reads rows while the prompt runs.
    """
    wanted = prompt_rows or _last_prompt_rows(task)
    chunks = [Chunk((prompt,)) for prompt in task.prompts]
    bias = _bias(task)
    continued = continue_batch(decoder, task.states, chunks, wanted, task.axes, bias)
    if continued.hidden is None:
        raise RuntimeError("decoding needs the whole decoder; the row request stopped it early")
    last = torch.tensor([length - 1 for length in continued.lengths], device=continued.hidden.device)
    hidden = continued.hidden[torch.arange(len(chunks)), last]
    run = _Run(decoder, head, task, sampling, continued, bias)
    rows = None if not task.layers or wanted is None else {k: wanted.rows_BHRS[k][:, :, -1:] for k in task.layers}
    return run.to_the_end(hidden, rows)


def _last_prompt_rows(task: Task) -> RowRequest | None:
    if not task.layers:
        return None
    ends = torch.tensor([[len(prompt) - 1] for prompt in task.prompts], device=task.prompts[0].embeds_QW.device)
    return RowRequest(task.layers, ends)


def _bias(task: Task) -> Tensor | None:
    """(B, longest prefix), zeros where a row has none; None where no row has any."""
    if not any(bias is not None for bias in task.bias_P):
        return None
    longest = max(state.length for state in task.states)
    like = task.prompts[0].embeds_QW
    joined = torch.zeros(len(task.states), longest, dtype=torch.float32, device=like.device)
    for row, (state, bias) in enumerate(zip(task.states, task.bias_P, strict=True)):
        if bias is not None:
            joined[row, longest - state.length :] = bias
    return joined


class _Run:
    """One batch being written: the shared prefixes, the candidates' tails, and what has been written so far."""

    def __init__(
        self,
        decoder: PreTrainedModel,
        head: torch.nn.Module,
        task: Task,
        sampling: Sampling,
        prompt: Continued,
        bias: Tensor | None,
    ) -> None:
        self.decoder, self.head, self.task, self.sampling = decoder, head, task, sampling
        self.count = sampling.count
        self.prefix = SharedPrefix(prompt.parts(bias), self.count, max(task.most_tokens))
        self.columns = [own + prompt.prefix_pad - state.length for own, state in zip(task.columns, task.states, strict=False)]
        self.positions = torch.tensor(
            [state.position + prompt_.step for state, prompt_ in zip(task.states, task.prompts, strict=True)],
            device=prompt.own_real_BQ.device,
        ).repeat_interleave(self.count)
        self.draws = [_Draw(sampling, k) for _ in task.states for k in range(self.count)]
        self.written = [Written() for _ in self.draws]
        self.most = [most for most in task.most_tokens for _ in range(self.count)]

    def to_the_end(self, hidden: Tensor, rows: dict[int, Tensor] | None) -> list[list[Written]]:
        """Step until every candidate has ended. hidden (B, W) of the last prompt position, rows of it (B, H, 1, S)."""
        log_p = self.head(hidden).float().log_softmax(-1).repeat_interleave(self.count, 0)
        rows = rows and {layer: row.repeat_interleave(self.count, 0) for layer, row in rows.items()}
        for step in range(max(self.most)):
            chosen = self._choose(log_p)
            self._note(log_p, chosen, rows)
            if all(one.finished or len(one.ids) >= most for one, most in zip(self.written, self.most, strict=True)):
                break
            hidden, rows = self._step(chosen, step)
            log_p = self.head(hidden).float().log_softmax(-1)
        return [self.written[k : k + self.count] for k in range(0, len(self.written), self.count)]

    def _choose(self, log_p: Tensor) -> Tensor:
        greedy = log_p.argmax(-1)
        if all(draw.greedy for draw in self.draws):
            return greedy
        p = (log_p.cpu().double() / self.sampling.temperature).softmax(-1)
        drawn = [draw.token(p[k]) if not draw.greedy else int(greedy[k]) for k, draw in enumerate(self.draws)]
        return torch.tensor(drawn, device=log_p.device)

    def _note(self, log_p: Tensor, chosen: Tensor, rows: dict[int, Tensor] | None) -> None:
        scores = self.task.score(log_p, chosen).tolist()
        entropies = -(log_p.exp() * log_p.clamp(min=-1e4)).sum(-1)  # 0 ln 0 = 0
        nats = entropies.tolist()
        kept = self._visual(rows) if rows else None
        for k, (one, token) in enumerate(zip(self.written, chosen.tolist(), strict=True)):
            if one.finished or len(one.ids) >= self.most[k]:
                continue
            if token in self.task.end_ids:
                one.finished, one.end_log_p = True, scores[k]
                continue
            one.ids.append(token)
            one.log_p.append(scores[k])
            one.entropies.append(nats[k])
            if kept is not None:
                one.rows_LHT.append(kept[k])

    def _visual(self, rows: dict[int, Tensor]) -> list[Tensor]:
        """Per candidate (L, H, T), cut to the visual tokens before anything is kept."""
        stacked = torch.stack([rows[layer][:, :, 0] for layer in self.task.layers], 1)
        return [stacked[k][..., self.columns[k // self.count]].float().cpu() for k in range(len(self.written))]

    def _step(self, tokens: Tensor, step: int) -> tuple[Tensor, dict[int, Tensor] | None]:
        count, device = len(tokens), tokens.device
        request = RowRequest(self.task.layers, tokens[:, None]) if self.task.layers else None
        positions = (self.positions + step)[:, None]
        hidden: Tensor = self.decoder(
            inputs_embeds=self.decoder.get_input_embeddings()(tokens)[:, None],
            attention_mask=torch.ones(count, 1, 1, 1, dtype=torch.bool, device=device),
            position_ids=positions if self.task.axes == 1 else positions.expand(self.task.axes, -1, -1),
            use_cache=False,
            shared_prefix=self.prefix,
            row_request=request,
        ).last_hidden_state
        self.prefix.written = step + 1
        return hidden[:, 0], request.rows_BHRS if request else None


class _Draw:
    """Draws one candidate's tokens from the nucleus, with random numbers of its own: nothing but seed, index and model count.

    A token drawn from the whole distribution is kept if it belongs to the nucleus: if the tokens likelier than it hold less
    than `top_p`. That is a draw from the nucleus, renormalised, without sorting the vocabulary.
    """

    TRIES = 64  # each is kept with probability top_p or more

    def __init__(self, sampling: Sampling, index: int) -> None:
        self.greedy = sampling.greedy_first and index == 0
        self.top_p = sampling.top_p
        self.generator = torch.Generator().manual_seed((sampling.seed * 1_000_003 + index) % 2**63)

    def token(self, p: Tensor) -> int:
        """One token of a distribution (vocabulary,) in double precision on the host; the likeliest where luck runs out."""
        total = p.cumsum(0)
        for u in torch.rand(self.TRIES, generator=self.generator, dtype=torch.float64).tolist():
            token = min(int(torch.searchsorted(total, u * float(total[-1]), right=True)), len(p) - 1)
            if self.top_p >= 1 or float(p[p > p[token]].sum()) < self.top_p:
                return token
        return int(p.argmax())
