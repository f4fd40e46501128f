"""Model folders that bring code: how many pass the gate, with and without assertions, and what loading a model runs."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.faults.figures import Figure, Figures
from tests.faults.model_disguises import DISGUISES, HARMLESS, sweep

OPTIMISED = """
import json, sys
from pathlib import Path
from tests.faults.model_disguises import DISGUISES, sweep
found = sweep(Path(sys.argv[1]), DISGUISES)
print(json.dumps([len(found.refused), len(found.let_through), len(found.executed)]))
"""
FAMILIES = ("llava", "qwen2_5_vl")


def measure() -> Figures:
    """Every disguise shown to the gate twice; models loaded and asked, and a part done, under an audit hook."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        bad, good = sweep(root / "bad", DISGUISES), sweep(root / "good", HARMLESS)
        refused, through, executed = json.loads(_program("-O", "-c", OPTIMISED, str(root / "optimised")))
        seen = _watched(root)
    shown = len(DISGUISES)
    return [
        Figure("disguises refused", len(bad.refused), shown, shown, at_most=False),
        Figure("disguises let through", len(bad.let_through), 0, shown),
        Figure("disguises refused without assertions", refused, shown, shown, at_most=False),
        Figure("disguises let through without assertions", through, 0, shown),
        Figure("payloads executed", len(bad.executed) + executed, 0, 2 * shown),
        Figure("published oddities refused", len(good.refused), 0, len(HARMLESS)),
        Figure("classes found by pickles in a run's own processes", len(seen["find_class"]), 0, len(seen["said"])),
        Figure("foreign files compiled or run in a run's own processes", len(seen["foreign_code"]), 0, seen["looked_at"]),
        Figure("names and connections asked for in a run's own processes", len(seen["network"]), 0, len(seen["said"])),
    ]


def _watched(root: Path) -> dict[str, Any]:
    from tests.stand_ins.tiny_models import TINY

    folders = [str(TINY[name](root / name, 0)) for name in FAMILIES]
    seen: dict[str, Any] = json.loads(_program("-m", "tests.faults.watched_answer", "--part", "embedded", *folders))
    if seen["said"] != ["Seen"] * (1 + len(FAMILIES)) or not seen["parts"]:
        raise RuntimeError(f"the models said {seen['said']}, parts {seen['parts']}; expected an answer of each and a part")
    return seen


def _program(*arguments: str) -> str:
    kept = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    done = subprocess.run([sys.executable, *arguments], env=kept, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout
