"""Which regions of a page are read as one view each: overlapping tiles from edge to edge, or the page itself where it fits.

Boxes are x0, y0, x1, y1 in whole pixels of the original upright picture.
"""

import math

from schemas.picture import Box

GROWTH = 1.05  # of a tile's side per step, until few enough cover the page


def reading_tiles(width: int, height: int, side_px: float, overlap: float, most: int) -> tuple[Box, ...]:
    """Tiles of one size, row by row; neighbours share at least `overlap` of a tile's side. No side is above `side_px`.

    Where that would take more than `most` tiles, they grow until it does not: such a page is read shrunk.

    Raises:
        ValueError: a picture or tile without extent, an overlap outside 0..0.5, fewer than one tile.
    """
    if min(width, height, side_px) < 1 or not 0 <= overlap <= 0.5 or most < 1:
        what = f"picture {width} x {height} px, tiles of {side_px:g} px, overlap {overlap}, at most {most}"
        raise ValueError(f"{what}; expected at least 1 x 1, 1, 0..0.5 and 1")
    while _count(width, side_px, overlap) * _count(height, side_px, overlap) > most:
        side_px *= GROWTH
    columns, rows = _spans(width, side_px, overlap), _spans(height, side_px, overlap)
    return tuple((x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns)


def quarters(box_px: Box, overlap: float) -> tuple[Box, ...]:
    """A region again in two by two tiles, row by row, as whole pixels; a side of one pixel is not cut."""
    x0, y0, x1, y1 = box_px
    across, down = ((end - start) / (2 - overlap) for start, end in ((x0, x1), (y0, y1)))
    columns, rows = (
        [(start, min(end, start + math.ceil(side))), (max(start, end - math.ceil(side)), end)]
        if end - start > 1
        else [(start, end)]
        for start, end, side in ((x0, x1, across), (y0, y1, down))
    )
    return tuple((left, top, right, bottom) for top, bottom in rows for left, right in columns)


def _count(length: int, side_px: float, overlap: float) -> int:
    side = math.floor(side_px)
    if length <= side:
        return 1
    step = max(1, math.floor(side * (1 - overlap)))
    return math.ceil((length - side) / step) + 1


def _spans(length: int, side_px: float, overlap: float) -> list[tuple[float, float]]:
    """Tiles along one axis, spread evenly."""
    count, side = _count(length, side_px, overlap), math.floor(side_px)
    if count == 1:
        return [(0.0, float(length))]
    starts = [(length - side) * k // (count - 1) for k in range(count)]
    return [(float(start), float(start + side)) for start in starts]
