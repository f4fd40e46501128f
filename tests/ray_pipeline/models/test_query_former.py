"""The Q-Former's queries and their attention, against the library's eager route."""

import pytest
import torch
from transformers import (
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlamaConfig,
)

from ray_pipeline.geometry.footprints import grid_footprints
from ray_pipeline.models.query_former import QueryFormer, chained

QUERIES, QUESTIONS = 5, [[3, 4, 5, 6, 7, 8, 9], [11, 12], [13, 14, 15, 16]]


@pytest.fixture
def model() -> InstructBlipForConditionalGeneration:
    torch.manual_seed(5)
    vision = InstructBlipVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=42, patch_size=14,
        initializer_range=0.2,
    )  # fmt: skip
    qformer = InstructBlipQFormerConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=6, num_attention_heads=2, intermediate_size=32,
        initializer_range=0.5,
    )  # fmt: skip
    text = LlamaConfig(vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    config = InstructBlipConfig(
        vision_config=vision, qformer_config=qformer, text_config=text, num_query_tokens=QUERIES, image_token_index=59
    )
    model = InstructBlipForConditionalGeneration(config).eval().requires_grad_(False)
    torch.nn.init.normal_(model.query_tokens)
    return model


def plain(
    model: InstructBlipForConditionalGeneration, pixels: torch.Tensor, ids: list[int], entry: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reference: the library's eager route for one picture and one question."""
    model.qformer.set_attn_implementation("eager")
    out = model.get_image_features(pixels[None], torch.tensor([ids]), output_attentions=True, return_dict=True)
    return out.pooler_output, out.qformer_outputs.cross_attentions[entry]


@pytest.mark.parametrize("entry", [0, 1, 2])
def test_queries_and_attention_equal_the_plain_route(model: InstructBlipForConditionalGeneration, entry: int) -> None:
    pixels = torch.randn(3, 3, 42, 42)
    with torch.inference_mode():
        expected = [plain(model, one, ids, entry) for one, ids in zip(pixels, QUESTIONS, strict=True)]
        features = model.vision_model(pixels).last_hidden_state
        asked = QueryFormer(model, entry).ask(features, QUESTIONS)
    assert asked.connector_BHQK.shape == (3, 2, QUERIES, 10)
    peaks = [float(rows.max()) for _, rows in expected]
    assert min(peaks) > 0.2, "weights so small that all attention is uniform"
    for k, (embeds, rows) in enumerate(expected):
        torch.testing.assert_close(asked.embeds_BQW[k], embeds[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(asked.connector_BHQK[k], rows[0], atol=1e-5, rtol=0)


def test_the_question_changes_what_is_looked_at(model: InstructBlipForConditionalGeneration) -> None:
    with torch.inference_mode():
        features = model.vision_model(torch.randn(1, 3, 42, 42)).last_hidden_state.repeat(2, 1, 1)
        asked = QueryFormer(model, 2).ask(features, QUESTIONS[:2])
    assert float((asked.connector_BHQK[0] - asked.connector_BHQK[1]).abs().max()) > 0.01


def test_the_leaf_has_the_gradient_of_the_plain_graph(model: InstructBlipForConditionalGeneration) -> None:
    pixels, probe = torch.randn(3, 42, 42), torch.randn(QUERIES, 32)
    embeds, rows = plain(model, pixels.clone().requires_grad_(), QUESTIONS[0], 1)
    expected = torch.autograd.grad((embeds * probe).sum(), rows)[0]
    assert float(expected.abs().max()) > 1e-3
    with torch.inference_mode():
        features = model.vision_model(pixels[None]).last_hidden_state
    asked = QueryFormer(model, 1).ask(features, QUESTIONS[:1], as_leaf=True)
    assert asked.connector_BHQK.is_leaf
    got = torch.autograd.grad((asked.embeds_BQW * probe).sum(), asked.connector_BHQK)[0]
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("entry", [-1, 3])
def test_unknown_connector_layers_are_refused(model: InstructBlipForConditionalGeneration, entry: int) -> None:
    with pytest.raises(ValueError, match=f"connector layer {entry}; this Q-Former has cross-attention layers 0..2"):
        QueryFormer(model, entry)


def test_chain_by_hand() -> None:
    """Two views, two queries each, the class token and two patches; the class token's share is lost, not spread."""
    connector = torch.tensor([[[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0], [0.2, 0.8, 0.0]]])
    heads = torch.tensor([[[0.4, 0.1], [0.2, 0.3]], [[0.0, 0.0], [0.0, 1.0]]])  # (H, V, Q)
    expected = torch.tensor([[0.1, 0.2, 0.24, 0.0], [0.0, 0.0, 0.8, 0.0]])
    torch.testing.assert_close(chained(heads, connector), expected)


@pytest.mark.parametrize(("patch", "expected"), [(1, (0, 0, 40, 30)), (256, (600, 450, 640, 480))])
def test_patches_of_the_worked_example(patch: int, expected: tuple[float, ...]) -> None:
    """A query that looks at one patch alone carries its weight to that patch's footprint (mc_llava 9.7, 640 x 480)."""
    connector = torch.zeros(1, 32, 257)
    connector[0, :, patch] = 1
    weights = chained(torch.full((1, 32), 1 / 32), connector)
    prints = grid_footprints((0, 0, 640, 480), 16, 16, 0)
    assert float(weights.sum()) == pytest.approx(1)
    assert prints.boxes_T4_px[int(weights.argmax())].tolist() == list(expected)
