"""The named runs that ship: each is a legal config of a command, and its model answers or reads synthetic pictures with it."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import yaml

from jobs.options import add_run_options, resolve
from ray_pipeline.actor import Actor, Asked
from ray_pipeline.models.families import check_family
from ray_pipeline.models.weights import PACKAGED
from ray_pipeline.perceiver import Seen
from ray_pipeline.synthesis.document_pages import sample_document
from ray_pipeline.synthesis.fonts import evaluation_fonts
from schemas.picture import Picture
from schemas.reading import Task
from tests.stand_ins.tiny_models import TINY

CONFIGS = Path(__file__).resolve().parents[2] / "jobs" / "configs"
# name -> command, model (a family with small random weights, or a packaged one), what its weights cannot know by themselves
PRESETS: dict[str, tuple[Task, str, list[str]]] = {
    "receipts_answers": ("answer", "documents", []),
    "smoke_cpu": ("answer", "embedded", []),
    "small_text": ("answer", "qwen2_5_vl", ["refine.layer=1"]),
    "lesion": ("answer", "internvl", ["refine.layer=1", "views.resolution_px=112", "views.zoom_px=96"]),
    "micro_defect": ("answer", "llava", []),
    "archive_ocr": ("ocr", "embedded", []),
    "receipts_ocr": ("ocr", "embedded", []),
}


def blocks() -> Picture:
    noise = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
    return Picture(noise.repeat(8, 0).repeat(8, 1), "0" * 64)


def test_every_named_run_is_tried() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(PRESETS)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_named_run_works(name: str, tmp_path: Path) -> None:
    task, model, chosen = PRESETS[name]
    folder = model if model in PACKAGED else str(TINY[model](tmp_path / "model", 0))
    parser = argparse.ArgumentParser()
    add_run_options(parser)
    given = ["--config", str(CONFIGS / f"{name}.yaml"), "--manifest", "m.parquet", "--output", "out", "--model", folder]
    short = ["prompt.max_new_tokens=6", *chosen] if task == "answer" else chosen
    settings = resolve(parser.parse_args(given + [word for one in short for word in ("--set", one)]), {}, task)
    check_family(settings)
    written = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert settings.refine.method == written.get("refine", {}).get("method", "rel_att")
    document = sample_document(7, evaluation_fonts(), (14.0, 16.0), 12, worn=False)
    picture = blocks() if task == "answer" else Picture(document.rgb, "0" * 64)
    seen = Actor(settings).answer({0: Asked(picture, "What is on sign 12?" * (task == "answer"))})[0]
    assert isinstance(seen, Seen), seen
    if task == "ocr":
        words = [word for line in document.lines for word in line.text.split()]
        assert sum(word in seen.perception.answer.split() for word in words) >= 0.6 * len(words) >= 12
    elif name == "micro_defect":
        assert seen.perception.refinement.crops_px == ((0.0, 0.0, 320.0, 48.0), (0.0, 192.0, 320.0, 240.0))
