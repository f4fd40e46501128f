"""Squares around boxes: what to show of a picture so that a box is seen whole. Boxes are pixels of the picture."""

from schemas.picture import Box


def square_around(box_px: Box, factor: float, width: int, height: int, least_px: float = 0.0) -> Box:
    """The square of `factor` times the box's longer side, `least_px` or more, around its middle.

    Moved inside the picture; cut where the picture is smaller, so that a box as long as the picture is still held.
    """
    side = max(factor * max(box_px[2] - box_px[0], box_px[3] - box_px[1]), least_px)
    x0, x1 = _stretch(box_px[0], box_px[2], side, width)
    y0, y1 = _stretch(box_px[1], box_px[3], side, height)
    return x0, y0, x1, y1


def _stretch(low: float, high: float, side: float, length: int) -> tuple[float, float]:
    side = min(side, length)
    start = min(max((low + high - side) / 2, 0.0), length - side)
    return start, start + side
