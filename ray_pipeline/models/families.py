"""Model families by name, what each can honour, and how a folder becomes a loaded one."""

import difflib
import json
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from ray_pipeline.models.contract import Abilities, Family
from ray_pipeline.models.instructblip import InstructBlip
from ray_pipeline.models.internvl import InternVl
from ray_pipeline.models.llava import Llava
from ray_pipeline.models.llava_next import LlavaNext
from ray_pipeline.models.mc_llava import McLlava
from ray_pipeline.models.qwen_vl import QwenVl
from ray_pipeline.models.weights import ModelRefused, model_folder
from schemas.job import JobSettings
from schemas.methods import RefineSettings, SelectSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings

FAMILIES = {  # `model_type` of config.json -> adapter
    "instructblip": InstructBlip,
    "internvl": InternVl,
    "llava": Llava,
    "llava_next": LlavaNext,
    "mc-llava": McLlava,
    "qwen2_5_vl": QwenVl,
    "qwen3_vl": QwenVl,
}


def check_family(settings: JobSettings) -> Path:
    """The model's folder, after everything that can be known without loading weights has been checked.

    Raises:
        ModelRefused: the folder, its model type, or a setting this model cannot honour.
    """
    folder = model_folder(settings.model.name)
    config = json.loads((folder / "config.json").read_bytes())
    kind = config.get("model_type")
    if kind not in FAMILIES:
        near = difflib.get_close_matches(str(kind), FAMILIES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ModelRefused(f"model_type {kind!r} in {folder / 'config.json'}; expected one of {sorted(FAMILIES)}{hint}")
    able = FAMILIES[kind].abilities(config)
    for refusal in (
        _refine(kind, settings.refine, able), _select(kind, settings.select, able), _views(kind, settings.views, able),
        _prompt(kind, settings.prompt, able),
    ):  # fmt: skip
        if refusal:
            raise ModelRefused(refusal)
    return folder


def _refine(kind: str, refine: RefineSettings, able: Abilities) -> str | None:
    if refine.method == "none":
        return None
    if refine.method not in able.focus:
        return f"refine.method {refine.method!r} with {kind}; it can do {_listed(able.focus)} and none"
    if refine.layer is not None and refine.layer >= able.layers:
        return f"refine.layer {refine.layer}; this {kind} has layers 0..{able.layers - 1}"
    if refine.layer is None and able.profiled_layer is None and refine.method != "pure_grad":
        return (
            f"refine.layer is null and this {kind} revision has no profile; expected a decoder layer, 0..{able.layers - 1}"
            " (about half way up is a fair first choice), or a profile"
        )
    if refine.mode == "official" and not able.official:
        return f"refine.mode 'official' with {kind}; the published code needs one plain grid of tokens, expected 'corrected'"
    if refine.boost != 1.0 and not able.boost:
        return f"refine.boost {refine.boost} with {kind}; its attention to a region cannot be reweighted, expected 1"
    return None


def _select(kind: str, select: SelectSettings, able: Abilities) -> str | None:
    if select.method == "greedy" or able.boxes:
        return None
    return f"select.method {select.method!r} with {kind}; it writes no boxes to choose among, expected 'greedy'"


def _views(kind: str, views: ViewSettings, able: Abilities) -> str | None:
    if views.max_crops and not able.crops:
        return f"views.max_crops {views.max_crops} with {kind}; it cuts a picture by its own rule, expected 0"
    if views.num_tokens is not None and not able.crops:
        return f"views.num_tokens {views.num_tokens} with {kind}; it shows every token it makes, expected null"
    if views.fit is not None and views.fit not in able.fits:
        return f"views.fit {views.fit!r} with {kind}; it can do {_listed(able.fits)}"
    if views.resolution_px is not None and not able.resolution:
        return f"views.resolution_px {views.resolution_px} with {kind}; its input has a fixed size, expected null"
    if views.zoom_px is not None and not able.resolution:
        return f"views.zoom_px {views.zoom_px} with {kind}; every view fills its fixed input, expected null"
    return None


def _prompt(kind: str, prompt: PromptSettings, able: Abilities) -> str | None:
    if prompt.template != "locate" or able.boxes or prompt.question is not None:
        return None
    return f"prompt.template 'locate' with {kind}; it writes no boxes, expected short or plain"


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def load_family(model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> Family:
    """Load a checked folder's weights onto the configured device."""
    folder = model_folder(model.name)
    disable_progress_bar()  # a bar per process says nothing about the run
    config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    return FAMILIES[config["model_type"]].load(folder, model, views, prompt)
