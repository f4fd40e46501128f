"""The model families by name: which adapter reads which `model_type`, and what must be known of it before it is loaded."""

import difflib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ray_pipeline.models.contract import Abilities, Family
from ray_pipeline.models.weights import ModelRefused
from schemas.model import ModelSettings, PromptSettings, ViewSettings


class Adapter(Protocol):
    """What a family's class can do before anything is loaded."""

    def abilities(self, config: dict[str, Any]) -> Abilities:
        """What a folder's config.json says that this model can honour. May raise ModelRefused, or whatever a parser does."""
        ...

    def load(self, folder: Path, model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> Family:
        """A loaded family from a folder that has passed the gate. Raises ModelRefused where files misfit each other."""
        ...


@dataclass(frozen=True)
class Registered:
    """Where an adapter is. `sees_lines`: its visual tokens are what the networks beside the model read, which are part of it."""

    module: str
    name: str
    sees_lines: bool = False

    def adapter(self) -> Adapter:
        """Its module is loaded when first asked for, with what it imports that takes seconds: a run needs one."""
        adapter: Adapter = getattr(importlib.import_module(f"ray_pipeline.models.{self.module}"), self.name)
        return adapter


FAMILIES = {  # `model_type` of config.json -> adapter
    "instructblip": Registered("instructblip", "InstructBlip"),
    "internvl": Registered("internvl", "InternVl"),
    "line-llava": Registered("line_llava", "LineLlava", sees_lines=True),
    "llava": Registered("llava", "Llava"),
    "llava_next": Registered("llava_next", "LlavaNext"),
    "mc-llava": Registered("mc_llava", "McLlava"),
    "qwen2_5_vl": Registered("qwen_vl", "QwenVl"),
    "qwen3_vl": Registered("qwen_vl", "QwenVl"),
}


def declared(folder: Path) -> tuple[str, dict[str, Any]]:
    """The model type, one of FAMILIES, and all of config.json, of a folder that has passed the gate.

    Raises:
        ModelRefused: it says no model type, or an unknown one.
    """
    file = folder / "config.json"
    config = json.loads(file.read_bytes())
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in FAMILIES:
        near = difflib.get_close_matches(str(kind), FAMILIES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ModelRefused(f"model_type {kind!r} in {file}; expected one of {sorted(FAMILIES)}{hint}")
    return kind, config
