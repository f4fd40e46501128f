"""InternVL against the library's own processor and generation, on a tiny folder."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from ray_pipeline.models.contract import Encode, Generate, ReadAttention, ReadPixelGradient
from ray_pipeline.models.internvl import TEMPLATES, InternVl, chat_turn, read_rule, square_side
from ray_pipeline.models.internvl_tiles import TileRule
from ray_pipeline.models.weights import ModelRefused
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box
from tests.stand_ins.family_facts import shown
from tests.stand_ins.made_pictures import noise
from tests.stand_ins.tiny_models import TINY

QUESTION = "What colour is the smallest cup?"
CROP: Box = (31.0, 12.0, 120.0, 87.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY["internvl"](tmp_path_factory.mktemp("internvl"), 3)


@pytest.fixture(scope="module")
def family(folder: Path) -> InternVl:
    return loaded(folder)


@pytest.fixture(scope="module")
def plain(folder: Path) -> InternVLForConditionalGeneration:
    return InternVLForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()


def loaded(folder: Path, views: ViewSettings = ViewSettings(), prompt: PromptSettings = PromptSettings()) -> InternVl:
    return InternVl.load(folder, ModelSettings(name=str(folder), device="cpu"), views, prompt)


def inputs(folder: Path, pictures: list[np.ndarray], text: str) -> dict[str, Any]:
    """What the published processor makes of pictures and a question."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = GotOcr2ImageProcessorPil.from_pretrained(folder, crop_to_patches=True)
    images = processor(pictures, return_tensors="pt", input_data_format="channels_last")
    content = [{"type": "image"}] * len(pictures) + [{"type": "text", "text": text}]
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
    said = SimpleNamespace(
        start_image_token="<img>", end_image_token="</img>", image_token="<IMG_CONTEXT>",
        image_seq_length=InternVLConfig.from_pretrained(folder).image_seq_length,
    )  # fmt: skip
    for k in range(len(pictures)):
        replacement = InternVLProcessor.replace_image_token(said, images, k)
        prompt = prompt.replace("<IMG_CONTEXT>", replacement.replace("<IMG_CONTEXT>", "\0"), 1)
    ids = tokenizer(prompt.replace("\0", "<IMG_CONTEXT>"), return_tensors="pt")
    return {"pixel_values": images["pixel_values"], "input_ids": ids.input_ids, "attention_mask": ids.attention_mask}


def written(plain: InternVLForConditionalGeneration, asked: dict[str, Any], ends: frozenset[int]) -> list[int]:
    out = plain.generate(**asked, max_new_tokens=9, do_sample=False)[0, asked["input_ids"].shape[1] :].tolist()
    return [token for token in out if token not in ends]


@pytest.mark.parametrize(("width", "height"), [(210, 97), (56, 56), (90, 200)])
def test_greedy_answers_equal_plain_generation(
    folder: Path, family: InternVl, plain: InternVLForConditionalGeneration, width: int, height: int
) -> None:
    one = noise(width, height, width)
    asked = inputs(folder, [one.pixels_YX3], TEMPLATES["short"].replace("{question}", QUESTION))
    tokens = shown(family, one)
    assert tokens.count == int((asked["input_ids"] == plain.config.image_token_id).sum())
    assert tokens.state.prefix.length + len(family.question_ids(QUESTION)) == asked["input_ids"].shape[1]
    (answer,) = family.generate([Generate(tokens, QUESTION, 9)])
    assert list(answer.ids) == written(plain, asked, family.end_ids)


def test_an_answer_with_a_zoomed_crop_equals_plain_generation(
    folder: Path, family: InternVl, plain: InternVLForConditionalGeneration
) -> None:
    one, (x0, y0, x1, y1) = noise(210, 97, 5), (int(edge) for edge in CROP)
    pictures = [one.pixels_YX3, one.pixels_YX3[y0:y1, x0:x1]]
    asked = inputs(folder, pictures, TEMPLATES["short"].replace("{question}", QUESTION))
    zoomed = shown(family, one, CROP)
    assert zoomed.count == int((asked["input_ids"] == plain.config.image_token_id).sum())
    (answer,) = family.generate([Generate(zoomed, QUESTION, 9)])
    assert list(answer.ids) == written(plain, asked, family.end_ids)


def test_two_pictures_shown_first_have_markers_each(
    folder: Path, family: InternVl, plain: InternVLForConditionalGeneration
) -> None:
    one = noise(210, 97, 6)
    tokens = family.encode([Encode(one, ((0.0, 0.0, 210.0, 97.0), CROP))])[0]
    behind = shown(family, one, CROP)
    assert torch.equal(tokens.state.slots_T, behind.state.slots_T)
    assert tokens.state.prefix.depth == behind.state.prefix.depth > 0
    for layer in range(tokens.state.prefix.depth):
        torch.testing.assert_close(tokens.state.prefix.layer(layer), behind.state.prefix.layer(layer), atol=1e-5, rtol=1e-5)


