"""InstructBLIP against the library's own processor, generation and full graphs, on a tiny folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, InstructBlipConfig, InstructBlipForConditionalGeneration, InstructBlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from ray_pipeline.models.contract import (
    Encode,
    Generate,
    ReadAttention,
    ReadGradient,
    ReadPixelGradient,
    Sample,
    Sampling,
)
from ray_pipeline.models.instructblip import InstructBlip, focus_profile, put_around
from ray_pipeline.models.weights import ModelRefused
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture
from tests.stand_ins.family_facts import shown
from tests.stand_ins.made_pictures import noise
from tests.stand_ins.tiny_models import TINY

QUESTION, GENERIC = "What is the tiny cup made of?", "Write a general description of the image."
CROP: Box = (31.0, 12.0, 120.0, 87.0)
LAYER, CONNECTOR, QUERIES, PATCHES = 1, 2, 8, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY["instructblip"](tmp_path_factory.mktemp("instructblip"), 1)


@pytest.fixture(scope="module")
def family(folder: Path) -> InstructBlip:
    return loaded(folder)


@pytest.fixture(scope="module")
def plain(folder: Path) -> InstructBlipForConditionalGeneration:
    model = InstructBlipForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
    return model.eval().requires_grad_(False)


def loaded(folder: Path, prompt: PromptSettings = PromptSettings()) -> InstructBlip:
    return InstructBlip.load(folder, ModelSettings(name=str(folder), device="cpu"), ViewSettings(), prompt)


def inputs(folder: Path, pixels_YX3: np.ndarray, question: str) -> dict[str, Any]:
    """What the published processor makes of a picture and a question."""
    processor = InstructBlipProcessor(
        BlipImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder / "qformer_tokenizer"), num_query_tokens=QUERIES,
    )  # fmt: skip
    text = f"Question: {question} Short answer:"
    return dict(processor(pixels_YX3, text, return_tensors="pt", input_data_format="channels_last"))


class Whole:
    """One question through the whole eager model with its graph: rows S (H, V * 8), T (V, H, 8, 17), logits (vocabulary,)."""

    def __init__(self, plain: InstructBlipForConditionalGeneration, asked: list[dict[str, Any]], layer: int = LAYER) -> None:
        self.pixels = [one["pixel_values"].clone().requires_grad_() for one in asked]
        ids, mask = asked[0]["qformer_input_ids"], asked[0]["qformer_attention_mask"]
        seen = [plain.get_image_features(pixels, ids, mask, output_attentions=True, return_dict=True) for pixels in self.pixels]
        self.connector = [one.qformer_outputs.cross_attentions[CONNECTOR] for one in seen]
        text = plain.get_input_embeddings()(asked[0]["input_ids"][:, QUERIES:])
        self.embeds = torch.cat([*(one.pooler_output for one in seen), text], 1)
        out = plain.language_model(inputs_embeds=self.embeds, output_attentions=True)
        self.matrix, self.logits = out.attentions[layer], out.logits[0, -1]
        self.columns = QUERIES * len(asked)

    @property
    def weights(self) -> torch.Tensor:
        """mean over heads of S times mean over heads of T without the class column, (V * 16,)."""
        row = self.matrix[0, :, -1, : self.columns].mean(0).unflatten(0, (-1, QUERIES))
        return torch.cat([own @ one[0].mean(0)[:, 1:] for own, one in zip(row, self.connector, strict=True)])

    def gradient_weights(self, token: int | None = None) -> torch.Tensor:
        """The published grad-att map of both factors' gradients in one graph, (V * 16,)."""
        log_p = self.logits.log_softmax(-1)
        scalar = log_p[int(log_p.argmax()) if token is None else token]
        by_matrix, *by_connector = torch.autograd.grad(scalar, [self.matrix, *self.connector])
        row = (self.matrix * by_matrix.clamp(min=0))[0, :, -1, : self.columns].mean(0).unflatten(0, (-1, QUERIES))
        parts = [(one * own.clamp(min=0))[0].mean(0)[:, 1:] for one, own in zip(self.connector, by_connector, strict=True)]
        return torch.cat([own @ part for own, part in zip(row, parts, strict=True)])


