"""Several scales of one picture, answered side by side: which crops each scale shows, and what their answers come to.

A large thing is seen best in the whole picture, a small one where a crop of it fills the input. Nobody knows beforehand
which it is, so both are asked: the surest answer stands, and boxes of the same thing become one. Boxes are x0, y0, x1,
y1 in pixels of the original upright picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_pipeline.geometry.suppression import suppress, weighted_means
from ray_pipeline.models.contract import Generation
from schemas.picture import Box

OVERLAP = 0.25  # of a crop: a thing up to a quarter of a crop's side is whole in one of them


@dataclass(frozen=True)
class Fused:
    """What several answers come to. `surest` indexes the answers; None where none says anything.

    `boxes_px` are the boxes that are left, best score first; `scores` are their probabilities, 0..1; `members` the answers
    that stand behind each.
    """

    surest: int | None
    boxes_px: tuple[Box, ...]
    scores: tuple[float, ...]
    members: tuple[tuple[int, ...], ...]


def scale_views(width: int, height: int, scales: Sequence[float], overlap: float = OVERLAP) -> tuple[tuple[Box, ...], ...]:
    """For every scale the crops it shows, columns outer, rows inner; scale 1 is the picture as it is.

    Scale s has ceil(s) x ceil(s) crops of one size and the picture's proportions that reach from edge to edge.
    Neighbours share at least `overlap` of a crop, exactly that where s is whole, which makes every crop's side
    1 / (1 + (s - 1)(1 - overlap)) of the picture's: 2 magnifies 1.75 times at a quarter, twice without overlap.

    Raises:
        ValueError: a picture without extent, a scale below 1, an overlap outside 0..1 or of 1.
    """
    if min(width, height) < 1 or not 0 <= overlap < 1:
        raise ValueError(f"picture {width} x {height} px, overlap {overlap}; expected at least 1 x 1 and 0 <= overlap < 1")
    if wrong := [scale for scale in scales if not (math.isfinite(scale) and scale >= 1)]:
        raise ValueError(f"scale {wrong[0]}, expected at least 1")
    return tuple(
        tuple(
            (x0, y0, x1, y1) for x0, x1 in _spans(width, scale, overlap) for y0, y1 in _spans(height, scale, overlap)
        )
        for scale in scales
    )  # fmt: skip


def _spans(length: int, scale: float, overlap: float) -> list[tuple[float, float]]:
    count = math.ceil(scale)
    side = length / (1 + (scale - 1) * (1 - overlap))
    starts = [k * (length - side) / (count - 1) for k in range(count)] if count > 1 else [0.0]
    return [(start, start + side) for start in starts[:-1]] + [(starts[-1], float(length))]


def fuse(answers: Sequence[Generation], iou_above: float, weighted: bool = False) -> Fused:
    """The surest answer, the first of equals, and the answers' boxes without those that another stands for.

    An answer without text goes by its box; one with neither, or without a finite log-probability, never wins. Boxes
    without area or with values that are not finite are left out. `weighted` moves each box that is left to the mean of
    those it stands for, weighted by their probabilities.

    Raises:
        ValueError: an overlap outside 0..1.
    """
    sure = [sureness(answer) for answer in answers]
    best = max(range(len(answers)), key=sure.__getitem__, default=None)
    boxed = [k for k, answer in enumerate(answers) if answer.box_px is not None and _usable(answer.box_px)]
    boxes_N4 = torch.tensor([answers[k].box_px for k in boxed], dtype=torch.float64).reshape(-1, 4)
    scores_N = torch.tensor([_probability(answers[k].box_logprob) for k in boxed], dtype=torch.float64)
    left = suppress(boxes_N4, scores_N, iou_above)
    shown_K4 = weighted_means(boxes_N4, scores_N, left) if weighted else boxes_N4[left.kept_K]
    return Fused(
        surest=None if best is None or sure[best] == -math.inf else best,
        boxes_px=tuple(_box(row_4) for row_4 in shown_K4),
        scores=tuple(scores_N[left.kept_K].tolist()),
        members=tuple(tuple(boxed[k] for k in left.members(kept)) for kept in left.kept_K.tolist()),
    )


def sureness(answer: Generation) -> float:
    """Mean log-probability, in nats, of what an answer consists of: its text, or its box where it has no text.

    Minus infinity where it has neither.
    """
    boxed = answer.box_px is not None and _usable(answer.box_px)
    logprob = answer.text_logprob if answer.text.strip() else answer.box_logprob if boxed else None
    return logprob if logprob is not None and math.isfinite(logprob) else -math.inf


def _usable(box_px: Box) -> bool:
    x0, y0, x1, y1 = box_px
    return all(math.isfinite(value) for value in box_px) and x0 < x1 and y0 < y1


def _probability(logprob: float | None) -> float:
    return min(1.0, math.exp(logprob)) if logprob is not None and math.isfinite(logprob) else 0.0


def _box(row_4: Tensor) -> Box:
    x0, y0, x1, y1 = row_4.tolist()
    return x0, y0, x1, y1
