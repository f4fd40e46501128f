"""What a Qwen-VL folder and the settings decide: sizes, frames of boxes, prompts, what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from ray_pipeline.models.contract import Encode
from ray_pipeline.models.qwen_pixels import QWEN2_5_VL, QWEN3_VL
from ray_pipeline.models.qwen_vl import QwenVl
from ray_pipeline.models.weights import ModelRefused
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.status import RowFailure
from tests.stand_ins.made_pictures import black, whole

KINDS = ("qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


def load(folder: Path, prompt: PromptSettings = PromptSettings()) -> QwenVl:
    return QwenVl.load(folder, ModelSettings(name=str(folder), device="cpu"), ViewSettings(), prompt)


@pytest.fixture(scope="module")
def family(folder: Path) -> QwenVl:
    return load(folder)


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (PromptSettings(), "Where is it? Answer the question using a single word or phrase."),
        (PromptSettings(template="plain"), "Where is it?"),
        (PromptSettings(template="locate"), "Where is it? Report bbox coordinates in JSON format."),
        (PromptSettings(question="Q: {question} A:"), "Q: Where is it? A:"),
    ],
)
def test_templates(folders: dict[str, Path], prompt: PromptSettings, text: str) -> None:
    family = load(folders["qwen3_vl"], prompt=prompt)
    ids = family.question_ids("Where is it?")
    assert family.tokenizer.decode(ids) == f"{text}<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_without_its_question_is_refused_at_once(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="question"):
        load(folders["qwen3_vl"], prompt=PromptSettings(question="What?"))


def published(folders: dict[str, Path], kind: str, views: ViewSettings) -> QwenVl:
    """Small weights with the published limits."""
    small = load(folders[kind])
    return QwenVl(small.network, small.tokenizer, {KINDS[0]: QWEN2_5_VL, KINDS[1]: QWEN3_VL}[kind], small.turn, views)


@pytest.mark.parametrize(
    ("kind", "written", "box"),
    [
        ("qwen2_5_vl", (322, 238, 350, 266), (320, 240, 347.826, 268.235)),  # pixels of 644 x 476
        ("qwen3_vl", (500, 500, 550, 560), (320, 240, 352, 268.8)),  # thousandths
    ],
)
def test_boxes_are_of_the_picture_as_first_shown(
    folders: dict[str, Path], kind: str, written: tuple[float, ...], box: tuple[float, ...]
) -> None:
    family = published(folders, kind, ViewSettings())
    picture = black(640, 480)
    tokens = family.encode([Encode(picture, (whole(picture),), until_layer=0)])[0]
    assert family.box_px(written, tokens) == pytest.approx(box, abs=1e-3)
    raw = f'```json\n[{{"bbox_2d": {list(written)}, "label": "spoon"}}]\n```'
    assert family.read_box(raw, "Detect the spoon.").values == tuple(map(float, written))


@pytest.mark.parametrize(
    ("kind", "written", "box"),
    [
        ("qwen2_5_vl", (224, 112, 448, 336), (212, 106, 324, 218)),  # the 224 px crop was shown at 448 px
        ("qwen3_vl", (500, 250, 1000, 750), (212, 106, 324, 218)),
    ],
)
def test_boxes_are_of_the_last_crop_once_one_was_shown(
    folders: dict[str, Path], kind: str, written: tuple[float, ...], box: tuple[float, ...]
) -> None:
    family = published(folders, kind, ViewSettings())
    picture = black(400, 300)
    tokens = family.encode([Encode(picture, (whole(picture),), until_layer=0)])[0]
    zoomed = family.encode([Encode(picture, ((100.0, 50.0, 324.0, 274.0),), tokens, until_layer=0)])[0]
    assert family.box_px(written, zoomed) == pytest.approx(box)


@pytest.mark.parametrize(
    ("views", "first", "crop"),
    [
        (ViewSettings(zoom_px=0), 23 * 17, 64),  # as published: a crop is not enlarged
        (ViewSettings(), 23 * 17, 256),
        (ViewSettings(zoom_px=336), 23 * 17, 144),
        (ViewSettings(resolution_px=448, zoom_px=0), 18 * 13, 64),
        (ViewSettings(resolution_px=224), 9 * 6, 256),  # the cap is the picture's; the crop has its own size
    ],
)
def test_sizes_of_picture_and_crop(folders: dict[str, Path], views: ViewSettings, first: int, crop: int) -> None:
    family = published(folders, "qwen2_5_vl", views)
    picture = black(640, 480)
    tokens = family.encode([Encode(picture, (whole(picture),), until_layer=0)])[0]
    zoomed = family.encode([Encode(picture, ((100.0, 50.0, 324.0, 274.0),), tokens, until_layer=0)])[0]
    assert (tokens.count, zoomed.count - tokens.count) == (first, crop)
    prints = zoomed.footprints.boxes_T4_px[first:]
    assert prints.amin(0)[:2].tolist() == [100, 50] and prints.amax(0)[2:].tolist() == [324, 274]


def test_a_small_picture_is_not_enlarged(folders: dict[str, Path]) -> None:
    """Only a crop behind a prefix is; nor is a part of a picture that is shown first."""
    family = published(folders, "qwen2_5_vl", ViewSettings())
    for box, count in (((0.0, 0.0, 112.0, 84.0), 12), ((10.0, 20.0, 66.0, 76.0), 4)):
        assert family.encode([Encode(black(112, 84), (box,), until_layer=0)])[0].count == count


def test_longer_strips_than_the_tower_was_made_for_are_refused(family: QwenVl) -> None:
    picture = black(402, 2)
    with pytest.raises(RowFailure, match="at most 200"):
        family.encode([Encode(picture, (whole(picture),))])


def hub_config(**changes: Any) -> dict[str, Any]:
    """Qwen2.5-VL-3B's config.json as published: the text model's settings stand at the top."""
    return {
        "model_type": "qwen2_5_vl", "hidden_size": 2048, "num_hidden_layers": 36, "use_sliding_window": False,
        "sliding_window": 32768, "max_window_layers": 70, "vision_config": {"hidden_size": 1280, "depth": 32},
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("config", "layers", "profiled"),
    [
        (hub_config(), 36, 22),
        (hub_config(num_hidden_layers=28, hidden_size=3584), 28, None),
        ({"model_type": "qwen3_vl", "text_config": {"num_hidden_layers": 36, "hidden_size": 2048}}, 36, None),
        ({"model_type": "qwen2_5_vl", "text_config": {"num_hidden_layers": 36, "hidden_size": 2048}}, 36, 22),
    ],
)
def test_abilities_are_read_from_the_config(config: dict[str, Any], layers: int, profiled: int | None) -> None:
    able = QwenVl.abilities(config)
    assert (able.layers, able.profiled_layer, able.boxes, able.crops, able.resolution) == (layers, profiled, True, False, True)
    assert able.focus == {"rel_att", "grad_att", "pure_grad", "auto"}


@pytest.mark.parametrize(
    "config",
    [
        hub_config(use_sliding_window=True),
        hub_config(layer_types=["full_attention", "sliding_attention"]),
        {"model_type": "qwen3_vl", "text_config": {"num_hidden_layers": 4, "layer_types": ["linear_attention"] * 4}},
    ],
)
def test_decoders_without_full_attention_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ModelRefused, match="expected full attention in all of them"):
        QwenVl.abilities(config)


@pytest.mark.parametrize("lacking", ["num_hidden_layers", "hidden_size"])
def test_a_config_without_sizes_is_refused(lacking: str) -> None:
    config = hub_config()
    del config[lacking]
    with pytest.raises(ModelRefused, match=lacking):
        QwenVl.abilities(config)


def test_defaults_are_the_published_ones(family: QwenVl) -> None:
    known = family.defaults
    assert (known.base_window_px, known.input_px, known.look, known.focus_layer) == (224, 448, "whole", None)


def test_the_vision_tower_keeps_the_fast_kernel(family: QwenVl) -> None:
    assert family.tower.config._attn_implementation == "sdpa"
    assert family.decoder.config._attn_implementation == "fovea_rows"


def test_a_folder_without_all_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    other = copied(folder, tmp_path)
    state = load_file(other / "model.safetensors")
    gone = next(name for name in state if name.endswith("layers.2.self_attn.q_proj.weight"))
    save_file({name: value for name, value in state.items() if name != gone}, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelRefused, match="layers.2.self_attn.q_proj.weight"):
        load(other)


def test_limits_come_from_the_folder(folder: Path, family: QwenVl, tmp_path: Path) -> None:
    assert family.rule.most_area_px == 40 * family.rule.block_px**2
    other = copied(folder, tmp_path)
    (other / "preprocessor_config.json").unlink()
    assert load(other).rule in (QWEN2_5_VL, QWEN3_VL)
    (other / "processor_config.json").write_text(json.dumps({"image_processor": {"size": {"longest_edge": 99_000}}}))
    assert load(other).rule.most_area_px == 99_000
    (other / "preprocessor_config.json").write_text(json.dumps({"patch_size": 7}))
    with pytest.raises(ModelRefused, match="expected the tower's"):
        load(other)


def test_the_folder_s_own_template_is_followed(folder: Path, tmp_path: Path) -> None:
    other = copied(folder, tmp_path)
    template = (
        "{% for m in messages %}<|im_start|>user\nLook: {% for c in m['content'] %}{% if c['type'] == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (other / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    turn = load(other).turn
    assert turn.before == "<|im_start|>user\nLook: <|vision_start|>" and turn.between == "<|vision_start|>"
