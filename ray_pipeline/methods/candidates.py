"""Candidates: the same question answered several times, each answer a box of the picture (ACS section 3).

Legend: C the four coordinates x0 y0 x1 y1, L the layers read, H heads, T visual tokens, K candidates. Boxes are corners
x0, y0, x1, y1 in pixels of the original upright picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ray_pipeline.geometry.boxes import clip
from ray_pipeline.models.contract import Generation
from schemas.picture import Box


@dataclass(frozen=True)
class Candidate:
    """A box in the running, cut to the picture, ordered and with area.

    `digit_logprob` is the mean log-probability of the coordinates' digits, `digit_entropy` the mean entropy in nats of the
    distributions that wrote them; -inf and inf where the family told neither, which loses every comparison.
    `weights_CLHT` is the attention that decided each coordinate, not renormalised. `index` counts the answers as drawn,
    0 the greedy one; `multiplicity` answers were written exactly like this, the first of them at `index`.
    """

    box_px: Box
    text: str
    digit_logprob: float
    digit_entropy: float
    weights_CLHT: Tensor | None
    index: int
    multiplicity: int = 1

    @property
    def readable(self) -> bool:
        """There is attention, and no NaN or infinity in it: one overflow spoils every layer behind it."""
        return self.weights_CLHT is not None and bool(self.weights_CLHT.isfinite().all())


@dataclass(frozen=True)
class Dropped:
    """An answer out of the running, and why."""

    index: int
    raw: str
    reason: str


def gather(generations: Sequence[Generation], width: float, height: float) -> tuple[tuple[Candidate, ...], tuple[Dropped, ...]]:
    """Answers in the order drawn, for a picture of width x height px; identical ones become one candidate.

    Out of the running are answers without a readable box, and boxes that have no area as float32 (the results' type) once
    cut to the picture: turned round, or beside it (ACS sections 3 and 7.3).
    """
    found: dict[str, Candidate] = {}
    dropped: list[Dropped] = []
    for index, answer in enumerate(generations):
        if known := found.get(answer.raw):
            found[answer.raw] = replace(known, multiplicity=known.multiplicity + 1)
            continue
        box = answer.box_px and cut(answer.box_px, width, height)
        if box is None:
            seen = "no readable box" if answer.box_px is None else f"box {answer.box_px} has no area inside {width} x {height} px"
            dropped.append(Dropped(index, answer.raw, seen))
        else:
            logprob, entropy = _known(answer.box_logprob, -math.inf), _known(answer.box_entropy, math.inf)
            found[answer.raw] = Candidate(box, answer.text, logprob, entropy, answer.weights_CLHT, index)
    return tuple(found.values()), tuple(dropped)


def cut(box_px: Box, width: float, height: float) -> Box | None:
    """A box cut to the picture, or None where nothing with area is left of it. Corners are not reordered."""
    x0, y0, x1, y1 = clip(torch.tensor(box_px, dtype=torch.float64), width, height).tolist()
    left, top, right, bottom = torch.tensor([x0, y0, x1, y1], dtype=torch.float32).tolist()
    return (x0, y0, x1, y1) if left < right and top < bottom and all(map(math.isfinite, box_px)) else None


def boxes_of(candidates: Sequence[Candidate]) -> Tensor:
    """Their boxes, (K, 4) float64."""
    return torch.tensor([candidate.box_px for candidate in candidates], dtype=torch.float64).reshape(-1, 4)


def _known(value: float | None, worst: float) -> float:
    return worst if value is None or math.isnan(value) else value
