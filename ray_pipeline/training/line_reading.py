"""Training of the line reader: rendered lines without end, CTC loss, a running mean of the weights, wall-clock schedule.

One process renders, one trains. A run continues from its folder's `checkpoint.pt` (network, mean,
optimiser, minutes spent); the learning rate falls with the minutes spent of those planned, so a later run with
more planned minutes goes on where the rate then stands.
"""

import math
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from ray_pipeline.models.line_reader import (
    COLUMN_PX,
    LineNetwork,
    LineReader,
    LineReaderConfig,
    batch_strips,
    fit_strip,
    padded_width,
)
from ray_pipeline.synthesis.fonts import evaluation_fonts
from ray_pipeline.synthesis.line_strips import LineRenderer, LineStrip
from ray_pipeline.training.run_folder import RunFolder
from ray_pipeline.training.running_mean import follow

FittedStrip = NDArray[np.float32]


@dataclass(frozen=True)
class ReadingRecipe:
    """What one run of training does."""

    minutes: float = 80.0  # planned in all, runs before this one included
    peak_rate: float = 2e-3
    last_rate: float = 2e-5
    warmup_steps: int = 200
    batch_px: int = 3000  # columns per step: about 15 lines
    pool_lines: int = 240  # lines rendered and sorted by width before they are cut into batches
    plain_lines: int = 20_000  # of a new network, see LineRenderer
    mean_decay: float = 0.998
    save_minutes: float = 4.0
    check_lines: int = 200
    seed: int = 5


@dataclass(frozen=True)
class LineBatch:
    """Strips of similar width with the classes of their texts, one after another, and how many each has."""

    strips_B1YX: Tensor
    classes: Tensor
    lengths: Tensor


class RenderedLines(IterableDataset[LineBatch]):
    """Batches of freshly rendered lines without end; the seed follows from the lines `seen` before."""

    def __init__(self, fonts: Sequence[str], alphabet: str, recipe: ReadingRecipe, seen: int) -> None:
        self._fonts, self._alphabet, self._recipe, self._seen = list(fonts), alphabet, recipe, seen

    def __iter__(self) -> Iterator[LineBatch]:
        seed = self._recipe.seed + 7919 * self._seen
        renderer = LineRenderer(self._fonts, seed, self._recipe.plain_lines - self._seen)
        order = np.random.default_rng(seed)
        while True:
            pool = [learnable for _ in range(self._recipe.pool_lines) if (learnable := _learnable(renderer.line()))]
            batches = batched(pool, self._alphabet, self._recipe.batch_px)
            yield from (batches[which] for which in order.permutation(len(batches)))


def _learnable(line: LineStrip) -> tuple[FittedStrip, str] | None:
    """A fitted strip with its text, or None where the text needs more columns than the strip has."""
    fitted = fit_strip(line.grey_YX)
    repeats = sum(first == second for first, second in zip(line.text, line.text[1:], strict=False))
    return (fitted, line.text) if len(line.text) + repeats <= fitted.shape[1] // COLUMN_PX and fitted.shape[1] <= 960 else None


