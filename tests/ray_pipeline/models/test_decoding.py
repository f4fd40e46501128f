"""Candidates on one uncopied prefix, and the one-token gradient, against plain eager models over whole sequences."""

import math
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ray_pipeline.models.answer_gradient import question_gradients, row_gradients
from ray_pipeline.models.attention_rows import ROW_ATTENTION
from ray_pipeline.models.contract import Sampling
from ray_pipeline.models.decoding import Task, _Draw, write
from ray_pipeline.models.prefix import EMPTY, Chunk, PrefixState, continue_batch, extended_states
from ray_pipeline.models.segment import Segment, joined

WIDTH, VOCABULARY, END = 48, 61, 60
LENGTHS = ((11, 4), (17, 9), (5, 7))  # prefix and question of three rows


@pytest.fixture(params=[6, 2], ids=["each head its key", "grouped queries"])
def model(request: pytest.FixtureRequest) -> LlamaForCausalLM:
    torch.manual_seed(4)
    config = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=request.param,
        vocab_size=VOCABULARY, initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def parts() -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(9)
    return [(torch.randn(p, WIDTH), torch.randn(q, WIDTH)) for p, q in LENGTHS]


def prefixes(model: LlamaForCausalLM, tensors: list[torch.Tensor]) -> list[PrefixState]:
    chunks, nothing = [Chunk((Segment(part),)) for part in tensors], [EMPTY] * len(tensors)
    with torch.no_grad():
        return extended_states(nothing, continue_batch(model.model, nothing, chunks), chunks)


def eager(model: LlamaForCausalLM, embeds: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Logits of the last position and full attention matrices of a whole sequence."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(inputs_embeds=embeds[None], output_attentions=True)
    model.set_attn_implementation(ROW_ATTENTION)
    return out.logits[0, -1], out.attentions


def task(model: LlamaForCausalLM, layers: tuple[int, ...] = (), most: int = 7) -> Task:
    rows = parts()
    model.set_attn_implementation(ROW_ATTENTION)
    columns = [torch.tensor([0, 2, len(p) - 1]) for p, _ in rows]
    questions = [Segment(q) for _, q in rows]
    return Task(prefixes(model, [p for p, _ in rows]), questions, frozenset({END}), [most] * 3, columns, layers)


def test_rows_of_sampled_answers_equal_teacher_forced_eager_rows(model: LlamaForCausalLM) -> None:
    asked = task(model, (0, 2))
    with torch.no_grad():
        written = write(model.model, model.lm_head, asked, Sampling(4, 1.5, 0.95, seed=3))
    table, worst, peak = model.get_input_embeddings(), 0.0, 0.0
    for (prefix, question), columns, candidates in zip(parts(), asked.columns, written, strict=True):
        assert len({tuple(one.ids) for one in candidates}) > 1, "all candidates alike would prove little"
        for one in candidates:
            spoken = torch.cat([prefix, question, table(torch.tensor(one.ids, dtype=torch.long)).detach()])
            _, attentions = eager(model, spoken)
            first = len(prefix) + len(question) - 1
            for s, (rows_LHT, log_p) in enumerate(zip(one.rows_LHT, one.log_p, strict=True)):
                expected = torch.stack([attentions[layer][0, :, first + s, columns] for layer in (0, 2)])
                worst, peak = max(worst, float((rows_LHT - expected).abs().max())), max(peak, float(expected.max()))
                upto, _ = eager(model, spoken[: first + s + 1])
                assert log_p == pytest.approx(float(upto.log_softmax(-1)[one.ids[s]]), abs=1e-4)
    assert worst <= 1e-5 and peak > 0.15


def test_candidates_do_not_depend_on_batch_or_number(model: LlamaForCausalLM) -> None:
    asked = task(model)
    with torch.no_grad():
        together = write(model.model, model.lm_head, asked, Sampling(5, 1.2, 0.9, seed=8))
        fewer = write(model.model, model.lm_head, asked, Sampling(2, 1.2, 0.9, seed=8))
        alone = [
            write(model.model, model.lm_head, Task([state], [prompt], asked.end_ids, [7]), Sampling(5, 1.2, 0.9, seed=8))[0]
            for state, prompt in zip(asked.states, asked.prompts, strict=True)
        ]
        greedy = write(model.model, model.lm_head, asked)
    for row in range(3):
        assert [one.ids for one in together[row]] == [one.ids for one in alone[row]]
        assert [one.ids for one in together[row][:2]] == [one.ids for one in fewer[row]]
        assert together[row][0].ids == greedy[row][0].ids


@pytest.mark.parametrize(
    ("top_p", "temperature", "expected"),
    [
        (1.0, 1.0, (0.5, 0.3, 0.2)),
        (0.7, 1.0, (0.625, 0.375, 0.0)),
        (0.5, 1.0, (1.0, 0.0, 0.0)),
        (1.0, 0.5, (0.6579, 0.2368, 0.1053)),
    ],
)
def test_draws_follow_the_nucleus(top_p: float, temperature: float, expected: tuple[float, ...]) -> None:
    p = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64) ** (1 / temperature)  # sorted: tokens 1, 0, 2
    draw = _Draw(Sampling(1, temperature, top_p, seed=1, greedy_first=False), 0)
    drawn = [draw.token(p / p.sum()) for _ in range(4000)]
    for token, share in zip((1, 0, 2), expected, strict=True):
        assert drawn.count(token) / 4000 == pytest.approx(share, abs=0.03)
        assert share or token not in drawn


