"""LLaVA-NeXT: tiles, newlines, the decoder's context, and the prompts of its decoders."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_pipeline.models.contract import Encode, Generate, ReadPixelGradient
from ray_pipeline.models.llava_next import LlavaNext
from ray_pipeline.models.weights import ModelRefused
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Picture
from schemas.status import RowFailure
from tests.stand_ins.made_pictures import soft_noise, whole

CPU = ModelSettings(device="cpu")
SIZES = [(337, 211), (168, 168), (60, 200), (84, 84), (500, 20)]
PUBLISHED: dict[str, Any] = {  # of the Mistral checkpoint, with what it leaves out
    "architectures": ["LlavaNextForConditionalGeneration"], "image_token_index": 32000, "model_type": "llava_next",
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
    "projector_hidden_act": "gelu", "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
    "text_config": {"intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
                    "num_key_value_heads": 8, "rope_theta": 1000000.0, "sliding_window": None, "vocab_size": 32064},
    "vision_config": {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "model_type": "clip_vision_model",
                      "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(folders: dict[str, Path]) -> Path:
    return folders["llava_next"]


@pytest.fixture(scope="module")
def family(folder: Path) -> LlavaNext:
    return LlavaNext.load(folder, CPU, ViewSettings(), PromptSettings())


def with_decoder(folder: Path, target: Path, **text: Any) -> Path:
    """The folder with other settings of its decoder."""
    shutil.copytree(folder, target)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= text
    (target / "config.json").write_text(json.dumps(config))
    return target


def test_abilities_leave_out_what_tiles_do_themselves() -> None:
    able = LlavaNext.abilities(PUBLISHED)
    assert (able.layers, able.profiled_layer, able.fits) == (32, None, frozenset())
    assert able.focus == {"rel_att", "grad_att", "pure_grad", "auto"} and able.boost
    assert not (able.boxes or able.crops or able.official or able.resolution)


@pytest.mark.parametrize(
    ("text", "message"),
    [({"sliding_window": 4096}, "sliding window of 4096"), ({"model_type": "qwen2"}, "decoder qwen2; expected")],
)
def test_decoders_whose_prefix_or_prompt_we_do_not_know_are_refused(text: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        LlavaNext.abilities(PUBLISHED | {"text_config": PUBLISHED["text_config"] | text})


@pytest.mark.parametrize("size", SIZES)
def test_visual_embeddings_are_the_librarys(family: LlavaNext, size: tuple[int, int]) -> None:
    """Tower, projector, unpadding and newlines, with another picture in the same call."""
    picture, other = soft_noise(*size), soft_noise(200, 333)
    view, second = (family.views(Encode(one, (whole(one),)), 0)[0] for one in (picture, other))
    with torch.no_grad():
        seen = family.network.model.get_image_features(view.pixels[None], torch.tensor([[size[1], size[0]]]))
        ours, beside = family.embed([view, second])
    assert ours.embeds_QW.shape == seen.pooler_output[0].shape
    assert torch.allclose(ours.embeds_QW, seen.pooler_output[0], atol=1e-5)
    assert len(ours) == len(view.footprints) and len(beside) == len(second.footprints)


@pytest.mark.parametrize("size", SIZES)
def test_newlines_have_no_place_and_tiles_are_one_view(family: LlavaNext, size: tuple[int, int]) -> None:
    picture = soft_noise(*size)
    view = family.views(Encode(picture, (whole(picture),)), 6)[0]
    layout, prints = view.detail.layout, view.footprints
    newline = family.network.model.image_newline
    with torch.no_grad():
        embeds = family.embed([view])[0].embeds_QW
    assert torch.equal(~prints.valid_T, (embeds == newline).all(-1)) and int((~prints.valid_T).sum()) == layout.rows
    assert prints.view_T[:36].tolist() == [6] * 36
    assert set(prints.view_T[36:].tolist()) <= {7, -1} and (prints.view_T[~prints.valid_T] == -1).all()
    base = prints.boxes_T4_px[:36]
    assert base[-1, 2:].tolist() == pytest.approx(size) and base[0, :2].tolist() == [0, 0]


def test_a_zoomed_crop_is_a_picture_of_its_own(family: LlavaNext) -> None:
    picture, crop = soft_noise(337, 211), (100.0, 50.0, 230.0, 99.0)
    tokens = family.encode([Encode(picture, (whole(picture),))])[0]
    zoomed = family.encode([Encode(picture, (crop,), tokens)])[0]
    cut = Picture(np.ascontiguousarray(picture.pixels_YX3[50:99, 100:230]), "1" * 64)
    alone = family.views(Encode(cut, (whole(cut),)), 0)[0]
    shown = zoomed.state.views[1]
    assert torch.equal(shown.pixels, alone.pixels) and zoomed.count == tokens.count + len(alone.footprints)
    moved = alone.footprints.boxes_T4_px[alone.footprints.valid_T] + torch.tensor([100, 50, 100, 50])
    assert torch.allclose(shown.footprints.boxes_T4_px[shown.footprints.valid_T], moved)
    assert zoomed.footprints.view_T.unique().tolist() == [-1, 0, 1, 2, 3]
    assert zoomed.grid is None and tokens.grid is None


def test_where_tiles_do_not_fit_the_context_the_crop_is_shown_without(folder: Path, tmp_path: Path) -> None:
    picture, crops = soft_noise(337, 211), ((100.0, 50.0, 230.0, 99.0), (10.0, 10.0, 90.0, 90.0))
    first = 36 + 8 * 13  # 337 x 211: 8 of 12 rows are kept
    tight = 1 + first + 37 + 37 + 256
    small = with_decoder(folder, tmp_path / "model", max_position_embeddings=tight)
    family = LlavaNext.load(small, CPU, ViewSettings(), PromptSettings())
    tokens = family.encode([Encode(picture, (whole(picture),))])[0]
    assert tokens.count == first
    zoomed = family.encode([Encode(picture, crops, tokens)])[0]
    assert zoomed.count == first + 37 + 37
    assert zoomed.footprints.valid_T[first:].tolist() == ([True] * 36 + [False]) * 2
    assert zoomed.footprints.view_T[first:].unique().tolist() == [-1, 2, 4]
    assert family.generate([Generate(zoomed, "What?", 3)])[0].tokens <= 3
    with pytest.raises(RowFailure, match="expected fewer views or regions"):
        family.encode([Encode(picture, (crops[0],), zoomed)])
    with pytest.raises(RowFailure, match=rf"2 views, {first - 74} too many for a context of {tight}"):
        family.encode([Encode(picture, (whole(picture),) * 2)])


def test_pixel_gradients_have_a_frame_per_tile(family: LlavaNext) -> None:
    picture = soft_noise(337, 211)
    tokens = family.encode([Encode(picture, (whole(picture),))])[0]
    views = family.read_pixel_gradient([ReadPixelGradient(tokens, ("What?",))])[0].views
    boxes = [view.box_px for view in views]
    assert boxes[0] == pytest.approx((0, 0, 337, 211)) and len(boxes) == 5
    pad = 31 * 211 / 106  # 106 of 168 rows hold the picture
    assert boxes[1] == pytest.approx((0, -pad, 168.5, 105.5)) and boxes[4] == pytest.approx((168.5, 105.5, 337, 211 + pad))
    for view in views:
        assert view.norms_QYX.shape == (1, 84, 84) and view.norms_QYX.max() > 0 and view.block_px == 14
    rows = views[1].pixels_YX3.mean((1, 2))
    assert rows[:31].max() == 0 and rows[31:].min() > 0.1, "black above the picture"


def test_the_prompt_around_vicuna_is_llavas(family: LlavaNext) -> None:
    text = "<image>" * 5 + "\nUSER: Where? Answer the question using a single word or phrase.\nASSISTANT:"
    before, after = family.around(zoomed=False)
    image = family.config.image_token_id
    assert before + [image] * 5 + after + family.question_ids("Where?") == family.tokenizer(text).input_ids


def test_the_prompt_around_mistral_is_its_model_cards(folder: Path, tmp_path: Path) -> None:
    other = with_decoder(folder, tmp_path / "model", model_type="mistral", sliding_window=None)
    family = LlavaNext.load(other, CPU, ViewSettings(), PromptSettings(template="plain"))
    before, after = family.around(zoomed=False)
    image = family.config.image_token_id
    ids = [*before, image, *after, *family.question_ids("What is shown in this image?")]
    assert ids == family.tokenizer("[INST] <image>\nWhat is shown in this image? [/INST]").input_ids
    picture = soft_noise(90, 70)
    tokens = family.encode([Encode(picture, (whole(picture),))])[0]
    assert family.generate([Generate(tokens, "What?", 4)])[0].tokens <= 4


def test_the_prompt_with_chatml_marks_is_the_34bs(folder: Path, family: LlavaNext) -> None:
    tokenizer = LlavaNext.load(folder, CPU, ViewSettings(), PromptSettings()).tokenizer
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    other = LlavaNext(family.network, tokenizer, family.preprocessing, prompt=PromptSettings(template="plain"))
    text = "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nWhat?<|im_end|><|im_start|>assistant\n"
    ids = [*other.around(False)[0], other.config.image_token_id, *other.question_ids("What?")]
    assert ids == tokenizer(text).input_ids


def test_llama_3s_marks_are_refused(folder: Path, family: LlavaNext) -> None:
    tokenizer = LlavaNext.load(folder, CPU, ViewSettings(), PromptSettings()).tokenizer
    tokenizer.add_tokens(["<|start_header_id|>"], special_tokens=True)
    with pytest.raises(ModelRefused, match="Llama-3 decoder; expected Vicuna"):
        LlavaNext(family.network, tokenizer, family.preprocessing)


def test_boxes_are_neither_asked_for_nor_read(folder: Path, family: LlavaNext) -> None:
    with pytest.raises(ModelRefused, match="'locate' with llava_next"):
        LlavaNext.load(folder, CPU, ViewSettings(), PromptSettings(template="locate"))
    answer = family.read_box(" [0.40, 0.55, 0.50, 0.65]", "the cup")
    assert answer.box is None and answer.text == "[0.40, 0.55, 0.50, 0.65]" and not answer.malformed
