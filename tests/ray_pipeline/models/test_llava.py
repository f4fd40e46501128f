"""LLaVA-1.5: what is its own. What every family must do is tested for all of them together."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ray_pipeline.models import llava
from ray_pipeline.models.contract import Encode, Generate, ReadAttention, ReadPixelGradient
from ray_pipeline.models.llava import Llava
from ray_pipeline.models.weights import ModelRefused
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box
from schemas.status import RowFailure
from tests.stand_ins.made_pictures import soft_noise, whole

CPU = ModelSettings(device="cpu")
PUBLISHED: dict[str, Any] = {  # what the checkpoints' config.json say, and leave out
    "architectures": ["LlavaForConditionalGeneration"], "ignore_index": -100, "image_token_index": 32000, "model_type": "llava",
    "pad_token_id": 32001, "projector_hidden_act": "gelu", "tie_word_embeddings": False, "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "text_config": {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096, "model_type": "llama",
                    "rms_norm_eps": 1e-05, "vocab_size": 32064},
    "vision_config": {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "model_type": "clip_vision_model",
                      "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768,
                      "vocab_size": 32000},
}  # fmt: skip
THIRTEEN_B = {"hidden_size": 5120, "intermediate_size": 13824, "num_attention_heads": 40, "num_hidden_layers": 40}


def changed(config: dict[str, Any], **inner: dict[str, Any]) -> dict[str, Any]:
    return config | {key: config[key] | values for key, values in inner.items()}


@pytest.fixture(scope="module")
def folder(folders: dict[str, Path]) -> Path:
    return folders["llava"]


@pytest.fixture(scope="module")
def family(folder: Path) -> Llava:
    return Llava.load(folder, CPU, ViewSettings(), PromptSettings())


def fitted(folder: Path, fit: str) -> Llava:
    return Llava.load(folder, CPU, ViewSettings.model_validate({"fit": fit}), PromptSettings())


def test_the_published_7b_is_recognised_by_its_sizes() -> None:
    able = Llava.abilities(PUBLISHED)
    assert (able.layers, able.profiled_layer) == (32, 14)
    assert able.focus == {"rel_att", "grad_att", "pure_grad", "auto"} and able.boxes and able.official and able.boost
    assert able.fits == {"pad", "centre_crop", "squash"} and not able.resolution
    assert Llava.abilities(PUBLISHED) == able, "asking does not change the config"


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        (changed(PUBLISHED, text_config=THIRTEEN_B), 40),
        (changed(PUBLISHED, text_config={"num_hidden_layers": 30}), 30),
        (changed(PUBLISHED, vision_config={"image_size": 224}), 32),
    ],
)
def test_no_layer_is_known_of_other_revisions(config: dict[str, Any], layers: int) -> None:
    able = Llava.abilities(config)
    assert (able.layers, able.profiled_layer) == (layers, None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PUBLISHED | {"text_config": {"model_type": "mistral", "sliding_window": None}}, "decoder mistral; expected"),
        (PUBLISHED | {"vision_config": {"model_type": "siglip_vision_model"}}, "tower siglip_vision_model"),
        (PUBLISHED | {"vision_feature_select_strategy": "full"}, "'full'; expected 'default'"),
    ],
)
def test_other_architectures_under_the_same_name_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        Llava.abilities(config)


def test_defaults_follow_the_folder(family: Llava) -> None:
    known = family.defaults
    assert (known.input_px, known.focus_layer, known.base_window_px, known.look) == (84, None, 84, "multicrop")
    assert family.network.model.vision_tower.config._attn_implementation == "sdpa"
    assert not any(parameter.requires_grad for parameter in family.network.parameters())


def test_visual_embeddings_are_the_librarys(family: Llava, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feature layer, class token and projector, in calls of one view each."""
    picture = soft_noise(337, 211)
    views = family.views(Encode(picture, (whole(picture), (10.0, 20.0, 99.0, 200.0))), 0)
    with torch.no_grad():
        theirs = family.network.model.get_image_features(torch.stack([view.pixels for view in views])).pooler_output
        together = family.embed(views)
        monkeypatch.setattr(llava, "VIEWS_PER_TOWER_CALL", 1)
        alone = family.embed(views)
    for ours, single, expected in zip(together, alone, theirs, strict=True):
        assert torch.allclose(ours.embeds_QW, expected, atol=1e-5) and torch.allclose(single.embeds_QW, expected, atol=1e-5)
    assert not torch.allclose(theirs[0], theirs[1], atol=0.1)


@pytest.mark.parametrize("question", ["What is on the sign?", "  Two\nlines: [INST]  ", "", "Grüße – 犬?"])
@pytest.mark.parametrize("pictures", [1, 2])
def test_the_prompts_pieces_are_the_whole_published_prompt(family: Llava, question: str, pictures: int) -> None:
    text = "<image>" * 36 * pictures + f"\nUSER: {question} Answer the question using a single word or phrase.\nASSISTANT:"
    before, after = family.around(zoomed=False)
    assert family.around(zoomed=True) == ([], [])
    image = family.config.image_token_id
    pieces = before + [image] * 36 * pictures + after + family.question_ids(question)
    assert pieces == family.tokenizer(text).input_ids
    assert before == [family.tokenizer.bos_token_id]


def test_a_question_cannot_end_the_turn_or_show_a_picture(family: Llava) -> None:
    ids = family.question_ids("What?</s><image> <s>")
    special = {family.tokenizer.convert_tokens_to_ids(token) for token in ("</s>", "<image>", "<s>", "<pad>")}
    assert not special & set(ids)
    assert "</s><image>" in family.text.spelled(ids)[0]


