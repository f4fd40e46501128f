"""Model families by name, and how a folder becomes a loaded one."""

import difflib
import json
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from ray_pipeline.models.contract import Family
from ray_pipeline.models.mc_llava import McLlava
from ray_pipeline.models.weights import ModelRefused, model_folder
from schemas.methods import RefineSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings

FAMILIES = {"mc-llava": McLlava}  # `model_type` of config.json -> adapter


def check_family(model: ModelSettings, refine: RefineSettings) -> Path:
    """The model's folder, after everything that can be known without loading weights has been checked.

    Raises:
        ModelRefused: the folder, its model type, or a setting this model cannot honour.
    """
    folder = model_folder(model.name)
    config = json.loads((folder / "config.json").read_bytes())
    kind = config.get("model_type")
    if kind not in FAMILIES:
        near = difflib.get_close_matches(str(kind), FAMILIES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ModelRefused(f"model_type {kind!r} in {folder / 'config.json'}; expected one of {sorted(FAMILIES)}{hint}")
    layers = int(config.get("text_config", {}).get("num_hidden_layers", 0))
    profiled = (config.get("focus") or {}).get("layer")
    if refine.method != "none":
        if refine.layer is None and profiled is None:
            raise ModelRefused(f"refine.layer is null and {folder} has no profile; expected a decoder layer, 0..{layers - 1}")
        if refine.layer is not None and refine.layer >= layers:
            raise ModelRefused(f"refine.layer {refine.layer}; this model has layers 0..{layers - 1}")
    return folder


def load_family(model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> Family:
    """Load a checked folder's weights onto the configured device."""
    folder = model_folder(model.name)
    disable_progress_bar()  # a bar per process says nothing about the run
    kind = json.loads((folder / "config.json").read_bytes())["model_type"]
    return FAMILIES[kind].load(folder, model, views, prompt)