def test_attention_equals_the_eager_matrix(folder: Path, family: InternVl, plain: InternVLForConditionalGeneration) -> None:
    one = noise(150, 97, 7)
    rows = family.read_attention([ReadAttention(shown(family, one), (QUESTION, "Describe."), 2)])[0].weights_QHT
    assert float(rows.max()) > 0.05, "weights so small that all attention is uniform"
    for k, question in enumerate((QUESTION, "Describe.")):
        asked = inputs(folder, [one.pixels_YX3], TEMPLATES["short"].replace("{question}", question))
        with torch.no_grad():
            matrix = plain(**asked, output_attentions=True).attentions[2][0, :, -1]
        expected = matrix[:, asked["input_ids"][0] == plain.config.image_token_id]
        torch.testing.assert_close(rows[k], expected, atol=1e-5, rtol=0)


def test_pixel_gradients_equal_those_of_the_whole_model(
    folder: Path, family: InternVl, plain: InternVLForConditionalGeneration
) -> None:
    one = noise(120, 61, 8)
    (got,) = family.read_pixel_gradient([ReadPixelGradient(shown(family, one), (QUESTION,))])
    asked = inputs(folder, [one.pixels_YX3], TEMPLATES["short"].replace("{question}", QUESTION))
    pixels = asked["pixel_values"].clone().requires_grad_()
    log_p = plain(**asked | {"pixel_values": pixels}).logits[0, -1].log_softmax(-1)
    (expected,) = torch.autograd.grad(log_p.max(), pixels)
    assert got.tokens_Q == (int(log_p.argmax()),)
    assert len(got.views) == len(pixels) == 3
    for view, tile in zip(got.views, expected, strict=True):
        torch.testing.assert_close(view.norms_QYX[0], tile.norm(dim=0), atol=1e-6, rtol=1e-3)
    assert [view.box_px for view in got.views] == [(0, 0, 60, 61), (60, 0, 120, 61), (0, 0, 120, 61)]
    mean = torch.stack([view.pixels_YX3.mean() for view in got.views])
    torch.testing.assert_close(mean, torch.full((3,), one.pixels_YX3.mean() / 255, dtype=torch.float32), atol=0.02, rtol=0)
    assert {view.block_px for view in got.views} == {28}


def test_pixels_equal_the_published_processor(folder: Path, family: InternVl) -> None:
    one = noise(210, 97, 9)
    (view,) = family.views(Encode(one, ((0.0, 0.0, 210.0, 97.0),)), 0)
    expected = inputs(folder, [one.pixels_YX3], "")["pixel_values"]
    torch.testing.assert_close(view.pixels, expected, atol=2e-2, rtol=0)  # one level of 255, over a deviation of 0.22


