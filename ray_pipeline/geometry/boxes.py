"""Rectangles as (N, 4) tensors of corners x0, y0, x1, y1, x right, y down, in any one frame.

Floating point in, the same type out; nothing is rounded. Legend: N, M boxes, 4 the corners.
"""

import torch
from torch import Tensor

from schemas.picture import Box


def order(boxes_N4: Tensor) -> Tensor:
    """Corners in reading order, x0 <= x1 and y0 <= y1, whichever corners were given."""
    first, second = boxes_N4[..., :2], boxes_N4[..., 2:]
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], dim=-1)


def clip(boxes_N4: Tensor, width: float, height: float) -> Tensor:
    """Cut to 0..width, 0..height. What lies outside keeps its corners on the edge, without area."""
    limit = boxes_N4.new_tensor([width, height, width, height])
    return torch.minimum(boxes_N4.clamp(min=0), limit)


def area(boxes_N4: Tensor) -> Tensor:
    """Area (N,); 0 for boxes without extent or turned round."""
    sides = (boxes_N4[..., 2:] - boxes_N4[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def intersection(first_N4: Tensor, second_M4: Tensor) -> Tensor:
    """Common area of every pair, (N, M)."""
    low = torch.maximum(first_N4[:, None, :2], second_M4[None, :, :2])
    high = torch.minimum(first_N4[:, None, 2:], second_M4[None, :, 2:])
    return area(torch.cat([low, high], dim=-1))


def iou(first_N4: Tensor, second_M4: Tensor) -> Tensor:
    """Intersection over union of every pair, (N, M) in 0..1; 0 where neither has area."""
    common = intersection(first_N4, second_M4)
    union = area(first_N4)[:, None] + area(second_M4)[None, :] - common
    return torch.where(union > 0, common / union, torch.zeros_like(common))


def contained_share(inner_N4: Tensor, outer_M4: Tensor) -> Tensor:
    """Part of each inner box that lies in each outer one, (N, M) in 0..1; 0 for inner boxes without area."""
    whole = area(inner_N4)[:, None]
    common = intersection(inner_N4, outer_M4)
    return torch.where(whole > 0, common / whole, torch.zeros_like(common))


def to_unit(boxes_N4: Tensor, frame: Box) -> Tensor:
    """Corners as shares of `frame`: its own corners become 0, 0, 1, 1. Outside it, below 0 or above 1.

    Raises:
        ValueError: the frame has no area.
    """
    origin, sides = _origin_and_sides(boxes_N4, frame)
    return (boxes_N4 - origin) / sides


def from_unit(boxes_N4: Tensor, frame: Box) -> Tensor:
    """Back from shares of `frame`; the inverse of `to_unit`.

    Raises:
        ValueError: the frame has no area.
    """
    origin, sides = _origin_and_sides(boxes_N4, frame)
    return boxes_N4 * sides + origin


def _origin_and_sides(like: Tensor, frame: Box) -> tuple[Tensor, Tensor]:
    x0, y0, x1, y1 = frame
    if not (x1 > x0 and y1 > y0):
        raise ValueError(f"frame {x1 - x0} wide and {y1 - y0} high, expected both above 0")
    return like.new_tensor([x0, y0, x0, y0]), like.new_tensor([x1 - x0, y1 - y0, x1 - x0, y1 - y0])
