"""What a model cannot honour is refused before its weights are read: by name, with the value found and what it can do."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ray_pipeline.models.families import check_family, load_family
from ray_pipeline.models.qwen_vl import QwenVl
from ray_pipeline.models.registry import FAMILIES
from ray_pipeline.models.weights import ModelRefused
from schemas.job import JobSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from tests.stand_ins.tiny_models import TINY

NAMES = ("llava", "llava_next", "qwen2_5_vl", "qwen3_vl", "internvl", "instructblip", "mc_llava")
WITH_BOXES = ("llava", "qwen2_5_vl", "qwen3_vl", "internvl", "embedded")
FIXED_INPUT = ("llava", "llava_next", "instructblip", "mc_llava", "embedded")
NO_CROPS = ("llava_next", "qwen2_5_vl", "qwen3_vl", "internvl", "instructblip")
NO_BOXES = ("llava_next", "instructblip", "mc_llava")
LAYERS = {
    "llava": 4,
    "llava_next": 4,
    "qwen2_5_vl": 4,
    "qwen3_vl": 5,
    "internvl": 4,
    "instructblip": 3,
    "mc_llava": 2,
    "embedded": 4,
}
KINDS = {"mc_llava": "mc-llava", "embedded": "mc-llava"}  # model_type, where it is not the name


def settings(folder: Path | str, **sections: dict[str, Any]) -> JobSettings:
    sections["refine"] = {"layer": 1} | sections.get("refine", {})
    return JobSettings.model_validate({"manifest": "m", "output": "o", "model": {"name": str(folder)}, **sections})


def refusal(folder: Path | str, **sections: dict[str, Any]) -> str:
    with pytest.raises(ModelRefused) as refused:
        check_family(settings(folder, **sections))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def per(names: tuple[str, ...], sections: dict[str, Any], *said: str) -> list[Any]:
    return [pytest.param(name, sections, said, id=f"{name}-{json.dumps(sections)}") for name in names]


OFFICIAL = {"refine": {"mode": "official"}}
TABLE = [
    *[case for name, layers in LAYERS.items()
      for case in per((name,), {"refine": {"layer": layers}}, f"refine.layer {layers}", f"layers 0..{layers - 1}")],
    *per(("qwen3_vl", "internvl", "instructblip", "mc_llava"), {"refine": {"layer": None}}, "refine.layer is null"),
    *per(NO_CROPS, {"views": {"max_crops": 4}}, "max_crops 4", "expected 0"),
    *per(NO_CROPS, {"views": {"policy": "official"}}, "policy 'official'", "expected 0 and 'strict'"),
    *per(("llava", *NO_CROPS), {"views": {"num_tokens": 100}}, "num_tokens 100", "expected null"),
    *per(("llava", *NO_CROPS), {"views": {"token_split": "even"}}, "token_split 'even'", "'official'"),
    *per(("mc_llava", "embedded"), {"views": {"num_tokens": 4, "max_crops": 4}}, "num_tokens 4 for up to 5 views"),
    *per(("internvl", "instructblip", "mc_llava", "embedded"), {"views": {"fit": "pad"}}, "views.fit 'pad'", "can do squash"),
    *per(("llava_next", "qwen2_5_vl", "qwen3_vl"), {"views": {"fit": "squash"}}, "views.fit 'squash'", "nothing but"),
    *per(FIXED_INPUT, {"views": {"resolution_px": 512}}, "resolution_px 512", "fixed size", "null"),
    *per(FIXED_INPUT, {"views": {"zoom_px": 0}}, "zoom_px 0", "expected null"),
    *per(("llava_next", "internvl", "mc_llava"), OFFICIAL, "refine.mode 'official'", "one plain grid", "'corrected'"),
    *per(("llava",), OFFICIAL, "refine.mode 'official'", "views.fit None", "expected 'centre_crop'"),
    *per(("llava",), OFFICIAL | {"views": {"fit": "centre_crop", "max_crops": 4}}, "max_crops 4", "one plain grid"),
    *per(("embedded",), OFFICIAL | {"views": {"num_tokens": 20}}, "num_tokens 20", "one plain grid"),
    *per(("instructblip",), {"refine": {"boost": 2.5}}, "refine.boost 2.5", "expected 1"),
    *per(NO_BOXES, {"select": {"method": "acs_free"}}, "select.method 'acs_free'", "no boxes", "'greedy'"),
    *per(NO_BOXES, {"select": {"method": "random"}}, "select.method 'random'", "no boxes"),
    *per(NO_BOXES, {"prompt": {"template": "locate"}}, "prompt.template 'locate'", "short or plain"),
    *per(("embedded",), {"prompt": {"template": "closely"}}, "prompt.template 'closely'", "one form", "short or plain"),
    *per((*NAMES, "embedded"), {"prompt": {"question": "Look!"}}, "prompt.question 'Look!'", "{question}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sections", "said"), TABLE)
def test_a_setting_that_cannot_be_honoured(
    folders: dict[str, Path], name: str, sections: dict[str, Any], said: tuple[str, ...]
) -> None:
    message = refusal(folders[name], **sections)
    for part in (KINDS.get(name, name), *said):
        assert part in message, message


HONOURED = [
    *[pytest.param(name, {"refine": {"method": method}}, id=f"{name}-{method}")
      for name in (*NAMES, "embedded") for method in ("rel_att", "grad_att", "pure_grad", "auto", "none")],
    *per((*NAMES, "embedded"), {"refine": {"method": "fixed", "regions_unit": [[0, 0, 0.5, 1]], "layer": None}}),
    *per((*NAMES, "embedded"), {"prompt": {"template": "plain"}}),
    *per(NAMES, {"prompt": {"template": "characters"}}),
    *per((*NAMES, "embedded"), {"prompt": {"template": "locate", "question": "Box of {question}"}}),
    *per((*NAMES, "embedded"), {"model": {"dtype": "bfloat16", "device": "cpu"}}),
    *per((*NAMES, "embedded"), {"refine": {"method": "pure_grad", "layer": None}}),
    *per((*NAMES, "embedded"), {"refine": {"regions": 3, "block_px": 512, "base_window_px": 64}, "fusion": {"scales": [2]}}),
    *per(WITH_BOXES, {"prompt": {"template": "locate"}, "select": {"method": "medoid"}}),
    *per(("llava", "llava_next", "qwen2_5_vl", "qwen3_vl", "internvl", "mc_llava", "embedded"), {"refine": {"boost": 3}}),
    *per(("qwen2_5_vl", "qwen3_vl", "instructblip", "embedded"), OFFICIAL),
    *per(("llava",), OFFICIAL | {"views": {"fit": "centre_crop"}}),
    *per(("llava",), {"views": {"fit": "squash", "max_crops": 9, "policy": "official"}}),
    *per(("mc_llava", "embedded"), {"views": {"max_crops": 9, "num_tokens": 30, "token_split": "even", "policy": "official"}}),
    *per(("qwen2_5_vl", "qwen3_vl", "internvl"), {"views": {"resolution_px": 112, "zoom_px": 96}}),
    *per(("embedded",), {"refine": {"layer": None}}),
    *per((*NAMES,), {"refine": {"method": "none", "layer": None, "mode": "official"}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sections", "said"), [pytest.param(*c.values[:2], (), id=c.id) for c in HONOURED])
def test_a_setting_that_can(folders: dict[str, Path], name: str, sections: dict[str, Any], said: tuple[str, ...]) -> None:
    sections = json.loads(json.dumps(sections))
    sections["model"] = sections.get("model", {}) | {"name": str(folders[name])}
    assert check_family(settings(folders[name], **sections)) == folders[name]


def test_what_reads_no_pages_is_refused_where_pages_are_read(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """And what only answers need is not asked for: this model has no layer to look at."""
    folder = folders["qwen3_vl"]
    pages = JobSettings.model_validate({"manifest": "m", "output": "o", "model": {"name": str(folder)}, "task": "ocr"})
    assert check_family(pages) == folder
    able = QwenVl.abilities(json.loads((folder / "config.json").read_bytes()))
    monkeypatch.setattr(QwenVl, "abilities", lambda config: replace(able, reads=False))
    with pytest.raises(ModelRefused, match="this qwen3_vl reads no pages"):
        check_family(pages)
    assert check_family(settings(folder)) == folder


@pytest.mark.parametrize("method", ["acs_free", "acs_learned", "inside_mass"])
def test_selectors_that_go_by_attention_without_a_profile(folders: dict[str, Path], method: str) -> None:
    assert "profile.json; expected one" in refusal(folders["llava"], select={"method": method})
    assert "no own.json" in refusal(folders["llava"], select={"method": method, "profile": "own.json"})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", [(), ("text_config",)], ids=["whole", "decoder"])
def test_quantised_weights(folders: dict[str, Path], tmp_path: Path, name: str, part: tuple[str, ...]) -> None:
    config = json.loads((folders[name] / "config.json").read_bytes())
    holder = config[part[0]] if part else config
    holder["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    message = refusal(folder_with(tmp_path, config))
    assert "quantised by 'bitsandbytes'" in message and KINDS.get(name, name) in message and "expected float32" in message


NO_TENSORS = (2).to_bytes(8, "little") + b"{}"


def folder_with(folder: Path, config: Any, *files: str) -> Path:
    """A folder that looks like a model's, as far as the gate looks."""
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / "model.safetensors").write_bytes(NO_TENSORS)
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "qwen2_vl"}, ("model_type 'qwen2_vl'", "did you mean 'qwen2_5_vl'")),
        ({"model_type": "resnet"}, ("model_type 'resnet'", str(sorted(FAMILIES)))),
        ({"model_type": ["llava"]}, ("model_type ['llava']", "expected one of")),
        ({}, ("model_type None", "expected one of")),
        ([], ("model_type None",)),
        ({"model_type": "internvl", "text_config": {"model_type": "no such"}}, ("no configuration of internvl", "no such")),
        ({"model_type": "llava", "text_config": 3}, ("no configuration of llava",)),
        ({"model_type": "qwen3_vl", "text_config": {"num_hidden_layers": "many", "hidden_size": 1}}, ("qwen3_vl", "many")),
        ({"model_type": "mc-llava", "text_config": [1]}, ("no configuration of mc-llava",)),
        ("{", ("config.json is not JSON",)),
        ({"model_type": "llava", "auto_map": {"AutoModel": "code.py"}}, ("holds 'auto_map'", "their own code")),
        ({"model_type": "llava", "text_config": {"a": [{"trust_remote_code": True}]}}, ("holds 'trust_remote_code'",)),
    ],
)  # fmt: skip
def test_other_configurations(tmp_path: Path, config: Any, said: tuple[str, ...]) -> None:
    message = refusal(folder_with(tmp_path, config))
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    "file",
    ["pytorch_model.bin", "weights.pt", "modeling_llava.py", "model.pkl", "model.ckpt", "extra/inner.bin", "config.json.exe"],
)
def test_files_that_may_hold_code(tmp_path: Path, file: str) -> None:
    message = refusal(folder_with(tmp_path, {"model_type": "llava"}, file))
    assert repr(Path(file).name) in message and ".safetensors" in message