def both(folder: Path, one: Picture) -> list[dict[str, Any]]:
    x0, y0, x1, y1 = (int(edge) for edge in CROP)
    return [inputs(folder, one.pixels_YX3, QUESTION), inputs(folder, one.pixels_YX3[y0:y1, x0:x1], QUESTION)]


@pytest.mark.parametrize("size", [(150, 97), (56, 56), (40, 130)])
def test_greedy_answers_equal_plain_generation(
    folder: Path, family: InstructBlip, plain: InstructBlipForConditionalGeneration, size: tuple[int, int]
) -> None:
    one = noise(*size, seed=size[0])
    asked = inputs(folder, one.pixels_YX3, QUESTION)
    assert family.question_ids(QUESTION) == asked["input_ids"][0, QUERIES:].tolist()
    assert family.reader_ids(QUESTION) == asked["qformer_input_ids"][0].tolist()
    expected = plain.generate(**asked, max_new_tokens=9, do_sample=False)[0, asked["input_ids"].shape[1] :].tolist()
    (answer,) = family.generate([Generate(shown(family, one), QUESTION, 9)])
    assert list(answer.ids) == [token for token in expected if token not in family.end_ids] and answer.ids


def test_an_answer_with_a_zoomed_crop_equals_both_pictures_before_the_text(
    folder: Path, family: InstructBlip, plain: InstructBlipForConditionalGeneration
) -> None:
    one = noise(150, 97, 5)
    whole = Whole(plain, both(folder, one))
    expected = plain.language_model.generate(
        inputs_embeds=whole.embeds.detach(), attention_mask=torch.ones(whole.embeds.shape[:2]), max_new_tokens=9, do_sample=False
    )  # fmt: skip
    zoomed = shown(family, one, CROP)
    assert zoomed.count == 2 * PATCHES and zoomed.footprints.view_T.tolist() == [0] * PATCHES + [1] * PATCHES
    (answer,) = family.generate([Generate(zoomed, QUESTION, 9)])
    assert list(answer.ids) == [token for token in expected[0].tolist() if token not in family.end_ids] and answer.ids


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_chained_attention_equals_the_eager_matrices(
    folder: Path, family: InstructBlip, plain: InstructBlipForConditionalGeneration, layer: int
) -> None:
    one = noise(150, 97, 6)
    (reply,) = family.read_attention([ReadAttention(shown(family, one), (QUESTION, GENERIC), layer)])
    assert reply.weights_QHT.shape == (2, 4, PATCHES)
    for k, question in enumerate((QUESTION, GENERIC)):
        expected = Whole(plain, [inputs(folder, one.pixels_YX3, question)], layer).weights
        torch.testing.assert_close(reply.weights_QHT[k].mean(0), expected.detach(), atol=1e-6, rtol=1e-4)
    assert float((reply.weights_QHT[0] / reply.weights_QHT[1]).log().abs().max()) > 0.1, "the question changes nothing"