def batched(pool: list[tuple[FittedStrip, str]], alphabet: str, batch_px: int) -> list[LineBatch]:
    """Lines sorted by width and cut so that a batch has about `batch_px` columns, padding included."""
    place = {character: index + 1 for index, character in enumerate(alphabet)}
    lines = sorted(pool, key=lambda line: line[0].shape[1])
    batches = []
    while lines:
        count = max(1, batch_px // padded_width(lines[-1][0]))
        part, lines = lines[-count:], lines[:-count]
        classes = [place[character] for _, text in part for character in text]
        lengths = torch.tensor([len(text) for _, text in part])
        batches.append(LineBatch(batch_strips([strip for strip, _ in part]), torch.tensor(classes), lengths))
    return batches


def reading_loss(logits_BWC: Tensor, batch: LineBatch) -> Tensor:
    """CTC loss in nats per character, mean over the lines."""
    log_probs_WBC = logits_BWC.float().log_softmax(-1).transpose(0, 1)
    widths = torch.full((len(batch.lengths),), log_probs_WBC.shape[0])
    return nn.functional.ctc_loss(log_probs_WBC, batch.classes, widths, batch.lengths, zero_infinity=True)


def edits(read: str, meant: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(meant) + 1))
    for i, left in enumerate(read, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(meant, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


def reading_accuracy(reader: LineReader, lines: Sequence[LineStrip]) -> dict[str, float]:
    """Share of characters right (1 - edits / length, whole set) and of lines right to the last character."""
    read = reader.read([line.grey_YX for line in lines])
    wrong = sum(edits(found.text, line.text) for found, line in zip(read, lines, strict=True))
    whole = sum(found.text == line.text for found, line in zip(read, lines, strict=True))
    return {"characters": 1 - wrong / sum(len(line.text) for line in lines), "whole_lines": whole / len(lines)}


class ReaderTrainer:
    """Network, running mean, optimiser and the clock of a training in `folder`."""

    def __init__(self, fonts: Sequence[str], recipe: ReadingRecipe, folder: Path, config: LineReaderConfig | None = None) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.config = recipe, config or LineReaderConfig()
        self.network = LineNetwork(self.config)
        self.mean = deepcopy(self.network)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), recipe.peak_rate, weight_decay=0.01, fused=True)
        self.folder = RunFolder(folder, {"network": self.network, "mean": self.mean, "optimiser": self.optimiser})
        self.steps, self.lines, self.minutes = 0, 0, 0.0
        self._fonts = fonts
        self._bfloat16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()

    def resume(self) -> None:
        """Continue from the folder's checkpoint, if it has one."""
        if rest := self.folder.resume():
            self.steps, self.lines, self.minutes = rest["steps"], rest["lines"], rest["minutes"]

    def start_from(self, path: Path) -> None:
        """Take the weights of an exported reader; optimiser and clock start anew."""
        state = LineReader.load(path).network.state_dict()
        self.network.load_state_dict(state)
        self.mean.load_state_dict(state)

    def run(self, most_steps: int | None = None) -> None:
        """Train until the planned minutes are spent (or for `most_steps`), saving and measuring on the way."""
        data = RenderedLines(self._fonts, self.config.alphabet, self.recipe, self.lines)
        batches = iter(
            DataLoader(
                data,
                batch_size=None,
                num_workers=1 if most_steps is None else 0,
                prefetch_factor=24 if most_steps is None else None,
            )
        )
        held_out = LineRenderer(evaluation_fonts(), 99)
        check = [held_out.line() for _ in range(self.recipe.check_lines)]
        begun, spent = time.monotonic(), self.minutes
        saved, losses, until = spent, [], self.steps + (most_steps or 10**9)
        while self.minutes < self.recipe.minutes and self.steps < until:
            losses.append(self.step(next(batches)))
            self.minutes = spent + (time.monotonic() - begun) / 60
            if self.minutes - saved >= self.recipe.save_minutes:
                saved = self.minutes
                self.save()
                self._log({"loss": float(np.mean(losses)), **reading_accuracy(LineReader(self.mean, self.config), check)})
                losses = []

    def step(self, batch: LineBatch) -> float:
        """One step of the optimiser; returns the loss in nats per character."""
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            logits_BWC = self.network(batch.strips_B1YX)
        loss = reading_loss(logits_BWC, batch)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimiser.step()
        self.steps += 1
        self.lines += len(batch.lengths)
        follow(self.mean, self.network, self.steps, self.recipe.mean_decay, warmup=50)
        return loss.item()

    def rate(self) -> float:
        """Learning rate now: a short rise, then half a cosine over the planned minutes."""
        recipe = self.recipe
        rise = min(1.0, (self.steps + 1) / recipe.warmup_steps)
        fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.minutes / recipe.minutes))
        return rise * (recipe.last_rate + (recipe.peak_rate - recipe.last_rate) * fall)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        self.folder.save(steps=self.steps, lines=self.lines, minutes=self.minutes)

    def export(self, path: Path) -> None:
        """The running mean as a reader that the program can load."""
        LineReader(self.mean, self.config).save(path)

    def _log(self, figures: dict[str, float]) -> None:
        state = {"minutes": self.minutes, "steps": self.steps, "lines": self.lines, "rate": self.rate()}
        rounded = {name: round(value, 6) for name, value in (state | figures).items()}
        self.folder.log(rounded | ({"recipe": asdict(self.recipe)} if self.steps < 500 else {}))
