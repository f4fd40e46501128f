"""Boxes found on a page: predicted and true boxes paired one to one."""

from collections.abc import Sequence

import numpy as np

from ray_pipeline.scoring.overlap import overlaps
from ray_pipeline.scoring.share import Share
from schemas.picture import Box

SAME_BOX = 0.5  # overlap from which two boxes are the same one


def matches(found: Sequence[Box], true: Sequence[Box]) -> list[int | None]:
    """For each found box its true one, by place. The pair that overlaps most goes first; each box is used once."""
    overlap_NM = overlaps(found, true)
    partner: list[int | None] = [None] * len(found)
    taken: set[int] = set()
    order = np.argsort(-overlap_NM, axis=None, kind="stable")
    for row, column in zip(*np.unravel_index(order, overlap_NM.shape), strict=True):
        if overlap_NM[row, column] < SAME_BOX:
            break
        if partner[row] is None and int(column) not in taken:
            partner[row] = int(column)
            taken.add(int(column))
    return partner


def found_boxes(partner: Sequence[int | None], true: int) -> tuple[Share, Share, Share]:
    """Shares of precision, recall and F1 of the pairs that `matches` made with so many true boxes."""
    paired = sum(place is not None for place in partner)
    return Share(paired, len(partner)), Share(paired, true), Share(2 * paired, len(partner) + true)
