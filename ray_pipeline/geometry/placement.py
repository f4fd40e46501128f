"""How a view lies on the original picture: scale and offset, both directions in one value.

`_px` are pixels of the original upright picture, `_view` pixels of the view, both x right, y down.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from schemas.picture import Box


@dataclass(frozen=True)
class Placement:
    """view = (picture - offset) * scale, per axis. The offset is the picture pixel at the view's corner.

    It is negative where the view is padded on the left or on top.

    Raises:
        ValueError: a scale that is not positive and finite, or an offset that is not finite.
    """

    scale_x: float
    scale_y: float
    offset_x_px: float
    offset_y_px: float

    def __post_init__(self) -> None:
        scales, offsets = (self.scale_x, self.scale_y), (self.offset_x_px, self.offset_y_px)
        if not all(math.isfinite(value) for value in scales + offsets) or min(scales) <= 0:
            raise ValueError(f"scales {scales} and offsets {offsets}, expected scales above 0 and finite numbers")

    @classmethod
    def squashed(cls, box_px: Box, side_view: float) -> "Placement":
        """A box of the picture squashed to side x side without keeping its aspect ratio (mc_llava 2, step 7)."""
        x0, y0, x1, y1 = box_px
        if not (x1 > x0 and y1 > y0):
            raise ValueError(f"box {x1 - x0} wide and {y1 - y0} high, expected both above 0")
        return cls(side_view / (x1 - x0), side_view / (y1 - y0), x0, y0)

    @classmethod
    def padded(cls, width: int, height: int, side_view: float) -> "Placement":
        """The picture in the middle of a square of its longer side, scaled to side x side (mc_llava 9.3, pad).

        Odd paddings are rounded down on the left and on top.
        """
        if width < 1 or height < 1:
            raise ValueError(f"picture {width} x {height}, expected at least 1 x 1")
        square = max(width, height)
        scale = side_view / square
        return cls(scale, scale, -float((square - width) // 2), -float((square - height) // 2))

    def to_view(self, boxes_N4_px: Tensor) -> Tensor:
        """Boxes (..., 4) of the picture in pixels of the view, not clipped."""
        return (boxes_N4_px - self._offset(boxes_N4_px)) * self._scale(boxes_N4_px)

    def to_picture(self, boxes_N4_view: Tensor) -> Tensor:
        """Boxes (..., 4) of the view in pixels of the picture, not clipped; the inverse of `to_view`."""
        return boxes_N4_view / self._scale(boxes_N4_view) + self._offset(boxes_N4_view)

    def _scale(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.scale_x, self.scale_y, self.scale_x, self.scale_y])

    def _offset(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.offset_x_px, self.offset_y_px, self.offset_x_px, self.offset_y_px])