def test_folders_that_are_none(tmp_path: Path) -> None:
    assert "no folder there" in refusal(tmp_path / "absent")
    assert "expected config.json" in refusal(tmp_path)
    (tmp_path / "inner").mkdir()
    folder_with(tmp_path / "inner", {"model_type": "llava"})
    assert "expected config.json" in refusal(tmp_path), "files count where they lie"
    (tmp_path / "config.json").write_text("{}")
    assert "at least one *.safetensors" in refusal(tmp_path)
    os.symlink(tmp_path / "nowhere", tmp_path / "model.safetensors")
    assert "'model.safetensors'" in refusal(tmp_path), "a link to nothing"


@pytest.mark.parametrize("name", ["internvl", "instructblip", "mc_llava_native"])
def test_weights_that_lack_a_tensor(tmp_path: Path, name: str) -> None:
    """The library would draw it at random."""
    from safetensors.torch import load_file, save_file

    folder = TINY[name](tmp_path / name, 0)
    state = load_file(folder / "model.safetensors")
    lost = next(key for key in sorted(state) if "layers.1." in key and key.endswith("weight") and "norm" not in key)
    save_file({key: value for key, value in state.items() if key != lost}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelRefused, match="weights lack or misfit 1 tensors"):
        load_family(ModelSettings(name=str(folder), device="cpu"), ViewSettings(), PromptSettings())
