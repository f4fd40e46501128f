"""The fast route against plain eager attention over the whole sequence, written out independently."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PhiConfig, PhiForCausalLM

from ray_pipeline.models.attention_rows import ROW_ATTENTION, RowRequest
from ray_pipeline.models.decoding import Task, write
from ray_pipeline.models.prefix import EMPTY, Chunk, PrefixState, continue_batch, extended_states
from ray_pipeline.models.segment import Segment

WIDTH = 48
LENGTHS = ((11, 4, 6), (17, 9, 3), (5, 7, 7))  # prefix, question, generic of three rows


def llama() -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
        vocab_size=61, initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def phi() -> PhiForCausalLM:
    config = PhiConfig(
        hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, vocab_size=61,
        initializer_range=0.2,
    )  # fmt: skip
    return PhiForCausalLM(config).eval()


@pytest.fixture(params=[llama, phi])
def decoder(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(3)
    return request.param()


def rows_of(decoder: torch.nn.Module, embeds: torch.Tensor, layer: int) -> torch.Tensor:
    """Reference: the last position's attention in one layer, from full eager matrices. (H, S)."""
    decoder.set_attn_implementation("eager")
    with torch.no_grad():
        out = decoder(inputs_embeds=embeds[None], output_attentions=True)
    return out.attentions[layer][0, :, -1]


def prefixes(decoder: torch.nn.Module, parts: list[torch.Tensor]) -> list[PrefixState]:
    """States of the rows' shared prefixes, computed in one call."""
    chunks, nothing = [Chunk((Segment(part),)) for part in parts], [EMPTY] * len(parts)
    return extended_states(nothing, continue_batch(decoder.model, nothing, chunks), chunks)


def texts(seed: int) -> list[list[torch.Tensor]]:
    torch.manual_seed(seed)
    return [[torch.randn(n, WIDTH) for n in lengths] for lengths in LENGTHS]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_packed_rows_behind_shared_prefixes_equal_eager(decoder: torch.nn.Module, layer: int) -> None:
    rows = texts(1)
    expected = [[rows_of(decoder, torch.cat([p, s]), layer) for s in (q, g)] for p, q, g in rows]
    assert max(float(e.max()) for pair in expected for e in pair) > 0.15, "weights so small that all attention is uniform"
    decoder.set_attn_implementation(ROW_ATTENTION)
    with torch.inference_mode():
        states = prefixes(decoder, [p for p, _, _ in rows])
        chunks = [Chunk((Segment(q), Segment(g))) for _, q, g in rows]
        request = RowRequest((layer,), torch.tensor([chunk.last_indices for chunk in chunks]), stop_after_rows=True)
        continue_batch(decoder.model, states, chunks, request)
    got = request.rows_BHRS[layer]
    longest = max(len(p) for p, _, _ in rows)
    for k, (p, q, g) in enumerate(rows):
        prefix = slice(longest - len(p), longest)
        own = {0: slice(longest, longest + len(q)), 1: slice(longest + len(q), longest + len(q) + len(g))}
        for r in (0, 1):
            joined = torch.cat([got[k, :, r, prefix], got[k, :, r, own[r]]], -1)
            torch.testing.assert_close(joined, expected[k][r], atol=1e-5, rtol=0)
            torch.testing.assert_close(got[k, :, r].sum(-1), torch.ones(got.shape[1]), atol=1e-5, rtol=0)


def test_states_are_not_changed_by_continuations(decoder: torch.nn.Module) -> None:
    decoder.set_attn_implementation(ROW_ATTENTION)
    (p, q, g), *_ = texts(2)
    with torch.inference_mode():
        (state,) = prefixes(decoder, [p])
        before = [state.layer(k)[0].clone() for k in range(state.depth)]
        once = continue_batch(decoder.model, [state], [Chunk((Segment(q),))]).hidden
        continue_batch(decoder.model, [state], [Chunk((Segment(g),))], RowRequest((0,), torch.tensor([[len(g) - 1]]), True))
        again = continue_batch(decoder.model, [state], [Chunk((Segment(q),))]).hidden
    torch.testing.assert_close(once, again, atol=0, rtol=0)
    assert all(torch.equal(a, b) for a, b in zip(before, (state.layer(k)[0] for k in range(state.depth)), strict=True))


def test_batched_decoding_equals_plain_generation_row_by_row(decoder: torch.nn.Module) -> None:
    rows = texts(4)
    plain = []
    decoder.set_attn_implementation("eager")
    for p, q, _ in rows:  # reference: the whole sequence again for every token
        embeds = torch.cat([p, q])
        ids = []
        for _ in range(8):
            with torch.no_grad():
                token = int(decoder(inputs_embeds=embeds[None]).logits[0, -1].argmax())
            ids.append(token)
            embeds = torch.cat([embeds, decoder.get_input_embeddings()(torch.tensor([token]))]).detach()
        plain.append(ids)
    decoder.set_attn_implementation(ROW_ATTENTION)
    with torch.inference_mode():
        end = 60
        task = Task(prefixes(decoder, [p for p, _, _ in rows]), [Segment(q) for _, q, _ in rows], frozenset({end}), [8, 5, 8])
        written = write(decoder.model, decoder.lm_head, task)
    for (answer,), ids, most in zip(written, plain, (8, 5, 8), strict=True):
        expected = ids[:most]
        assert answer.ids == (expected[: expected.index(end)] if end in expected else expected)
