"""From an importance map to several crops: one for each thing that stands out.

A thing is connected cells, corners counting, that rise more than half way from the map's median to its peak; where that
gives too few, what is left of the map is looked through at a quarter of the way. Each thing gets a window by the rules of
a single crop, on a map where it stands alone.
Legend: Y X cells of a map over the whole picture, N cells of a thing by their place in the raster. Boxes are pixels of the
picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_pipeline.geometry.boxes import contained_share, intersection
from ray_pipeline.methods.crop_box import RATIOS, CropChoice, select_crop
from ray_pipeline.methods.importance import Cells, repaired
from schemas.picture import Box

LEVELS = (0.5, 0.25)  # of the way from median to peak: where a thing ends; the second for what stays below the first
TRIED = 8  # things looked at for each region wanted, level by level: what comes after them is noise
ROUNDING = 1e-9

Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class _Region:
    """Things that one window takes in: their cells, and the window."""

    cells_N: Places
    choice: CropChoice


@dataclass(frozen=True)
class _Scene:
    """What rises above a map's median, on a picture, and the smallest window."""

    excess_YX: Cells
    width: int
    height: int
    base_px: float

    def box_px(self, cells_N: Places) -> Box:
        """Bounding box of some cells, out to whole pixels."""
        rows, columns = np.divmod(cells_N, self.excess_YX.shape[1])
        x0, x1 = _whole_px(columns, self.width, self.excess_YX.shape[1])
        y0, y1 = _whole_px(rows, self.height, self.excess_YX.shape[0])
        return x0, y0, x1, y1

    def longest_px(self, cells_N: Places) -> float:
        """Longer side of the bounding box of some cells."""
        x0, y0, x1, y1 = self.box_px(cells_N)
        return max(x1 - x0, y1 - y0)

    def region(self, cells_N: Places) -> _Region | None:
        """The crop for these cells alone, which holds them; None where it would be the whole picture."""
        longest = self.longest_px(cells_N)
        side = self.base_px if longest <= 2 * (self.base_px // 2) else 2 * math.ceil(longest / 2)
        alone = np.zeros_like(self.excess_YX)
        alone.flat[cells_N] = self.excess_YX.flat[cells_N]
        choice = select_crop(torch.from_numpy(alone), self.width, self.height, side)
        return None if choice.whole else _Region(cells_N, replace(choice, box_px=_over(choice.box_px, self.box_px(cells_N))))


def select_regions(map_YX: Tensor, width: int, height: int, base_px: float, most: int = 1) -> tuple[CropChoice, ...]:
    """At most `most` disjoint crops, the strongest things by mass, in reading order; none where nothing stands out.

    With `most` 1, or where one thing stands out, it is the crop of `select_crop`. Else each crop holds its thing: the
    smallest window grows to the longer side of a larger one, and moves where its centre of mass would leave an end out.
    Things whose windows overlap share one if that is no larger than the largest published one (2 base_px); else the weaker
    is left out.

    Raises:
        ValueError: fewer than one region, or what `select_crop` refuses.
    """
    if most < 1:
        raise ValueError(f"{most} regions, expected at least 1")
    ordinary = select_crop(map_YX, width, height, base_px)
    if ordinary.whole:
        return ()
    if most == 1:
        return (ordinary,)
    cells = repaired(map_YX.detach().cpu().double().numpy())
    scene = _Scene(np.maximum(cells - np.median(cells), 0), width, height, base_px)
    found, things = _found(scene, most)
    return in_reading_order([region.choice for region in found]) if things > 1 and found else (ordinary,)


def components(mask_YX: NDArray[np.bool_]) -> list[Places]:
    """The cells of each set connected by sides or corners, sets in the raster order of their first cells."""
    columns = mask_YX.shape[1]
    wide = columns + 2  # a margin, so that no neighbour is beyond an edge
    left = {(place // columns + 1) * wide + place % columns + 1 for place in np.flatnonzero(mask_YX).tolist()}
    steps = [dy * wide + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        left.discard(start)
        one = [start]
        for place in one:  # grows while it is walked
            near = [place + step for step in steps if place + step in left]
            left.difference_update(near)
            one += near
        row, column = np.divmod(np.sort(np.array(one, np.intp)), wide)
        found.append((row - 1) * columns + column - 1)
    return found


def in_reading_order(choices: Sequence[CropChoice]) -> tuple[CropChoice, ...]:
    """Line by line from the top, from left to right within a line: boxes whose middle its highest box reaches."""
    waiting, ordered = sorted(choices, key=lambda choice: choice.box_px[1]), []
    while waiting:
        bottom = waiting[0].box_px[3]
        line = [choice for choice in waiting if choice is waiting[0] or choice.box_px[1] + choice.box_px[3] < 2 * bottom]
        waiting = [choice for choice in waiting if choice not in line]
        ordered += sorted(line, key=lambda choice: choice.box_px[0])
    return tuple(ordered)


def _found(scene: _Scene, most: int) -> tuple[list[_Region], int]:
    """Disjoint regions, and how many things were looked at for them, level by level, the greatest mass first."""
    found: list[_Region] = []
    seen_YX, things = np.zeros(scene.excess_YX.shape, np.bool_), 0
    for level in LEVELS:
        lit = components(scene.excess_YX > level * scene.excess_YX.max())
        fresh = [cells_N for cells_N in lit if not seen_YX.flat[cells_N].any()]
        for cells_N in sorted(fresh, key=lambda places: -float(scene.excess_YX.flat[places].sum()))[: TRIED * most]:
            found = _with(found, cells_N, scene)
            seen_YX.flat[cells_N] = True
            things += 1
            if len(found) == most:
                return found, things
    return found, things


def _with(found: list[_Region], cells_N: Places, scene: _Scene) -> list[_Region]:
    """The regions with one more thing: seen already, in a window of its own, sharing one, or left out."""
    if any(_holds(region.choice.box_px, scene.box_px(cells_N)) for region in found):
        return found
    own = scene.region(cells_N)
    if own is None:
        return found
    rivals = [region for region in found if _overlap(region, own)]
    if not rivals:
        return [*found, own]
    together = np.concatenate([cells_N, *(region.cells_N for region in rivals)])
    if scene.longest_px(together) > RATIOS[-1] * scene.base_px:
        return found
    shared, others = scene.region(together), [region for region in found if region not in rivals]
    if shared is None or any(_overlap(region, shared) for region in others):
        return found
    return [*others, shared]


def _whole_px(cells_N: Places, length_px: int, cells: int) -> tuple[float, float]:
    low, high = int(cells_N.min()), int(cells_N.max()) + 1
    return float(low * length_px // cells), float(-(-high * length_px // cells))


def _over(window: Box, thing: Box) -> Box:
    """The window, moved as little as it takes to hold a thing that is no larger."""
    right, down = (max(thing[k + 2] - window[k + 2], 0.0) + min(thing[k] - window[k], 0.0) for k in (0, 1))
    return window[0] + right, window[1] + down, window[2] + right, window[3] + down


def _overlap(first: _Region, second: _Region) -> bool:
    return float(intersection(_row(first.choice.box_px), _row(second.choice.box_px))) > 0


def _holds(outer: Box, inner: Box) -> bool:
    return float(contained_share(_row(inner), _row(outer))) > 1 - ROUNDING


def _row(box: Box) -> Tensor:
    return torch.tensor([box], dtype=torch.float64)
