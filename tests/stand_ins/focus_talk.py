"""One FOCUS conversation driven by hand: made prefixes, made replies, and every request kept."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch

from ray_pipeline.geometry.footprints import Footprints, grid_footprints, join
from ray_pipeline.models.contract import FamilyDefaults, Reply, Request, VisualTokens
from schemas.methods import RefineSettings
from schemas.picture import Box, Picture

GENERIC = "Write a general description of the image."
DEFAULTS = FamilyDefaults(96, 5, None, 0.2, 1.0)


def picture(width: int, height: int, *things: tuple[int, int, int, int]) -> Picture:
    """Grey, with noisy rectangles: detail, and nothing else."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    for x0, y0, x1, y1 in things:
        pixels[y0:y1, x0:x1] = rng.integers(0, 255, (y1 - y0, x1 - x0, 3))
    return Picture(pixels, "0" * 64)


def tokens_of(shown: Picture, prints: Footprints, grid: tuple[int, int] | None = None, views: int = 1) -> VisualTokens:
    whole = (0.0, 0.0, float(shown.width), float(shown.height))
    return VisualTokens(shown, (whole,) * views, prints, None, grid)


def grid_tokens(shown: Picture, rows: int, columns: int, frame: Box | None = None) -> VisualTokens:
    """One plain grid over a frame, the whole picture by default."""
    frame = frame or (0.0, 0.0, float(shown.width), float(shown.height))
    return tokens_of(shown, grid_footprints(frame, rows, columns, 0), (rows, columns))


def crops_tokens(shown: Picture, side: int, boxes: list[Box]) -> VisualTokens:
    """Several views, a grid of side x side patches each."""
    return tokens_of(shown, join([grid_footprints(box, side, side, k) for k, box in enumerate(boxes)]), None, len(boxes))


def seen(prints: Footprints, thing: Box, background: float = 0.01) -> torch.Tensor:
    """Weights (T,): the share of each footprint that a thing covers, on a background."""
    boxes = prints.boxes_T4_px
    low, high = torch.maximum(boxes[:, :2], boxes.new_tensor(thing[:2])), torch.minimum(boxes[:, 2:], boxes.new_tensor(thing[2:]))
    common = (high - low).clamp(min=0).prod(1)
    return background + common / (boxes[:, 2:] - boxes[:, :2]).prod(1)


def drive(talk: Generator[Request, Reply, Any], answer: Callable[[Any], Reply]) -> tuple[Any, list[Any]]:
    """What the conversation came to, and its requests."""
    asked: list[Any] = []
    reply: Any = None
    while True:
        try:
            asked.append(talk.send(reply))
        except StopIteration as stop:
            return stop.value, asked
        reply = answer(asked[-1])


def refine(**changes: object) -> RefineSettings:
    return RefineSettings.model_validate(changes)


def holds(outer: Box, inner: tuple[float, ...]) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


PLANTED: tuple[tuple[int, int, Box], ...] = (  # a picture's sides, and a thing in it that is to be found
    (640, 480, (503, 43, 561, 72)),
    (300, 1100, (23, 905, 71, 990)),
    (1700, 700, (805, 333, 871, 352)),
    (501, 499, (0, 0, 40, 40)),
)
SHOWN = ("squashed", "padded", "crops")


def shown_tokens(width: int, height: int, how: str) -> VisualTokens:
    """A picture as one grid over all of it, as one over a padded square, or whole and in two overlapping halves."""
    plain, side = picture(width, height), max(width, height)
    if how == "squashed":
        return grid_tokens(plain, 24, 24)
    if how == "padded":
        x, y = -((side - width) // 2), -((side - height) // 2)
        return grid_tokens(plain, 24, 24, (x, y, x + side, y + side))
    whole = (0.0, 0.0, float(width), float(height))
    halves = [(0.0, 0.0, width * 0.6, float(height)), (width * 0.4, 0.0, float(width), float(height))]
    return crops_tokens(plain, 12, [whole, *halves])


def close_around(outer: Box, thing: Box, side: int) -> bool:
    """Whether a crop holds a thing and is clearly smaller than the picture, whose longer side is `side`."""
    return holds(outer, thing) and max(outer[2] - outer[0], outer[3] - outer[1]) < 0.6 * side