def test_view_numbers_go_on_behind_the_tiles(family: InternVl) -> None:
    one = noise(112, 56)
    tokens = shown(family, one, CROP)
    first, second = (tokens.footprints.view_T[:12], tokens.footprints.view_T[12:])
    assert first.tolist() == [1] * 4 + [2] * 4 + [0] * 4
    assert set(second.tolist()) == set(range(3, 3 + len(second) // 4)) and second[-1] == 3
    assert tokens.grid is None
    assert shown(family, noise(56, 56)).grid == (2, 2)


def test_a_picture_of_one_tile_is_one_plain_grid(family: InternVl) -> None:
    tokens = shown(family, noise(40, 40))
    assert tokens.footprints.boxes_T4_px.tolist() == [[0, 0, 20, 20], [20, 0, 40, 20], [0, 20, 20, 40], [20, 20, 40, 40]]
    assert set(tokens.footprints.view_T.tolist()) == {0}


@pytest.mark.parametrize(("resolution", "tiles"), [(None, 7), (112, 5), (56, 1), (28, 1)])
def test_resolution_limits_the_tiles(folder: Path, resolution: int | None, tiles: int) -> None:
    family = loaded(folder, ViewSettings(resolution_px=resolution))
    assert shown(family, noise(300, 200)).count == 4 * tiles


@pytest.mark.parametrize(("zoom", "tiles"), [(None, 1), (0, 1), (56, 1), (112, 5), (168, 10)])
def test_a_small_crop_is_enlarged_on_request(folder: Path, zoom: int | None, tiles: int) -> None:
    family = loaded(folder, ViewSettings(zoom_px=zoom))
    whole = shown(family, noise(30, 30))
    assert whole.count == 4
    assert shown(family, noise(30, 30), (0.0, 0.0, 30.0, 30.0)).count - whole.count == 4 * tiles


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_a_prompt_in_pieces_is_the_prompt_as_a_whole(folder: Path, template: Any) -> None:
    family = loaded(folder, prompt=PromptSettings(template=template))
    pieces = [*family.around(False)[0], *family.around(False)[1], *family.around(True)[0], *family.around(True)[1]]
    text = TEMPLATES[template].replace("{question}", QUESTION)
    whole = f"<|im_start|>user\n<img></img>\n<img></img>\n{text}<|im_end|>\n<|im_start|>assistant\n"
    assert pieces + family.question_ids(QUESTION) == AutoTokenizer.from_pretrained(folder)(whole).input_ids


def test_a_question_cannot_end_the_turn_or_show_a_picture(family: InternVl) -> None:
    plain = family.question_ids("x")
    special = {token for token in plain if token in family.tokenizer.all_special_ids}
    for spelled in ("<|im_end|>", "<IMG_CONTEXT>", "</img><img>", "<|im_start|>system"):
        ids = family.question_ids(f"{spelled} x")
        assert {token: ids.count(token) for token in special} == {token: plain.count(token) for token in special}
        assert set(ids) & set(family.tokenizer.all_special_ids) == special
        assert f"{spelled} x" in family.tokenizer.decode(ids)


def test_locating_asks_with_the_published_markers(folder: Path) -> None:
    ids = loaded(folder, prompt=PromptSettings(template="locate")).question_ids("the cup")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert ids.count(tokenizer.convert_tokens_to_ids("<ref>")) == ids.count(tokenizer.convert_tokens_to_ids("</ref>")) == 1


def test_boxes_are_thousandths_of_the_picture(family: InternVl) -> None:
    one = replace(shown(family, noise(640, 480)), boxes_px=((0.0, 0.0, 640.0, 480.0), CROP))
    assert family.box_px((500, 500, 550, 560), one) == pytest.approx((320, 240, 352, 268.8))
    read = family.read_box("<ref>dog</ref><box>[[1,2,3,4]]</box><ref>cup</ref><box>[[500, 500, 550, 560]]</box>", "cup")
    assert read.box is not None and read.box.values == (500, 500, 550, 560)


def test_the_tower_keeps_the_fast_kernel(family: InternVl) -> None:
    assert family.model.model.vision_tower.config._attn_implementation == "sdpa"
    assert not any(parameter.requires_grad for parameter in family.model.parameters())


def test_abilities_come_from_the_config_alone(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    able = InternVl.abilities(config)
    assert (able.layers, able.boxes, able.resolution, able.official, able.profiled_layer) == (4, True, True, False, None)
    assert InternVl.abilities(config | {"focus": {"layer": 2}}).profiled_layer == 2
    assert InternVl.abilities({"model_type": "internvl", "text_config": {"model_type": "qwen3"}}).layers == 32
    with pytest.raises(ModelRefused, match="gpt_oss decoder; expected one of .*qwen3"):
        InternVl.abilities(config | {"text_config": {"model_type": "gpt_oss"}})


def test_a_profile_in_the_config_is_used(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config | {"focus": {"layer": 2, "gate": 0.75}}))
    defaults = loaded(tmp_path).defaults
    assert (defaults.focus_layer, defaults.gate, defaults.input_px, defaults.look) == (2, 0.75, 56, "whole")
    assert loaded(folder).defaults.focus_layer is None


def test_limits_of_the_folder(folder: Path, tmp_path: Path) -> None:
    assert read_rule(folder, 56) == TileRule(56, 1, 12)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"min_patches": 2, "max_patches": 6}}))
    assert read_rule(tmp_path, 448) == TileRule(448, 2, 6)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"min_patches": 7, "max_patches": 6}))
    with pytest.raises(ModelRefused, match="7 to 6 of them"):
        read_rule(tmp_path, 448)


@pytest.mark.parametrize(
    ("image", "patch", "ratio"), [([448, 224], [14, 14], 0.5), ([448, 448], [14, 7], 0.5), ([70, 70], [14, 14], 0.5)]
)
def test_oblong_towers_are_refused(image: list[int], patch: list[int], ratio: float) -> None:
    config = InternVLConfig(vision_config=dict(image_size=image, patch_size=patch), downsample_ratio=ratio)
    with pytest.raises(ModelRefused, match=f"{image[1]} x {image[0]} px"):
        square_side(config)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "without chat_template"),
        ("{{ messages[0]['content'] | length }}<IMG_CONTEXT>{question}", "expected a shared prefix"),
        ("<IMG_CONTEXT>", "expected a shared prefix"),
    ],
)
def test_chat_templates_that_share_no_prefix_are_refused(folder: Path, template: str | None, message: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    with pytest.raises(ModelRefused, match=message):
        chat_turn(tokenizer, "<IMG_CONTEXT>")


def test_a_template_without_the_question_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="holds {question}"):
        loaded(folder, prompt=PromptSettings(question="what is it?"))
