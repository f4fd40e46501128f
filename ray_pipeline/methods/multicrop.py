"""LOOK: the whole picture and a grid of overlapping crops at full resolution (mc_llava 2).

Boxes are x0, y0, x1, y1 in pixels of the original upright picture, the whole picture first, then the crops column by
column (columns outer, rows inner).
"""

from typing import Literal

from schemas.model import ViewSettings
from schemas.picture import Box

PUBLISHED_PX = 384  # the tower's input for which the growth step is published


def look(width: int, height: int, views: ViewSettings, input_px: int) -> tuple[Box, ...]:
    """The views of a picture under a run's settings, for a tower of `input_px` a side.

    Raises:
        ValueError: a picture without extent.
    """
    return crop_grid(width, height, views.max_crops, views.policy, input_px)


def whole(width: int, height: int, views: ViewSettings, input_px: int) -> tuple[Box, ...]:
    """The picture as one view, for families that cut it up by rules of their own."""
    return ((0.0, 0.0, float(width), float(height)),)


def crop_grid(
    width: int,
    height: int,
    max_crops: int,
    policy: Literal["official", "strict"] = "strict",
    base_px: int = PUBLISHED_PX,
    step_px: int = 10,
) -> tuple[Box, ...]:
    """The picture, then crops of one side with 50 % overlap, the smallest side from `base_px` up that needs few enough.

    The last column and row reach to the picture's edge, so they are up to 1.5 sides wide or high. No crops where both sides
    of the picture are at most 1.5 `base_px`, nor where one crop would do. `strict` never gives more than `max_crops`;
    `official` does on elongated pictures, as published. `step_px` is the growth at 384 px and scales with `base_px`.

    Raises:
        ValueError: a picture or base without extent, a negative number of crops, an unknown policy.
    """
    if min(width, height) < 1 or max_crops < 0 or base_px < 2 or step_px < 1:
        what = f"picture {width} x {height} px, {max_crops} crops of {base_px} px growing by {step_px}"
        raise ValueError(f"{what}; expected at least 1 x 1, 0, 2 and 1")
    if policy not in ("official", "strict"):
        raise ValueError(f"crop policy {policy!r}, expected official or strict")
    whole = (0.0, 0.0, float(width), float(height))
    if max_crops == 0 or max(width, height) <= base_px + base_px // 2:
        return (whole,)
    fewest = 1 if policy == "strict" else None
    side = _crop_side(width, height, max_crops, fewest, base_px, max(1, round(step_px * base_px / PUBLISHED_PX)))
    columns, rows = _spans(width, side), _spans(height, side)
    if len(columns) == len(rows) == 1:
        return (whole,)
    return whole, *((x0, y0, x1, y1) for x0, x1 in columns for y0, y1 in rows)


def _crop_side(width: int, height: int, max_crops: int, fewest: int | None, side: int, step: int) -> int:
    """The first side whose grid has at most `max_crops` crops, a side of the grid counting at least `fewest`.

    Published code counts without a floor: a side longer than the picture's shorter one makes the product 0 and ends the
    search, however many crops the longer one takes.
    """
    while True:
        across, down = _count(width, side), _count(height, side)
        if fewest is not None:
            across, down = max(fewest, across), max(fewest, down)
        if across * down <= max_crops:
            return side
        side += step


def _count(length: int, side: int) -> int:
    return (length - side) // (side // 2) + 1


def _spans(length: int, side: int) -> list[tuple[float, float]]:
    """The grid along one axis, at least one span; the last one ends at the picture's edge."""
    starts = [float(k * (side // 2)) for k in range(max(1, _count(length, side)))]
    return [(start, start + side) for start in starts[:-1]] + [(starts[-1], float(length))]