def test_chained_attention_of_two_views(folder: Path, family: InstructBlip, plain: InstructBlipForConditionalGeneration) -> None:
    one = noise(150, 97, 7)
    (answer,) = family.generate([Generate(shown(family, one, CROP), QUESTION, 2, layer=LAYER)])
    assert answer.attention_HT is not None
    torch.testing.assert_close(
        answer.attention_HT.mean(0), Whole(plain, both(folder, one)).weights.detach(), atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("zoomed", [False, True])
def test_gradient_attention_equals_one_graph(
    folder: Path, family: InstructBlip, plain: InstructBlipForConditionalGeneration, zoomed: bool
) -> None:
    one = noise(150, 97, 8)
    whole = Whole(plain, both(folder, one)[: 2 if zoomed else 1])
    (reply,) = family.read_gradient([ReadGradient(shown(family, one, CROP if zoomed else None), QUESTION, LAYER)])
    expected = whole.gradient_weights()
    assert int((expected > 1e-3 * expected.max()).sum()) > 4, "nothing to compare"
    torch.testing.assert_close(reply.weights_HT.mean(0) / expected.max(), expected / expected.max(), atol=1e-4, rtol=1e-3)
    best = whole.logits.detach().topk(2).values
    assert (reply.token, reply.margin) == (int(whole.logits.argmax()), pytest.approx(float(best[0] - best[1]), abs=1e-4))


def test_gradient_attention_of_a_forced_token(
    folder: Path, family: InstructBlip, plain: InstructBlipForConditionalGeneration
) -> None:
    one = noise(150, 97, 9)
    whole = Whole(plain, [inputs(folder, one.pixels_YX3, QUESTION)])
    second = int(whole.logits.topk(2).indices[1])
    (reply,) = family.read_gradient([ReadGradient(shown(family, one), QUESTION, LAYER, token=second)])
    expected = whole.gradient_weights(second)
    assert reply.token == second and reply.margin < 0
    torch.testing.assert_close(reply.weights_HT.mean(0) / expected.max(), expected / expected.max(), atol=1e-4, rtol=1e-3)


def test_pixel_gradients_equal_those_of_the_whole_model(
    folder: Path, family: InstructBlip, plain: InstructBlipForConditionalGeneration
) -> None:
    one = noise(150, 97, 10)
    (reply,) = family.read_pixel_gradient([ReadPixelGradient(shown(family, one), (QUESTION, GENERIC))])
    (view,) = reply.views
    assert (view.box_px, view.block_px) == ((0, 0, 150, 97), 14)
    for k, question in enumerate((QUESTION, GENERIC)):
        whole = Whole(plain, [inputs(folder, one.pixels_YX3, question)])
        log_p = whole.logits.log_softmax(-1)
        (expected,) = torch.autograd.grad(log_p.max(), whole.pixels[0])
        assert reply.tokens_Q[k] == int(log_p.argmax())
        torch.testing.assert_close(view.norms_QYX[k], expected[0].norm(dim=0), atol=1e-6, rtol=1e-3)


def test_rows_of_a_batch_are_answered_as_if_alone(family: InstructBlip) -> None:
    asked = [
        Generate(shown(family, noise(150, 97, 11)), QUESTION, 6, layer=LAYER),
        Generate(shown(family, noise(60, 80, 12), (3.0, 4.0, 40.0, 50.0)), "Who?", 6, layer=LAYER),
        Generate(shown(family, noise(99, 98, 13)), GENERIC, 3),
    ]
    together = family.generate(asked)
    for request, answer in zip(asked, together, strict=True):
        (alone,) = family.generate([request])
        assert answer.ids == alone.ids
        if request.layer is not None:
            torch.testing.assert_close(answer.attention_HT, alone.attention_HT, atol=1e-6, rtol=1e-4)


def test_candidates_have_no_attention(family: InstructBlip) -> None:
    tokens = shown(family, noise(150, 97, 14))
    sampling = Sampling(3, 1.0, 1.0, seed=4)
    (samples,) = family.sample([Sample(tokens, QUESTION, 4, sampling)])
    (greedy,) = family.generate([Generate(tokens, QUESTION, 4)])
    assert samples.generations[0].ids == greedy.ids and len({one.ids for one in samples.generations}) > 1
    with pytest.raises(ValueError, match="depend on the question"):
        family.sample([Sample(tokens, QUESTION, 4, sampling, layers=(1,))])


def test_pixels_and_footprints(folder: Path, family: InstructBlip) -> None:
    one = noise(64, 48, 15)
    (view,) = family.views(Encode(one, ((0.0, 0.0, 64.0, 48.0),)), 0)
    expected = inputs(folder, one.pixels_YX3, "")["pixel_values"][0]
    torch.testing.assert_close(view.pixels, expected, atol=2e-2, rtol=0)
    tokens = shown(family, one)
    assert tokens.grid == (4, 4) and tokens.footprints.boxes_T4_px[[0, 5, 15]].tolist() == [
        [0, 0, 16, 12], [16, 12, 32, 24], [48, 36, 64, 48],
    ]  # fmt: skip


def test_a_question_cannot_become_special_tokens(family: InstructBlip) -> None:
    for spelled in ("</s>", "<image>", "<s> x", "[SEP]", "[PAD] [CLS]"):
        ids, read = family.question_ids(f"{spelled} y"), family.reader_ids(f"{spelled} y")
        assert [token for token in ids if token in family.tokenizer.all_special_ids] == [family.tokenizer.bos_token_id]
        special = [token for token in read if token in family.reader.all_special_ids]
        assert special == [family.reader.cls_token_id, family.reader.sep_token_id]


def test_a_long_question_is_cut_for_the_q_former_alone(family: InstructBlip) -> None:
    question = "word " * 300
    assert len(family.reader_ids(question)) == 512 < len(family.question_ids(question))
    assert family.generate([Generate(shown(family, noise(30, 30)), question, 2)])[0].ids


@pytest.mark.parametrize(
    ("template", "expected"), [("<s> $A", ([1], [])), ("</s> $A", ([2], [])), ("<s> $A </s>", ([1], [2])), ("$A", ([], []))]
)
def test_what_a_tokenizer_puts_around_a_text(folder: Path, template: str, expected: tuple[list[int], list[int]]) -> None:
    """The published checkpoint's texts start with the token that elsewhere ends them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    assert put_around(tokenizer) == expected


@pytest.mark.parametrize(
    ("layers", "blocks", "focus", "expected"),
    [
        (32, 12, None, (15, 2)),
        (40, 12, None, (None, 2)),
        (32, 4, None, (None, 1)),
        (40, 12, {"layer": 20, "connector_layer": 4}, (20, 4)),
        (32, 12, {"layer": 13}, (13, 2)),
    ],
)
def test_where_to_look(layers: int, blocks: int, focus: dict[str, int] | None, expected: tuple[int | None, int]) -> None:
    config = InstructBlipConfig(
        text_config=dict(model_type="llama", num_hidden_layers=layers), qformer_config=dict(num_hidden_layers=blocks),
        **({"focus": focus} if focus else {}),
    )  # fmt: skip
    profile = focus_profile(config)
    assert (profile["layer"], profile["connector_layer"]) == expected
    assert InstructBlip.abilities(config.to_dict()).profiled_layer == expected[0]


def test_abilities_and_defaults(folder: Path, family: InstructBlip) -> None:
    able = InstructBlip.abilities(json.loads((folder / "config.json").read_bytes()))
    assert (able.layers, able.boxes, able.boost, able.official, able.profiled_layer) == (3, False, False, True, None)
    defaults = family.defaults
    assert (defaults.input_px, defaults.base_window_px, defaults.focus_layer, defaults.look) == (56, 56.0, None, "whole")
    assert family.model.vision_model.config._attn_implementation == "sdpa"


def test_t5_is_refused() -> None:
    with pytest.raises(ModelRefused, match="t5 language model; expected llama"):
        InstructBlip.abilities({"model_type": "instructblip", "text_config": {"model_type": "t5"}})


def test_a_folder_without_the_second_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("qformer_tokenizer"))
    with pytest.raises(ModelRefused, match="no qformer_tokenizer folder"):
        loaded(tmp_path)


def test_asking_for_boxes_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="writes no boxes"):
        loaded(folder, PromptSettings(template="locate"))