@pytest.mark.parametrize(
    ("prompt", "turn"),
    [
        (PromptSettings(template="plain"), "\nUSER: the cup\nASSISTANT:"),
        (
            PromptSettings(template="locate"),
            "\nUSER: Please provide the bounding box coordinate of the region this sentence describes: the cup\nASSISTANT:",
        ),
        (
            PromptSettings(template="closely"),
            "\nUSER: Look closely at the small details of the image. the cup Answer the question using a single word or phrase."
            "\nASSISTANT:",
        ),
        (PromptSettings(template="locate", question="See {question}!"), "\nUSER: See the cup!\nASSISTANT:"),
    ],
)
def test_templates(folder: Path, prompt: PromptSettings, turn: str) -> None:
    own = Llava.load(folder, CPU, ViewSettings(), prompt)
    assert own.text.spelled(own.question_ids("the cup"))[0] == turn


def test_a_template_without_a_question_is_refused_at_once(folder: Path) -> None:
    with pytest.raises(ValueError, match="expected a text that holds {question}"):
        Llava.load(folder, CPU, ViewSettings(), PromptSettings(question="Describe it."))


@pytest.mark.parametrize(
    ("fit", "crop", "expected"),
    [
        ("pad", None, (256, 272, 320, 336)),
        ("centre_crop", None, (272, 264, 320, 312)),
        ("squash", None, (256, 264, 320, 312)),
        ("pad", (100.0, 200.0, 300.0, 240.0), (180, 230, 200, 250)),
        ("centre_crop", (100.0, 200.0, 300.0, 240.0), (196, 222, 200, 226)),
    ],
)
def test_boxes_are_fractions_of_the_input_of_the_view_shown_last(folder: Path, fit: str, crop: Box | None, expected: Box) -> None:
    family = fitted(folder, fit)
    picture = soft_noise(640, 480)
    tokens = family.encode([Encode(picture, (whole(picture),))])[0]
    if crop:
        tokens = family.encode([Encode(picture, (crop,), tokens)])[0]
    answer = family.read_box("the cup [0.40, 0.55, 0.50, 0.65]", "the cup")
    assert answer.values is not None and answer.text == "the cup"
    assert family.box_px(answer.values, tokens) == pytest.approx(expected)


def test_frames_of_pixel_gradients_are_the_fitted_squares(folder: Path) -> None:
    picture = soft_noise(120, 80)
    for fit, frame in (("pad", (0, -20, 120, 100)), ("centre_crop", (20, 0, 100, 80))):
        family = fitted(folder, fit)
        tokens = family.encode([Encode(picture, (whole(picture),))])[0]
        view = family.read_pixel_gradient([ReadPixelGradient(tokens, ("What?", "Describe it."))])[0].views[0]
        assert view.box_px == pytest.approx(frame) and view.block_px == 14
        assert view.pixels_YX3.shape == (84, 84, 3) and view.norms_QYX.shape == (2, 84, 84)
        assert view.norms_QYX.amin(0).max() > 0 and not torch.allclose(view.norms_QYX[0], view.norms_QYX[1])
    assert float((view.pixels_YX3 * 255 - torch.from_numpy(tokens.state.views[0].detail.pixels_YX3.copy())).abs().max()) < 1e-4


def test_views_beyond_the_decoders_context_are_refused(family: Llava) -> None:
    picture = soft_noise(64, 48)
    tokens = family.encode([Encode(picture, (whole(picture),) * 2)])[0]
    most = (4096 - 256 - 1) // 36
    with pytest.raises(
        RowFailure, match=rf"skipped: {36 * (most + 1)} visual tokens in {most + 1} views, .* context of 4096 positions"
    ):
        family.views(Encode(picture, (whole(picture),) * (most + 1)), 0)
    with pytest.raises(RowFailure, match="expected fewer views or regions"):
        family.views(Encode(picture, (whole(picture),) * (most - 1), tokens), 2)
    assert len(family.views(Encode(picture, (whole(picture),) * most), 0)) == most


def test_a_zoomed_view_follows_the_picture_without_a_separator(family: Llava) -> None:
    """The same as both views in one request: nothing stands between them."""
    picture, crop = soft_noise(337, 211), (30.0, 40.0, 120.0, 150.0)
    tokens = family.encode([Encode(picture, (whole(picture),))])[0]
    zoomed = family.encode([Encode(picture, (crop,), tokens)])[0]
    both = family.encode([Encode(picture, (whole(picture), crop))])[0]
    assert zoomed.footprints.view_T.tolist() == both.footprints.view_T.tolist() == [0] * 36 + [1] * 36
    assert torch.equal(zoomed.footprints.boxes_T4_px, both.footprints.boxes_T4_px)
    one, other = family.generate([Generate(zoomed, "What?", 8), Generate(both, "What?", 8)])
    assert one.raw == other.raw and one.text_logprob == pytest.approx(other.text_logprob, abs=1e-4)
    rows = family.read_attention([ReadAttention(zoomed, ("What?",), 2), ReadAttention(both, ("What?",), 2)])
    assert torch.allclose(rows[0].weights_QHT, rows[1].weights_QHT, atol=1e-5)


def test_missing_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "multi_modal_projector.linear_1.weight" in name)
    del weights[name]
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelRefused, match="weights lack or misfit 1 tensors"):
        Llava.load(tmp_path / "model", CPU, ViewSettings(), PromptSettings())


def test_a_tokenizer_that_does_not_know_the_picture_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"image_token_index": 5}))
    with pytest.raises(ModelRefused, match="expected one token 5"):
        Llava.load(tmp_path / "model", CPU, ViewSettings(), PromptSettings())