def grad_att_by_full_matrix(
    model: LlamaForCausalLM, embeds: torch.Tensor, layer: int, token: int | None
) -> tuple[torch.Tensor, int]:
    """The published route: the whole matrix of the layer with gradient, its last row. (H, S)."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask
    from transformers.models.llama.modeling_llama import eager_attention_forward, repeat_kv

    kept: list[torch.Tensor] = []

    def noted(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float,
        dropout: float = 0.0, **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        if module.layer_idx != layer:
            return eager_attention_forward(module, query, key, value, mask, scaling, dropout, **kwargs)
        groups = module.num_key_value_groups
        scores = query @ repeat_kv(key, groups).transpose(2, 3) * scaling + mask[..., : key.shape[2]]
        weights = scores.softmax(-1).detach().requires_grad_()
        kept.append(weights)
        return (weights @ repeat_kv(value, groups)).transpose(1, 2), weights

    AttentionInterface.register("full_matrix", noted)
    AttentionMaskInterface.register("full_matrix", eager_mask)
    model.set_attn_implementation("full_matrix")
    with torch.enable_grad():
        logits = model(inputs_embeds=embeds[None], use_cache=False).logits[0, -1]
        chosen = int(logits.argmax()) if token is None else token
        (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[chosen], kept[0])
    model.set_attn_implementation(ROW_ATTENTION)
    return (kept[0].detach() * gradient.clamp(min=0))[0, :, -1], chosen


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("token", [None, 17])
def test_one_token_gradient_equals_the_full_matrix(model: LlamaForCausalLM, layer: int, token: int | None) -> None:
    rows = parts()
    expected = [grad_att_by_full_matrix(model, torch.cat(row), layer, token) for row in rows]
    model.set_attn_implementation(ROW_ATTENTION)
    states, prompts = prefixes(model, [p for p, _ in rows]), [Segment(q) for _, q in rows]
    before = [state.layer(0)[0].clone() for state in states]
    got = row_gradients(model.model, model.lm_head, states, prompts, layer, [token] * 3)
    for k, ((prefix, _), (want, chosen)) in enumerate(zip(rows, expected, strict=True)):
        own = got.weighted_BHS[k, :, got.prefix_ends[k] - len(prefix) : got.prefix_ends[k]]
        peak = float(want.max())
        assert peak > 1e-3 and got.tokens[k] == chosen
        assert float((own - want[:, : len(prefix)]).abs().max()) <= 1e-4 * peak
        assert token is not None or got.margins[k] >= 0
    assert all(bool((state.layer(0)[0] == old).all()) for state, old in zip(states, before, strict=True))
    assert not states[0].layer(0)[0].requires_grad


def test_questions_behind_one_picture_in_one_pass_have_the_gradients_of_two_passes(model: LlamaForCausalLM) -> None:
    (picture, first), (_, second), _ = parts()
    model.set_attn_implementation(ROW_ATTENTION)
    leaf = picture.clone().requires_grad_()
    got, tokens = question_gradients(model.model, model.lm_head, Segment(leaf * 2), [Segment(first), Segment(second)], [leaf])
    for question, (gradient,), token in zip((first, second), got, tokens, strict=True):
        alone = picture.clone().requires_grad_()
        logits = model(inputs_embeds=torch.cat([alone * 2, question])[None], use_cache=False).logits[0, -1]
        assert int(logits.argmax()) == token
        (expected,) = torch.autograd.grad(logits.log_softmax(-1)[token], alone)
        assert float((gradient - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("factor", [1.0, 1.8])
def test_a_bias_multiplies_attention_and_renormalises(model: LlamaForCausalLM, factor: float) -> None:
    asked = task(model, (0,), most=2)
    bias = torch.zeros(LENGTHS[1][0])
    bias[2] = math.log(factor)
    boosted = Task(**{**asked.__dict__, "bias_P": [None, bias, None]})
    with torch.no_grad():
        plain = write(model.model, model.lm_head, asked)
        more = write(model.model, model.lm_head, boosted)
    before, after = plain[1][0].rows_LHT[0], more[1][0].rows_LHT[0]
    expected = before[0, :, 1] * factor / (1 + (factor - 1) * before[0, :, 1])
    # the first layer's queries are the same either way, so its rows follow the formula exactly
    torch.testing.assert_close(after[0, :, 1], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(plain[0][0].rows_LHT[0], more[0][0].rows_LHT[0], atol=1e-6, rtol=0)


def test_segments_join_with_their_own_positions() -> None:
    text, picture = Segment(torch.zeros(3, 4)), Segment(torch.ones(5, 4), torch.arange(5).expand(3, -1) // 2, advance=4)
    both = joined([text, picture, text])
    assert both.positions(10, 3)[0].tolist() == [10, 11, 12, 13, 13, 14, 14, 15, 17, 18, 19] and both.step == 10
    assert joined([text, text]).positions_AQ is None
    with pytest.raises(ValueError, match="positions for 2 of 3 tokens"):
        Segment(torch.zeros(3, 4), torch.zeros(1, 2))
