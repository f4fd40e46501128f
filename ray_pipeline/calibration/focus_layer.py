"""Which decoder layer looks at what a question asks for: the one whose importance is most concentrated in the true boxes.

Legend: T visual tokens, Y X cells of a map over the picture. Boxes are x0, y0, x1, y1 in pixels of the picture.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_pipeline.batching import converse
from ray_pipeline.calibration.drawing import Query
from ray_pipeline.methods.focus import expect
from ray_pipeline.methods.importance import head_mean, repaired
from ray_pipeline.methods.rel_att import rel_att_map
from ray_pipeline.models.contract import Attention, Family, ReadAttention, Reply, Request
from ray_pipeline.perceiver import Plan, look
from schemas.picture import Box
from schemas.profile import FocusLayer
from schemas.status import RowFailure

LEAST_ROWS = 20
LEAST_SHARE = 1e-4  # of a map inside a box: what misses altogether is not infinitely bad

Cells = NDArray[np.float64]


@dataclass(frozen=True)
class Concentration:
    """One map: its share inside the boxes over theirs of the picture, and whether its largest cell lies in one of them."""

    ratio: float
    hit: bool


def read_layers(family: Family, queries: Sequence[Query], plan: Plan, layers: int) -> list[tuple[Concentration, ...]]:
    """Of every query whose maps could be read, one by layer from 0 on: rel-att over the whole picture."""
    talks: Any = {k: _concentrations(query, plan, layers) for k, query in enumerate(queries)}
    ended: Mapping[int, Any] = converse(family, talks)
    return [ended[k] for k in range(len(queries)) if not isinstance(ended[k], RowFailure)]


def best_layer(read: Sequence[Sequence[Concentration]]) -> tuple[FocusLayer, list[FocusLayer]]:
    """The layer with the highest geometric mean of ratios, hits deciding where two are equal; and all of them.

    Raises:
        ValueError: fewer than `LEAST_ROWS` queries.
    """
    if len(read) < LEAST_ROWS:
        raise ValueError(f"{len(read)} questions with a box and a readable map, expected at least {LEAST_ROWS}")
    table = [
        FocusLayer(
            layer=layer, ratio=math.exp(fmean(math.log(one[layer].ratio) for one in read)),
            hit=fmean(one[layer].hit for one in read), rows=len(read),
        )
        for layer in range(len(read[0]))
    ]  # fmt: skip
    return max(table, key=lambda one: (one.ratio, one.hit)), table


def concentration(map_YX: Cells, width: int, height: int, boxes_px: Sequence[Box]) -> Concentration:
    """Of a map whose cells tile the picture evenly; a map of zeros is everywhere alike."""
    rows, columns = map_YX.shape
    inside_YX = np.max([_covered(rows, columns, width, height, box) for box in boxes_px], axis=0)
    mass_YX = np.clip(map_YX, 0, None)
    mass_YX = mass_YX if mass_YX.sum() > 0 else np.ones_like(mass_YX)
    share = float((mass_YX * inside_YX).sum() / mass_YX.sum())
    y, x = np.unravel_index(int(mass_YX.argmax()), mass_YX.shape)
    middle = ((x + 0.5) * width / columns, (y + 0.5) * height / rows)
    hit = any(x0 <= middle[0] <= x1 and y0 <= middle[1] <= y1 for x0, y0, x1, y1 in boxes_px)
    return Concentration(max(share, LEAST_SHARE) / max(float(inside_YX.mean()), LEAST_SHARE), bool(hit))


def _covered(rows: int, columns: int, width: int, height: int, box: Box) -> Cells:
    """The part of every cell that lies in the box, 0..1."""
    x0, y0, x1, y1 = box
    return np.outer(_overlaps(rows, height, y0, y1), _overlaps(columns, width, x0, x1))


def _overlaps(cells: int, side_px: int, low: float, high: float) -> Cells:
    edges = np.arange(cells + 1) * (side_px / cells)
    common: Cells = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * (cells / side_px)
    return common


def _concentrations(query: Query, plan: Plan, layers: int) -> Generator[Request, Reply, tuple[Concentration, ...]]:
    tokens = yield from look(query.picture, plan)
    width, height = query.picture.width, query.picture.height
    found = []
    for layer in range(layers):
        read = expect(Attention, (yield ReadAttention(tokens, (query.question, plan.prompt.generic), layer)))
        question_T, generic_T = head_mean(read.weights_QHT[0]), head_mean(read.weights_QHT[-1])
        map_YX = rel_att_map(question_T, generic_T, tokens.footprints, (0.0, 0.0, float(width), float(height)))
        found.append(concentration(repaired(map_YX.numpy()), width, height, query.true_px))
    return tuple(found)
