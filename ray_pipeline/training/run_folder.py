"""What a training keeps in its folder: `checkpoint.pt`, from which a later run goes on, and `log.jsonl`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


class RunFolder:
    """The folder of one run, and by their names in the checkpoint the parts whose states it keeps."""

    def __init__(self, path: Path, parts: Mapping[str, nn.Module | Optimizer | list[Optimizer]]) -> None:
        self.path, self.parts = path, parts

    def save(self, **rest: object) -> None:
        """Write all states and the rest beside them; a killed save leaves the checkpoint before it."""
        states = {
            name: [one.state_dict() for one in part] if isinstance(part, list) else part.state_dict()
            for name, part in self.parts.items()
        }
        torch.save(states | rest, self.path / "checkpoint.part")
        (self.path / "checkpoint.part").replace(self.path / "checkpoint.pt")

    def resume(self) -> dict[str, Any]:
        """Put the checkpoint's states into the parts; returns the rest of it, empty where there is no checkpoint."""
        path = self.path / "checkpoint.pt"
        if not path.exists():
            return {}
        state: dict[str, Any] = torch.load(path, weights_only=True)
        for name, part in self.parts.items():
            saved = state.pop(name)
            for one, own in zip(part, saved, strict=True) if isinstance(part, list) else [(part, saved)]:
                one.load_state_dict(own)
        return state

    def log(self, line: Mapping[str, object]) -> None:
        """Add one line of JSON."""
        with (self.path / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
