"""Causal attention in tiles against the library's kernel, forwards and backwards, and when a decoder's call takes it."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

from ray_pipeline.models import attention_rows
from ray_pipeline.models.answer_gradient import question_gradients
from ray_pipeline.models.attention_rows import ROW_ATTENTION
from ray_pipeline.models.causal_tiles import TILE, CausalTiles, causal_tiles
from ray_pipeline.models.segment import Segment

HEADS = [(1, 1), (2, 2), (6, 2), (5, 1), (8, 8), (12, 2)]  # query heads, key heads
LENGTHS = [1, TILE - 1, TILE, TILE + 1, 3 * TILE + 7]
WORST = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}


def drawn(batch: int, heads: int, groups: int, length: int, width: int, dtype: torch.dtype) -> list[Tensor]:
    """Query, key, value as a decoder makes them (views of (B, T, H D)), and a gradient for the output (B, T, H, D)."""
    made = torch.Generator().manual_seed(length + 100 * heads)
    shapes = [(batch, length, count, width) for count in (heads, groups, groups, heads)]
    query, key, value, inward = (torch.randn(shape, generator=made, dtype=torch.float64).to(dtype) for shape in shapes)
    return [one.transpose(1, 2).requires_grad_() for one in (2 * query, key, value)] + [inward]


def by_library(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """The same in float64, keys repeated."""
    share = query.shape[1] // key.shape[1]
    wide = [one.double() for one in (query, key.repeat_interleave(share, 1), value.repeat_interleave(share, 1))]
    return scaled_dot_product_attention(*wide, is_causal=True, scale=scale).transpose(1, 2)


def worst(got: Tensor, expected: Tensor) -> float:
    """Largest error, as a share of the largest value."""
    return float((got.detach().double() - expected.detach()).abs().max() / expected.detach().abs().max())


@pytest.mark.parametrize("heads, groups", HEADS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_output_and_gradients_are_the_library_s(heads: int, groups: int, length: int, dtype: torch.dtype) -> None:
    *inputs, inward = drawn(2, heads, groups, length, 8, dtype)
    got = causal_tiles(*inputs, 0.3)
    expected = by_library(*inputs, 0.3)
    assert got.shape == (2, length, heads, 8) and got.dtype == dtype and got.is_contiguous()
    assert worst(got, expected) <= WORST[dtype]
    found = torch.autograd.grad(got, inputs, inward)
    for one, want, leaf in zip(found, torch.autograd.grad(expected, inputs, inward.double()), inputs, strict=True):
        assert one.dtype == dtype and one.shape == leaf.shape
        if length > 1 or leaf is inputs[2]:  # a single key has weight 1 whatever is asked
            assert worst(one, want.double()) <= WORST[dtype]
        else:
            assert float(one.abs().max()) <= WORST[dtype]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_summed_in_fp32(dtype: torch.dtype) -> None:
    *inputs, inward = drawn(1, 4, 2, 2 * TILE + 3, 16, dtype)
    got, expected = causal_tiles(*inputs, 0.25), by_library(*inputs, 0.25)
    assert got.dtype == dtype and worst(got, expected) <= WORST[dtype]
    assert worst(got, expected) <= 1.01 * worst(expected.to(dtype), expected) + 1e-6, "no more than the output's own rounding"
    found = torch.autograd.grad(got, inputs, inward)
    for one, want in zip(found, torch.autograd.grad(expected, inputs, inward.double()), strict=True):
        assert one.dtype == dtype and worst(one, want.double()) <= WORST[dtype]


@pytest.mark.parametrize("heads, groups", [(2, 1), (2, 2)])
def test_numerical_derivatives(heads: int, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_pipeline.models.causal_tiles.TILE", 3)
    *inputs, _ = drawn(1, heads, groups, 8, 2, torch.float64)
    assert torch.autograd.gradcheck(lambda *three: CausalTiles.apply(*three, 0.5), inputs)


def test_as_many_backward_passes_as_the_graph_is_kept_for() -> None:
    *inputs, inward = drawn(1, 4, 2, TILE + 9, 8, torch.float32)
    output = causal_tiles(*inputs, 0.3)
    passes = [torch.autograd.grad(output, inputs, inward, retain_graph=k < 2) for k in range(3)]
    for first, *others in zip(*passes, strict=True):
        assert all(torch.equal(first, other) for other in others)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(output, inputs, inward)


def test_the_output_is_not_kept() -> None:
    kept: list[tuple[int, ...]] = []
    *inputs, _ = drawn(1, 4, 2, TILE + 9, 8, torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(tuple(one.shape)) or one, lambda one: one):
        causal_tiles(*inputs, 0.3)
    assert kept == [tuple(one.shape) for one in inputs]


@pytest.mark.parametrize("heads, groups, keys", [(4, 4, 9), (5, 2, 8)])
def test_refuses_a_prefix_and_heads_that_cannot_be_shared_out(heads: int, groups: int, keys: int) -> None:
    with pytest.raises(ValueError, match="expected equal lengths and groups of heads"):
        causal_tiles(torch.zeros(1, heads, 8, 2), torch.zeros(1, groups, keys, 2), torch.zeros(1, groups, keys, 2), 1.0)


LONG = 2 * attention_rows.TILE


@pytest.mark.parametrize(
    "length, grad, masked, tiled",
    [
        (LONG, True, False, True),
        (LONG + 5, True, False, True),
        (LONG - 1, True, False, False),
        (LONG, False, False, False),
        (LONG, True, True, False),
    ],
)
def test_a_decoder_s_call_takes_tiles_where_they_pay(
    length: int, grad: bool, masked: bool, tiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []
    monkeypatch.setattr(attention_rows, "causal_tiles", lambda *given: calls.append(given[3]) or causal_tiles(*given))
    *inputs, _ = drawn(1, 2, 1, length, 4, torch.float32)
    mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None] if masked else None
    module = SimpleNamespace(layer_idx=0, num_key_value_groups=2, is_causal=True)
    attend = AttentionInterface()[ROW_ATTENTION]
    with torch.set_grad_enabled(grad):
        output, _ = attend(module, *inputs, mask, scaling=0.7)
    assert calls == ([0.7] if tiled else [])
    assert worst(output, by_library(*inputs, 0.7)) <= 1e-5


def test_gradients_of_a_long_picture_are_the_whole_model_s() -> None:
    """Through tiles, lean gates and questions one after the other, against the library's eager model on each whole prompt."""
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=90, hidden_size=64, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=1024, initializer_range=0.2, attn_implementation=ROW_ATTENTION,
    )  # fmt: skip
    whole = LlamaForCausalLM(config).eval().requires_grad_(False)
    picture = torch.randn(577, 64, requires_grad=True)
    questions = [torch.randn(length, 64) for length in (19, 11)]
    asked = [Segment(question) for question in questions]
    gradients, chosen = question_gradients(whole.model, whole.lm_head, Segment(picture), asked, [picture])
    whole.set_attn_implementation("eager")
    for question, (gradient,), token in zip(questions, gradients, chosen, strict=True):
        leaf = picture.detach().requires_grad_()
        logits = whole(inputs_embeds=torch.cat([leaf, question])[None]).logits[0, -1]
        assert int(logits.argmax()) == token
        (wanted,) = torch.autograd.grad(logits.log_softmax(-1)[token], leaf)
        assert (gradient - wanted).abs().max() < 1e-5 * wanted.abs().max()
