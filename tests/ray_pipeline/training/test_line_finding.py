"""What the line finder is taught: targets that give back the lines they were made of, and a run that goes on."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.train_finder import export
from ray_pipeline.models.line_finder import STRIDE, UNIT_PX, LineFinder, lines_of
from ray_pipeline.synthesis.fonts import evaluation_fonts
from ray_pipeline.training.line_finding import CutMaker, FinderRecipe, FinderTrainer, finder_loss, targets_of

SMALL = FinderRecipe(minutes=60, batch=2, side_px=96, pages_kept=2, printed_px=(10, 11), most_rows=6)


def outline(x0: float, x1: float, middle: float, slope: float, height: float) -> np.ndarray:
    x = np.linspace(x0, x1, 5, dtype=np.float32)
    y = middle + slope * (x - (x0 + x1) / 2)
    return np.stack([np.stack([x, y - height / 2], 1), np.stack([x, y + height / 2], 1)]).astype(np.float32)


def ruled(rows: int = 160, columns: int = 240) -> np.ndarray:
    """Contrast everywhere, so that no line is too faint to be asked for."""
    return np.tile(np.asarray([0, 255], np.uint8), (rows, columns // 2))


def test_cells_of_a_level_line() -> None:
    targets = targets_of([outline(8, 24, 20, 0.0, 16)], ruled(40, 40))
    assert np.argwhere(targets.core_YX).tolist() == [[row, column] for row in (4, 5) for column in (2, 3, 4, 5)]
    assert targets.upper_YX[4, 2] == pytest.approx(math.log(6 / UNIT_PX))  # the cell's middle, y 18, to the edge at 12
    assert targets.lower_YX[4, 2] == pytest.approx(math.log(10 / UNIT_PX))
    assert targets.weight_YX.min() == 1


@pytest.mark.parametrize("slope", [0.0, 0.06, -0.06])
@pytest.mark.parametrize("height", [6.0, 14.0, 30.0])
def test_targets_give_back_their_lines(slope: float, height: float) -> None:
    targets = targets_of([outline(20, 220, 40, slope, height), outline(20, 220, 110, slope, height)], ruled())
    found = lines_of(targets.core_YX, np.exp(targets.upper_YX) * UNIT_PX, np.exp(targets.lower_YX) * UNIT_PX)
    assert [line.middle_y_px for line in found] == pytest.approx([40, 110], abs=0.5)
    assert [line.height_px for line in found] == pytest.approx([height, height], abs=0.6)
    assert [line.slope for line in found] == pytest.approx([slope, slope], abs=0.005)
    assert all(abs(line.x0_px - 20) <= STRIDE and abs(line.x1_px - 220) <= STRIDE for line in found)


def test_what_cannot_be_seen_is_not_asked_for() -> None:
    grey = ruled()
    grey[30:50] = 200
    targets = targets_of([outline(20, 220, 40, 0.0, 12), outline(20, 220, 110, 0.0, 12)], grey)
    assert not targets.core_YX[:16].any()
    assert targets.core_YX[24:31].any()
    assert targets.weight_YX[10, 10] == 0
    assert targets.weight_YX[27].all()


def test_cuts_repeat_with_their_seed_and_hold_text() -> None:
    (ink, targets), (again, _) = (CutMaker(evaluation_fonts(), SMALL).batch() for _ in range(2))
    assert torch.equal(ink, again)
    assert ink.shape == (2, 1, 96, 96)
    assert targets.shape == (2, 4, 24, 24)
    assert targets[:, 0].max() == 1


def test_perfect_maps_cost_least() -> None:
    _, targets = CutMaker(evaluation_fonts(), SMALL).batch()
    right = torch.cat([(targets[:, :1] * 2 - 1) * 20, targets[:, 1:3]], 1)
    loss, metrics = finder_loss(right, targets)
    worse, _ = finder_loss(right + torch.tensor([0.0, 0.3, 0.0])[:, None, None], targets)
    assert float(loss) < 0.05
    assert float(worse) > float(loss) + 0.1
    assert metrics["overlap"] > 0.9


def test_a_run_goes_on_where_it_ended_and_exports(tmp_path: Path) -> None:
    FinderTrainer(evaluation_fonts(), SMALL, tmp_path).run(most_steps=2)
    second = FinderTrainer(evaluation_fonts(), SMALL, tmp_path)
    assert second.progress.step == 2
    second.run(most_steps=1)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [2, 3]
    assert all(math.isfinite(line["entropy"]) for line in log)
    export(tmp_path, tmp_path / "finder.safetensors")
    assert LineFinder.load(tmp_path / "finder.safetensors").find(np.full((40, 40), 255, np.uint8)) is not None
