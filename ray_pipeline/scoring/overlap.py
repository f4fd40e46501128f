"""Overlap of rectangles as (N, 4) arrays of x0, y0, x1, y1 in any one frame. Legend: N, M boxes, 4 the corners."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.picture import Box

Floats = NDArray[np.float64]


def overlaps(first: Sequence[Box], second: Sequence[Box]) -> Floats:
    """Intersection over union of every pair, (N, M) in 0..1; 0 where neither has area."""
    first_N4, second_M4 = _array(first), _array(second)
    common = _common(first_N4, second_M4)
    union = _area(first_N4)[:, None] + _area(second_M4)[None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def covered(inner: Box, outer: Box) -> float:
    """The part of `inner` that lies in `outer`, 0..1; 0 for a box without area."""
    area = area_of(inner)
    return float(_common(_array([inner]), _array([outer]))[0, 0] / area) if area else 0.0


def area_of(box: Box) -> float:
    """0 for a box without extent or turned round."""
    return float(_area(_array([box]))[0])


def _array(boxes: Sequence[Box]) -> Floats:
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def _area(boxes_N4: Floats) -> Floats:
    sides: Floats = np.clip(boxes_N4[..., 2:] - boxes_N4[..., :2], 0, None)
    area: Floats = sides[..., 0] * sides[..., 1]
    return area


def _common(first_N4: Floats, second_M4: Floats) -> Floats:
    low = np.maximum(first_N4[:, None, :2], second_M4[None, :, :2])
    high = np.minimum(first_N4[:, None, 2:], second_M4[None, :, 2:])
    return _area(np.concatenate([low, high], axis=-1))
