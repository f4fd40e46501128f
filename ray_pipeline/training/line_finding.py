"""Training of the line finder on rendered documents: crops at many text sizes, dense targets, the loop.

A few pages are kept and cut several times at different scales before a new one takes the place of the oldest: drawing a
page costs as much as a training step. The learning rate follows the share of the time budget that has been spent.
"""

import copy
import math
import random
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ray_pipeline.models.line_finder import STRIDE, UNIT_PX, LineFinderNetwork, ink_of
from ray_pipeline.synthesis.document_pages import DocumentPage, sample_document
from ray_pipeline.training.progress import Progress
from ray_pipeline.training.run_folder import RunFolder
from ray_pipeline.training.running_mean import follow

SMALLEST_CELLS = 0.6  # half height of the thinnest core, in cells
NARROWEST_CELLS = 2
FAINT = 4.0  # grey levels: a line of less spread cannot be seen and is not asked for
_Filter = Image.Resampling


@dataclass(frozen=True)
class FinderRecipe:
    """How long and how. `capital_px`: capital heights as the network sees them, `printed_px` as pages are drawn; log-uniform."""

    minutes: float = 50.0
    batch: int = 8
    side_px: int = 384
    capital_px: tuple[float, float] = (4.5, 32.0)
    printed_px: tuple[float, float] = (10.0, 28.0)
    most_rows: int = 45
    lr: float = 2.5e-3
    pages_kept: int = 24
    cuts_a_page: int = 20
    average: float = 0.998
    seed: int = 1


@dataclass(frozen=True)
class Targets:
    """Per cell: `core` 0 or 1, `upper` and `lower` log distances over UNIT_PX (meaningful in the core), `weight` 0 or 1."""

    core_YX: NDArray[np.float32]
    upper_YX: NDArray[np.float32]
    lower_YX: NDArray[np.float32]
    weight_YX: NDArray[np.float32]


