"""How large what a question is about stands in its picture: the buckets of the ViCrop paper (section 3), by share of the area."""

from collections.abc import Sequence
from statistics import median

from ray_pipeline.scoring.overlap import area_of
from schemas.picture import Box

UNKNOWN = "unknown"
SIZES = {"small": (0.0, 0.005), "medium": (0.005, 0.05), "large": (0.05, 1.0)}  # from the first bound on, below the second
SHOWN = {"small": "small (< 0.5 %)", "medium": "medium (0.5-5 %)", "large": "large (>= 5 %)", UNKNOWN: UNKNOWN}


def relative_area(box_px: Box, width_px: int, height_px: int) -> float:
    """The box's share of the picture's area."""
    return area_of(box_px) / (width_px * height_px)


def size_of(area_shares: Sequence[float]) -> str:
    """The bucket of a row by the median of its reference boxes' shares; `unknown` where it has none."""
    if not area_shares:
        return UNKNOWN
    share = median(area_shares)
    return next((name for name, (_, stop) in SIZES.items() if share < stop), "large")
