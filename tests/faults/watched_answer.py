"""A program: answers one picture with each of its models while an audit hook writes down what must not happen.

With `--part` it also does a worker's work on a manifest of hostile names: reading, decoding, journal and commit.

Prints one JSON object: classes that a pickle found, files outside the libraries and this project that were compiled or
run, network addresses that were asked for, programs that were started, and how many pieces of code were looked at.
"""

import json
import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOMES = tuple({os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), ROOT)})
looked_at = [0]
seen: dict[str, list[str]] = {"find_class": [], "foreign_code": [], "network": [], "programs": []}


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        seen["find_class"].append(".".join(map(str, arguments)))
    elif event == "exec":
        _code(getattr(arguments[0], "co_filename", "?"))
    elif event == "compile" and arguments[1] is not None:
        _code(os.fsdecode(arguments[1]))
    elif event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        seen["network"].append(f"{event} {arguments[1:3] if event != 'socket.getaddrinfo' else arguments[:2]}")
    elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"):
        seen["programs"].append(f"{event} {arguments[0]!r}")


def _code(name: str) -> None:
    looked_at[0] += 1
    generated = name.startswith("<")  # dataclasses and their like; what a file holds has the file's name
    if not generated and not os.path.realpath(name).startswith(HOMES):
        seen["foreign_code"].append(name)


def answer(models: list[str]) -> list[str]:
    """Load each model and ask it; what it said."""
    import numpy as np

    from ray_pipeline.actor import Actor, Asked
    from schemas.job import JobSettings
    from schemas.picture import Picture

    picture = Picture(np.random.default_rng(3).integers(0, 255, (120, 160, 3), np.uint8), "noise")
    said = []
    for name in models:
        model = {"name": name, "device": "cpu"}
        settings = JobSettings.model_validate(
            {"manifest": "m", "output": "o", "model": model, "refine": {"layer": 1}, "prompt": {"max_new_tokens": 4}}
        )
        ended = Actor(settings).answer({0: Asked(picture, "What is it?")})[0]
        said.append(type(ended).__name__)
    return said


def part() -> int:
    """Parts that a worker has done in this process, but for the model, which lives in its own."""
    from tests.faults import hostile_names

    with tempfile.TemporaryDirectory() as place:
        ids = hostile_names.usable_ids()[:64]
        return hostile_names.parts_alone(hostile_names.written(Path(place), ids, ["a.jpg"] * len(ids)))


if __name__ == "__main__":
    sys.addaudithook(hook)
    models = [name for name in sys.argv[1:] if name != "--part"]
    done = {"said": answer(models), "parts": part() if len(models) < len(sys.argv) - 1 else 0}
    print(json.dumps(done | {"looked_at": looked_at[0]} | seen))
