"""What an answer's own box tells FOCUS, of models that write boxes beside their texts. Nothing of it is published.

`holding`: an importance map says where to look but little of how large the thing is, and its sharpest window is the smallest
one, which cuts wide texts off; the box of the first answer says how large. `closer_view`: windows are at least a given share
of the picture; a box that was written behind a crop says where in it the thing is, to be shown again, larger. It also leads
back to what the crop has cut off: the square around a box at its edge reaches beyond it. Boxes are pixels of the picture.
"""

import math

import torch

from ray_pipeline.geometry.boxes import iou
from ray_pipeline.geometry.squares import square_around
from ray_pipeline.methods.focus import window_px
from ray_pipeline.models.contract import FamilyDefaults, Generation
from schemas.methods import RefineSettings
from schemas.picture import Box, Picture

AROUND = 1.5  # times the box's longer side: room for a box that is a little off
SAME_VIEW = 0.8  # overlap with the view that was shown from which another look would show nothing new


def closer_view(answer: Generation, shown_px: Box, picture: Picture, input_px: int) -> Box | None:
    """The square to show next, no smaller than half of the model's input; None where there is no box or nothing new to see."""
    box_px = answer.box_px
    if box_px is None or not all(map(math.isfinite, box_px)):
        return None
    view_px = square_around(box_px, AROUND, picture.width, picture.height, input_px / 2)
    return None if float(iou(_row(view_px), _row(shown_px))) >= SAME_VIEW else view_px


def holding(first: Generation, picture: Picture, settings: RefineSettings, defaults: FamilyDefaults) -> RefineSettings:
    """The settings with a smallest window that takes in the first answer's box, where it has one."""
    box_px = first.box_px
    if box_px is None or not all(map(math.isfinite, box_px)):
        return settings
    own_px = window_px(picture.width, picture.height, settings, defaults)
    longest_px = max(box_px[2] - box_px[0], box_px[3] - box_px[1])
    return settings.model_copy(update={"base_window_px": max(own_px, AROUND * longest_px)})


def moved_over(crop_px: Box, first: Generation, picture: Picture) -> Box:
    """The crop, moved as little as it takes to hold the first answer's box, if the middle of that lies in it and it is no
    larger; else as it is."""
    box_px = first.box_px
    if box_px is None or not all(map(math.isfinite, box_px)):
        return crop_px
    x0, x1 = _moved(crop_px[0], crop_px[2], max(box_px[0], 0.0), min(box_px[2], float(picture.width)))
    y0, y1 = _moved(crop_px[1], crop_px[3], max(box_px[1], 0.0), min(box_px[3], float(picture.height)))
    inside = crop_px[0] < (box_px[0] + box_px[2]) / 2 < crop_px[2] and crop_px[1] < (box_px[1] + box_px[3]) / 2 < crop_px[3]
    return (x0, y0, x1, y1) if inside else crop_px


def _moved(low: float, high: float, start: float, end: float) -> tuple[float, float]:
    if end - start > high - low:
        return low, high
    step = max(end - high, 0.0) + min(start - low, 0.0)
    return low + step, high + step


def _row(box_px: Box) -> torch.Tensor:
    return torch.tensor([box_px], dtype=torch.float64)
