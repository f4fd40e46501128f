"""Tiles of an InternVL picture: the grid, its pixels, and what each visual token saw (mc_llava 9.6).

A picture is squashed to whole tiles, cut row by row, and shown once more as a thumbnail behind them where there is more
than one. Legend: V tiles in prompt order (the thumbnail last), T visual tokens, Y X image rows and columns.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ray_pipeline.geometry.footprints import WHOLE_PICTURE, Footprints, grid_footprints, join
from schemas.picture import Box


@dataclass(frozen=True)
class TileGrid:
    """Columns x rows of square tiles."""

    columns: int
    rows: int

    @property
    def count(self) -> int:
        """Tiles of the grid, and one more for the thumbnail where there is one."""
        tiles = self.columns * self.rows
        return tiles + 1 if tiles > 1 else 1


@dataclass(frozen=True)
class TileRule:
    """Which grids a picture may get: a tile's side in pixels, the fewest and the most tiles without the thumbnail.

    Raises:
        ValueError: a side below 1, or an empty range of tiles.
    """

    side_px: int
    least: int = 1
    most: int = 12

    def __post_init__(self) -> None:
        if self.side_px < 1 or not 1 <= self.least <= self.most:
            raise ValueError(f"tiles of {self.side_px} px, {self.least} to {self.most} of them, expected 1 <= fewest <= most")

    def within(self, resolution_px: int) -> "TileRule":
        """The rule under which all tiles together have at most the area of a square of this side, or one tile."""
        most = max(1, resolution_px**2 // self.side_px**2)
        return TileRule(self.side_px, min(self.least, most), most)

    def grid(self, width: float, height: float, area_px: float | None = None) -> TileGrid:
        """The grid nearest to width / height; of equally near ones the largest of which the picture fills over a half.

        `area_px` stands for the picture's own area where it is to count as larger than it is. Equality is that of doubles
        and candidates come in ascending number of tiles, as in the published processor: 1000 x 1000 gets 3 x 3.

        Raises:
            ValueError: a picture without extent.
        """
        if width < 1 or height < 1:
            raise ValueError(f"picture {width} x {height}, expected at least 1 x 1")
        filled = width * height if area_px is None else area_px
        best, nearest = TileGrid(1, 1), math.inf
        for grid in self._candidates():
            distance = abs(width / height - grid.columns / grid.rows)
            large_enough = filled > 0.5 * self.side_px**2 * grid.columns * grid.rows
            if distance < nearest or (distance == nearest and large_enough):
                best, nearest = grid, distance
        return best

    def _candidates(self) -> list[TileGrid]:
        grids = [
            TileGrid(columns, rows)
            for columns in range(1, self.most + 1)
            for rows in range(1, self.most // columns + 1)
            if columns * rows >= self.least
        ]
        return sorted(grids, key=lambda grid: grid.columns * grid.rows)


def tile_pixels(pixels_YX3: NDArray[np.uint8], grid: TileGrid, side_px: int) -> NDArray[np.uint8]:
    """(V, side, side, 3): the pixels squashed to the grid with Pillow's bicubic filter and cut, the thumbnail last."""
    picture = Image.fromarray(pixels_YX3)
    squashed = np.asarray(picture.resize((grid.columns * side_px, grid.rows * side_px), Image.Resampling.BICUBIC))
    tiles = squashed.reshape(grid.rows, side_px, grid.columns, side_px, 3).transpose(0, 2, 1, 3, 4)
    tiles = tiles.reshape(grid.rows * grid.columns, side_px, side_px, 3)
    if grid.count == 1:
        return tiles
    thumbnail = np.asarray(picture.resize((side_px, side_px), Image.Resampling.BICUBIC))
    return np.concatenate([tiles, thumbnail[None]])


def tile_boxes(box_px: Box, grid: TileGrid) -> list[Box]:
    """What each tile shows, the thumbnail (all of it) last. Tiles share their edges to the last bit."""
    x0, y0, x1, y1 = box_px
    edges_x = [x0 + (x1 - x0) * column / grid.columns for column in range(grid.columns + 1)]
    edges_y = [y0 + (y1 - y0) * row / grid.rows for row in range(grid.rows + 1)]
    boxes = [
        (edges_x[column], edges_y[row], edges_x[column + 1], edges_y[row + 1])
        for row in range(grid.rows)
        for column in range(grid.columns)
    ]
    return boxes if grid.count == 1 else [*boxes, box_px]


def tile_footprints(box_px: Box, grid: TileGrid, side: int, whole_view: int = WHOLE_PICTURE, first_tile: int = 1) -> Footprints:
    """side x side tokens per tile in raster order, in prompt order: tile by tile, the thumbnail last.

    The tile that shows all of the box, be it the thumbnail or the only one, is view `whole_view`; tiles of a larger grid
    count from `first_tile`.
    """
    boxes = tile_boxes(box_px, grid)
    views = [*range(first_tile, first_tile + len(boxes) - 1), whole_view]
    return join([grid_footprints(box, side, side, view) for box, view in zip(boxes, views, strict=True)])
