"""Does the model look at the right place, even where it answers wrongly (ViCrop, section 4, figure 3)?

The attention ratio: the relative attention inside the true box over the mean of that over every place a box of its size could
have in the picture. 1 is chance. Only one layer is read, the one FOCUS reads. Legend: Y X cells of a map over the picture.
"""

from collections.abc import Generator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ray_pipeline.methods.focus import Probe, Question, expect, focus_layer
from ray_pipeline.methods.importance import Cells, head_mean, on_region, repaired
from ray_pipeline.methods.rel_att import read_rel_att
from ray_pipeline.models.contract import Generate, Generation, Reply, Request, VisualTokens
from ray_pipeline.perceiver import Plan, look
from ray_pipeline.scoring.overlap import area_of
from ray_pipeline.scoring.studies import mean_cover
from ray_pipeline.studies.subject import Studied, Subject, greedy, said
from schemas.picture import Box


def attention(subject: Subject, plan: Plan) -> Generator[Request, Reply, Studied]:
    """Condition `whole`; means over the true boxes of the ratio, of relative attention and of attention as it is, and whether
    the strongest cell lies in a true box, with the share of the picture that these cover."""
    picture = subject.picture
    tokens = yield from look(picture, greedy(plan))
    first, map_YX = yield from looked_at(subject, tokens, plan)
    figures = {"attention_ratio": _mean_ratio(map_YX, subject)}
    if first.attention_HT is not None:
        plain = on_region(head_mean(first.attention_HT), tokens.footprints, subject.whole_px)
        figures["plain_ratio"] = _mean_ratio(repaired(np.where(plain.covered_YX, plain.ratio_YX, np.nan)), subject)
    strongest = _centre(map_YX, picture.width, picture.height)
    figures["pointed"] = float(any(x0 <= strongest[0] <= x1 and y0 <= strongest[1] <= y1 for x0, y0, x1, y1 in subject.true_px))
    figures["pointed_chance"] = min(1.0, sum(map(area_of, subject.true_px)) / area_of(subject.whole_px))
    return Studied({"whole": said(first)}, figures)


def looked_at(subject: Subject, tokens: VisualTokens, plan: Plan) -> Generator[Request, Reply, tuple[Generation, Cells]]:
    """The first answer with its attention, and the relative attention over the picture, all cells finite."""
    ask = greedy(plan, mode="corrected")
    layer = focus_layer(ask.refine, ask.defaults)
    first = expect(Generation, (yield Generate(tokens, subject.question, plan.prompt.max_new_tokens, layer)))
    probe = Probe(Question(subject.question, first.attention_HT), plan.prompt.generic, ask.refine, ask.defaults)
    relative = yield from read_rel_att(tokens, subject.whole_px, probe)
    return first, repaired(relative.map_YX.double().numpy())


def attention_ratio(map_YX: Cells, width: float, height: float, box_px: Box) -> float:
    """The map's sum in the box over the mean of that for the box anywhere in the picture; 1 where the map is empty.

    Cells count by the part of them that the box covers, and places are continuous.
    """
    rows, columns = map_YX.shape
    across, down = _overlaps(box_px[0], box_px[2], columns, width), _overlaps(box_px[1], box_px[3], rows, height)
    anywhere = _anywhere(box_px[3] - box_px[1], rows, height) @ map_YX @ _anywhere(box_px[2] - box_px[0], columns, width)
    return float(down @ map_YX @ across / anywhere) if anywhere > 0 else 1.0


def _mean_ratio(map_YX: Cells, subject: Subject) -> float:
    size = subject.picture.width, subject.picture.height
    return float(np.mean([attention_ratio(map_YX, *size, box) for box in subject.true_px]))


def _overlaps(low: float, high: float, cells: int, length: float) -> NDArray[np.float64]:
    edges = np.linspace(0.0, length, cells + 1)
    covered: NDArray[np.float64] = np.maximum(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0.0)
    return covered


def _anywhere(side: float, cells: int, length: float) -> NDArray[np.float64]:
    """What a stretch of this side covers of each cell, in the mean over all its places."""
    edges = np.linspace(0.0, length, cells + 1).tolist()
    return np.array([side * mean_cover(side, low, high, length) for low, high in pairwise(edges)])


def _centre(map_YX: Cells, width: float, height: float) -> tuple[float, float]:
    """The middle of the strongest cell, the first of equals, in pixels."""
    row, column = divmod(int(map_YX.argmax()), map_YX.shape[1])
    return (column + 0.5) * width / map_YX.shape[1], (row + 0.5) * height / map_YX.shape[0]