def targets_of(outlines_px: list[NDArray[np.float32]], grey_YX: NDArray[np.uint8]) -> Targets:
    """Dense targets of a cut-out whose lines have these outlines, (2, points, 2) in its pixels."""
    shape = (grey_YX.shape[0] // STRIDE, grey_YX.shape[1] // STRIDE)
    core, upper, lower, weight = (np.full(shape, value, np.float32) for value in (0, 0, 0, 1))
    middles = (np.arange(shape[0]) + 0.5)[:, None] * STRIDE
    for outline in outlines_px:
        first, last = _columns(float(outline[..., 0].min()), float(outline[..., 0].max()))
        first, last = max(0, first), min(shape[1], last)
        if last <= first:
            continue
        x = (np.arange(first, last) + 0.5) * STRIDE
        top, bottom = (np.interp(x, edge[:, 0], edge[:, 1]) for edge in outline)
        middle, half = (top + bottom) / 2, np.maximum((bottom - top) / 4, SMALLEST_CELLS * STRIDE)
        band = np.abs(middles - middle) <= half
        columns = slice(first, last)
        if _faint(grey_YX, x, top, bottom):
            weight[:, columns][np.abs(middles - middle) <= 2 * half] = 0
            continue
        core[:, columns][band] = 1
        for plane, distance in ((upper, middles - top), (lower, bottom - middles)):
            plane[:, columns][band] = np.log(np.maximum(distance, 0.5) / UNIT_PX)[band]
    return Targets(core, upper, lower, weight)


def _columns(x0: float, x1: float) -> tuple[int, int]:
    """The first cell whose middle lies in a line and the first behind it; NARROWEST_CELLS at least, for a figure one."""
    first, last = (math.ceil(x / STRIDE - 0.5) for x in (x0, x1))
    if last - first < NARROWEST_CELLS:
        first = round((x0 + x1) / 2 / STRIDE - NARROWEST_CELLS / 2)
        last = first + NARROWEST_CELLS
    return first, last


def _faint(grey_YX: NDArray[np.uint8], x: NDArray[np.float64], top: NDArray[np.float64], bottom: NDArray[np.float64]) -> bool:
    y0, y1 = max(0, int(top.min())), max(0, math.ceil(bottom.max()))
    patch = grey_YX[y0:y1, int(x[0]) : math.ceil(x[-1])]
    return patch.size == 0 or float(patch.std()) < FAINT


def cut(page: DocumentPage, rng: random.Random, recipe: FinderRecipe) -> tuple[NDArray[np.uint8], Targets]:
    """A square of the page at a random scale, mostly around some line, with its targets."""
    low, high = recipe.capital_px
    high = max(low * 1.01, min(high, page.capital_px * 1.3))
    scale = low * (high / low) ** rng.random() / page.capital_px
    side, (tall, wide) = recipe.side_px / scale, page.grey_YX.shape
    x, y = rng.uniform(0, wide), rng.uniform(0, tall)
    if page.lines and rng.random() < 0.85:
        x0, y0, x1, y1 = rng.choice(page.lines).box_px
        x, y = rng.uniform(x0, x1), (y0 + y1) / 2
    left, top = (round(middle - side * rng.uniform(0.2, 0.8)) for middle in (x, y))
    if side < wide and rng.random() < 0.8:
        left = max(0, min(left, math.floor(wide - side)))
    if side < tall and rng.random() < 0.8:
        top = max(0, min(top, math.floor(tall - side)))
    across = math.ceil(side)
    rows = np.clip(np.arange(top, top + across), 0, tall - 1)
    columns = np.clip(np.arange(left, left + across), 0, wide - 1)
    window = Image.fromarray(
        page.grey_YX[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][np.ix_(rows - rows[0], columns - columns[0])]
    )
    filters = (_Filter.BOX, _Filter.BILINEAR, _Filter.BICUBIC)
    grey = np.array(window.resize((recipe.side_px, recipe.side_px), rng.choice(filters), (0, 0, side, side)))
    corner = np.asarray([left, top], np.float32)
    outlines = [(line.outline_px - corner) * np.float32(scale) for line in page.lines]
    targets = targets_of([one for one in outlines if _touches(one, recipe.side_px)], grey)
    return _toned(rng, grey), targets


def _touches(outline: NDArray[np.float32], side_px: int) -> bool:
    return bool((outline.max((0, 1)) > 0).all() and (outline.min((0, 1)) < side_px).all())


def _toned(rng: random.Random, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Other exposures of the same paper, now and then a negative."""
    low, high, bend = (
        rng.uniform(0, 50) * (rng.random() < 0.4),
        255 - rng.uniform(0, 60) * (rng.random() < 0.4),
        rng.uniform(0.7, 1.4),
    )
    table = low + (high - low) * (np.arange(256) / 255) ** bend
    return (255 - table if rng.random() < 0.03 else table).astype(np.uint8)[grey]


class CutMaker:
    """An endless supply of cuts from a few pages at a time. Deterministic in the recipe's seed and `offset`."""

    def __init__(self, fonts: list[str], recipe: FinderRecipe, offset: int = 0) -> None:
        self.fonts, self.recipe = fonts, recipe
        self.rng = random.Random(recipe.seed * 1_000_003 + offset)
        self.pages: deque[DocumentPage] = deque(maxlen=recipe.pages_kept)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Ink (B, 1, Y, X) and targets (B, 4, Y / STRIDE, X / STRIDE): core, upper, lower, weight."""
        full = len(self.pages) == self.recipe.pages_kept
        wanted = int(self.rng.random() < self.recipe.batch / self.recipe.cuts_a_page) if full else 2
        for _ in range(wanted):
            self.pages.append(
                sample_document(self.rng.getrandbits(60), self.fonts, self.recipe.printed_px, self.recipe.most_rows)
            )
        cuts = [cut(self.rng.choice(self.pages), self.rng, self.recipe) for _ in range(self.recipe.batch)]
        grey = torch.from_numpy(np.stack([grey for grey, _ in cuts]))[:, None]
        planes = [np.stack([one.core_YX, one.upper_YX, one.lower_YX, one.weight_YX]) for _, one in cuts]
        return ink_of(grey), torch.from_numpy(np.stack(planes))


def finder_loss(maps_B3YX: Tensor, targets_B4YX: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy and Dice on the core, absolute error of the log distances within it; and how good the maps are."""
    core, weight = targets_B4YX[:, 0], targets_B4YX[:, 3]
    logit = maps_B3YX[:, 0]
    entropy = (F.binary_cross_entropy_with_logits(logit, core, reduction="none") * weight).mean()
    chance = logit.sigmoid() * weight
    dice = 1 - (2 * (chance * core).sum() + 1) / (chance.sum() + core.sum() + 1)
    off = ((maps_B3YX[:, 1:] - targets_B4YX[:, 1:3]).abs() * core[:, None]).sum() / (2 * core.sum() + 1)
    found = (logit > 0) & (weight > 0)
    parts = {"entropy": entropy, "dice": dice, "off": off}
    both = (found & (core > 0)).sum()
    overlap = both / ((found | (core > 0)).sum() + 1)
    metrics = {name: float(part.detach()) for name, part in parts.items()}
    return entropy * 4 + dice + off, {**metrics, "overlap": float(overlap)}


class FinderTrainer:
    """One run: network, running mean of it, optimiser, log. Continues from the folder's checkpoint."""

    def __init__(self, fonts: list[str], recipe: FinderRecipe, folder: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.network = LineFinderNetwork()
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=recipe.lr, weight_decay=1e-4)
        self.folder = RunFolder(folder, {"network": self.network, "average": self.average, "optimiser": self.optimiser})
        rest = self.folder.resume()
        self.progress = Progress(rest["step"], rest["seconds"], rest["metrics"]) if rest else Progress()
        self.maker = CutMaker(fonts, recipe, self.progress.step)

    def run(self, most_steps: int | None = None) -> None:
        """Until the recipe's minutes are spent, or `most_steps` more steps. Saves about every two minutes, and at the end."""
        began, saved, before = time.monotonic(), time.monotonic(), self.progress.seconds
        end = math.inf if most_steps is None else self.progress.step + most_steps
        while self.progress.seconds < self.recipe.minutes * 60 and self.progress.step < end:
            self._step()
            self.progress.seconds = before + time.monotonic() - began
            if self.progress.step % 50 == 0:
                self.folder.log(self.progress.line())
            if time.monotonic() - saved > 120:
                self.save()
                saved = time.monotonic()
        self.folder.log(self.progress.line())
        self.save()

    def _step(self) -> None:
        spent = min(1.0, self.progress.seconds / (self.recipe.minutes * 60))
        rate = self.recipe.lr * min(1.0, (self.progress.step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * spent)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        ink, targets = self.maker.batch()
        with torch.autocast("cpu", torch.bfloat16):
            maps = self.network(ink)
        loss, metrics = finder_loss(maps.float(), targets)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.progress.step += 1
        follow(self.average, self.network, self.progress.step, self.recipe.average, warmup=10)
        self.progress.note(metrics)

    def save(self) -> None:
        """Everything a continued run needs, replaced in one go."""
        progress = self.progress
        self.folder.save(step=progress.step, seconds=progress.seconds, metrics=progress.averages)
