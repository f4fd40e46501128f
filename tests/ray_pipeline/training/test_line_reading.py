"""Training of the line reader: batches, loss, clock, and a tiny network that learns and continues."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from jobs import train_finder, train_reader
from ray_pipeline.models.line_reader import LineReader, LineReaderConfig, fit_strip
from ray_pipeline.synthesis.fonts import evaluation_fonts
from ray_pipeline.synthesis.line_strips import LineRenderer
from ray_pipeline.training.line_reading import (
    LineBatch,
    ReaderTrainer,
    ReadingRecipe,
    batched,
    edits,
    reading_accuracy,
    reading_loss,
)

TINY = LineReaderConfig(channels=(8, 16, 16, 32), features=32, hidden=24)
RECIPE = ReadingRecipe(batch_px=1500, pool_lines=48, warmup_steps=10, plain_lines=10**9, peak_rate=5e-3)


def _batches(count: int) -> list[LineBatch]:
    renderer = LineRenderer(evaluation_fonts()[:1], 0, plain_lines=10**9)
    pool = [(fit_strip(line.grey_YX), line.text) for line in (renderer.line(f"{n % 90 + 10}") for n in range(count))]
    return batched(pool, TINY.alphabet, 1500)


def test_batches_hold_every_line_once_within_their_columns() -> None:
    batches = _batches(60)
    assert sum(len(batch.lengths) for batch in batches) == 60
    assert all(batch.strips_B1YX.shape[0] * batch.strips_B1YX.shape[3] <= 1500 for batch in batches)
    assert all(int(batch.lengths.sum()) == len(batch.classes) for batch in batches)


@pytest.mark.parametrize(
    ("read", "meant", "wrong"), [("", "", 0), ("abc", "abc", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2)]
)
def test_edits(read: str, meant: str, wrong: int) -> None:
    assert edits(read, meant) == edits(meant, read) == wrong


def test_the_loss_is_that_of_ctc() -> None:
    """Two columns, text "a", both classes equally likely: paths a-, -a, aa of four."""
    batch = LineBatch(torch.zeros(1, 1, 32, 8), torch.tensor([1]), torch.tensor([1]))
    assert reading_loss(torch.zeros(1, 2, 2), batch).item() == pytest.approx(-np.log(0.75))


def test_a_tiny_reader_learns_and_continues_where_it_stopped(tmp_path: Path) -> None:
    trainer = ReaderTrainer(evaluation_fonts()[:1], RECIPE, tmp_path, TINY)
    batches = _batches(30)
    losses = [trainer.step(batches[step % len(batches)]) for step in range(40)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    trainer.minutes = 40.0
    trainer.save()
    later = ReaderTrainer(evaluation_fonts()[:1], RECIPE, tmp_path, TINY)
    later.resume()
    assert (later.steps, later.lines, later.minutes) == (40, trainer.lines, 40.0)
    assert later.step(batches[0]) == pytest.approx(trainer.step(batches[0]), rel=0.05)
    later.export(tmp_path / "reader.safetensors")
    assert LineReader.load(tmp_path / "reader.safetensors").config == TINY


def test_a_run_takes_its_lines_from_the_renderer(tmp_path: Path) -> None:
    trainer = ReaderTrainer(evaluation_fonts()[:1], RECIPE, tmp_path, TINY)
    trainer.run(most_steps=3)
    assert trainer.steps == 3 and trainer.lines > 10
    later = ReaderTrainer(evaluation_fonts()[:1], RECIPE, tmp_path, TINY)
    trainer.export(tmp_path / "reader.safetensors")
    later.start_from(tmp_path / "reader.safetensors")
    assert later.steps == 0
    assert torch.allclose(later.network.classes.weight, trainer.mean.classes.weight, atol=1e-3)


@pytest.mark.parametrize(("minutes", "rate"), [(0, 5e-3), (40, 2.51e-3), (80, 2e-5), (200, 2e-5)])
def test_the_rate_falls_with_the_planned_minutes(tmp_path: Path, minutes: float, rate: float) -> None:
    trainer = ReaderTrainer([], RECIPE, tmp_path, TINY)
    trainer.minutes, trainer.steps = minutes, 1000
    assert trainer.rate() == pytest.approx(rate)


def test_accuracy_counts_characters_and_whole_lines(tmp_path: Path) -> None:
    trainer = ReaderTrainer([], RECIPE, tmp_path, TINY)
    lines = [LineRenderer(evaluation_fonts(), 0).line("Tea 4.00") for _ in range(2)]
    figures = reading_accuracy(LineReader(trainer.mean, TINY), lines)
    assert figures["characters"] <= 1 and figures["whole_lines"] == 0


@pytest.mark.parametrize("recipe", [train_finder, train_reader])
def test_nothing_is_exported_from_a_folder_without_a_training(
    recipe: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        recipe.main(["--folder", str(tmp_path / "none"), "--export", str(tmp_path / "out.safetensors")])
    assert ended.value.code == 2 and "no checkpoint.pt" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
