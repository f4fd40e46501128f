"""Any-res tiles of LLaVA-NeXT: the canvas, the picture on it, and which of its tokens are kept (mc_llava 9.4).

The picture keeps its aspect ratio in the middle of a black canvas of square tiles. The tiles' tokens form one grid; rows or
columns that hold nothing but padding are taken out, and every row ends in a newline token.
Legend: V tower views (the whole picture, then its tiles), T visual tokens, D width, Y X rows and columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ray_pipeline.geometry.footprints import NO_VIEW, Footprints
from ray_pipeline.geometry.placement import Placement
from ray_pipeline.models.square_input import Frame, resized, whole_pixels
from schemas.picture import Box, Picture


@dataclass(frozen=True)
class Tiling:
    """How a picture lies on a canvas of square tiles, and which of the canvas' tokens are kept.

    `canvas_wh`, `shown_wh` are pixels of the canvas and of the picture in its middle; `rows` and `columns` of tokens are
    kept from `first_row`, `first_column` on.
    """

    tile_px: int
    patch_px: int
    canvas_wh: tuple[int, int]
    shown_wh: tuple[int, int]
    first_row: int
    first_column: int
    rows: int
    columns: int

    @property
    def tile_tokens(self) -> int:
        """Tokens on the side of one tile."""
        return self.tile_px // self.patch_px

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return self.canvas_wh[1] // self.tile_px, self.canvas_wh[0] // self.tile_px

    @property
    def padding_wh(self) -> tuple[int, int]:
        """Canvas pixels left of and above the picture."""
        return (self.canvas_wh[0] - self.shown_wh[0]) // 2, (self.canvas_wh[1] - self.shown_wh[1]) // 2

    @property
    def count(self) -> int:
        """Tokens of the grid with the newline of each row."""
        return self.rows * (self.columns + 1)


def best_canvas(width: int, height: int, pinpoints_hw: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Width and height of the canvas that shows most pixels of the picture and wastes fewest; the first of equals."""

    def worth(pinpoint_hw: Sequence[int]) -> tuple[int, int]:
        tall, wide = pinpoint_hw
        scale = min(wide / width, tall / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        return shown, shown - wide * tall

    tall, wide = max(pinpoints_hw, key=worth)
    return wide, tall


def tiling(width: int, height: int, pinpoints_hw: Sequence[Sequence[int]], tile_px: int, patch_px: int) -> Tiling:
    """Where a width x height picture goes, as the published processor and model have it, rounding included.

    Raises:
        ValueError: the chosen canvas does not consist of whole tiles.
    """
    wide, tall = best_canvas(width, height, pinpoints_hw)
    if wide % tile_px or tall % tile_px:
        raise ValueError(f"canvas of {wide} x {tall} px, expected whole tiles of {tile_px} px")
    scale_x, scale_y = wide / width, tall / height
    if scale_x < scale_y:
        shown = wide, min(math.ceil(height * scale_x), tall)
    else:
        shown = min(math.ceil(width * scale_y), wide), tall
    columns, rows = (side // tile_px * (tile_px // patch_px) for side in (wide, tall))
    first_row = first_column = 0
    if width / height > columns / rows:
        first_row = (rows - int(round(height * (columns / width), 7))) // 2
    else:
        first_column = (columns - int(round(width * (rows / height), 7))) // 2
    kept_rows, kept_columns = rows - 2 * first_row, columns - 2 * first_column
    return Tiling(tile_px, patch_px, (wide, tall), shown, first_row, first_column, kept_rows, kept_columns)


def canvas(picture: Picture, box_px: Box, layout: Tiling) -> Frame:
    """The box's pixels in the middle of the black canvas."""
    x0, y0, x1, y1 = whole_pixels(picture, box_px)
    (wide, tall), (left, top) = layout.canvas_wh, layout.padding_wh
    shown_width, shown_height = layout.shown_wh
    pixels = np.zeros((tall, wide, 3), np.uint8)
    pixels[top : top + shown_height, left : left + shown_width] = resized(
        picture.pixels_YX3[y0:y1, x0:x1], shown_width, shown_height
    )
    scale_x, scale_y = shown_width / (x1 - x0), shown_height / (y1 - y0)
    return Frame(pixels, Placement(scale_x, scale_y, x0 - left / scale_x, y0 - top / scale_y))


def tile_frames(canvas_frame: Frame, layout: Tiling) -> list[Frame]:
    """The canvas cut into tiles, row by row."""
    side, placement = layout.tile_px, canvas_frame.placement
    frames = []
    for row in range(layout.tiles[0]):
        for column in range(layout.tiles[1]):
            x, y = column * side, row * side
            moved = replace(
                placement,
                offset_x_px=placement.offset_x_px + x / placement.scale_x,
                offset_y_px=placement.offset_y_px + y / placement.scale_y,
            )
            frames.append(Frame(canvas_frame.pixels_YX3[y : y + side, x : x + side], moved))
    return frames


def tile_footprints(placement: Placement, layout: Tiling, view: int) -> Footprints:
    """The kept tokens of the canvas row by row, each row followed by its newline, which has no place."""
    left = _patch_starts(layout.first_column, layout.columns, layout)
    top = _patch_starts(layout.first_row, layout.rows, layout)
    boxes = torch.zeros(layout.rows, layout.columns + 1, 4, dtype=torch.float64)
    boxes[:, :-1, 0], boxes[:, :-1, 1] = left, top[:, None]
    boxes[:, :-1, 2:] = boxes[:, :-1, :2] + layout.patch_px
    placed = torch.ones(layout.rows, layout.columns + 1, dtype=torch.bool)
    placed[:, -1] = False
    boxes[placed] = placement.to_picture(boxes[placed])
    views = torch.where(placed, view, NO_VIEW)
    return Footprints(boxes.flatten(0, 1), views.flatten(), placed.flatten())


def newline_footprint() -> Footprints:
    """The one newline behind a picture without tiles."""
    return Footprints(torch.zeros(1, 4, dtype=torch.float64), torch.tensor([NO_VIEW]), torch.tensor([False]))


def packed(features_VTD: Tensor, newline_D: Tensor, layout: Tiling | None) -> Tensor:
    """Projected features of the whole picture and of its tiles, if any, as the decoder sees them: (T, D)."""
    whole_TD, tiles_VTD = features_VTD[0], features_VTD[1:]
    if layout is None:
        return torch.cat([whole_TD, newline_D[None]])
    side, (tile_rows, tile_columns) = layout.tile_tokens, layout.tiles
    grid = tiles_VTD.reshape(tile_rows, tile_columns, side, side, -1).transpose(1, 2)
    grid_YXD = grid.reshape(tile_rows * side, tile_columns * side, -1)
    kept_YXD = grid_YXD[layout.first_row :, layout.first_column :][: layout.rows, : layout.columns]
    newlines = newline_D.expand(layout.rows, 1, -1)
    return torch.cat([whole_TD, torch.cat([kept_YXD, newlines], 1).flatten(0, 1)])


def _patch_starts(first: int, count: int, layout: Tiling) -> Tensor:
    """Canvas pixels where patches begin along one axis; the last pixels of a tile may belong to none."""
    index = torch.arange(first, first + count)
    start: Tensor = index // layout.tile_tokens * layout.tile_px + index % layout.tile_tokens * layout.patch_px
    return start.double()
