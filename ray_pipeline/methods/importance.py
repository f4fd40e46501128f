"""Importance maps of a picture, or of a region of it: from token weights to cells, repaired, laid side by side.

A map is regular cells over its region, float64, NaN where no token looked.
Legend: T visual tokens, H heads, Y X cells, ... batch. Boxes are pixels of the picture; a region's corners are whole pixels.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.geometry.raster import MOST_CELLS, Maps, picture_means, rasterise
from ray_pipeline.models.contract import VisualTokens
from schemas.picture import Box

Cells = NDArray[np.float64]


def on_region(weights_T: Tensor, footprints: Footprints, region_px: Box) -> Maps:
    """Paint weights (..., T) on a region alone; what footprints cover beyond it is cut off, as at a picture's edge."""
    weights, prints = picture_means(weights_T, footprints)
    x0, y0, x1, y1 = region_px
    moved = Footprints(prints.boxes_T4_px - prints.boxes_T4_px.new_tensor([x0, y0, x0, y0]), prints.view_T, prints.valid_T)
    return rasterise(weights, moved, round(x1 - x0), round(y1 - y0))


def published_grid(tokens: VisualTokens) -> tuple[int, int]:
    """Rows and columns of the one plain grid that the published code takes the first view's tokens for.

    Raises:
        ValueError: the tokens form no such grid.
    """
    if tokens.grid is None:
        raise ValueError("refine.mode official needs tokens in one plain grid, and this family's have none; expected corrected")
    return tokens.grid


def on_published_grid(weights_T: Tensor, tokens: VisualTokens) -> Tensor:
    """The first view's weights as (..., rows, columns), to be stretched over everything, whatever that view showed.

    Raises:
        ValueError: the tokens form no plain grid, or not one of so many.
    """
    rows, columns = published_grid(tokens)
    first = tokens.footprints.valid_T & (tokens.footprints.view_T == 0)
    if int(first.sum()) != rows * columns:
        raise ValueError(f"{int(first.sum())} tokens of the first view for a grid of {rows} x {columns}: the map would be torn")
    return weights_T[..., first].double().reshape(*weights_T.shape[:-1], rows, columns)


def head_mean(weights_HT: Tensor) -> Tensor:
    """Mean over heads, (T,) float32, on the host."""
    return weights_HT.float().mean(0).cpu()


def repaired(map_YX: Cells) -> Cells:
    """The map without cells that are not finite: they become the mean of their finite neighbours.

    Where no neighbour is finite, the median of all finite cells: a picture's unseen ends must not stand out from the rest,
    nor lend contrast to what lies beside them. 0 in a map without a finite cell.
    """
    finite = np.isfinite(map_YX)
    if finite.all():
        return map_YX
    sums, counts = _sums_3x3(np.where(finite, map_YX, 0.0)), _sums_3x3(finite.astype(np.float64))
    level = float(np.median(map_YX[finite])) if finite.any() else 0.0
    return np.where(finite, map_YX, np.where(counts > 0, sums / np.maximum(counts, 1), level))


def tiled(
    parts: Sequence[tuple[Tensor, Box]], width: int, height: int, rows: int | None = None, columns: int | None = None
) -> Tensor:
    """Maps of several regions as one of the picture, (Y, X): each cell the mean, by area, of the finite cells it shares.

    Regions may differ in size and in cells. By default the picture's cells are no larger than the smallest ones, and at
    most 256 x 256. NaN where no part has anything to say.

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError("no maps to lay side by side, expected at least one")
    rows = rows or min(MOST_CELLS, max(_cells(len(cells), box[3] - box[1], height) for cells, box in parts))
    columns = columns or min(MOST_CELLS, max(_cells(cells.shape[1], box[2] - box[0], width) for cells, box in parts))
    total, cover = torch.zeros(rows, columns, dtype=torch.float64), torch.zeros(rows, columns, dtype=torch.float64)
    for map_YX, (x0, y0, x1, y1) in parts:
        down, across = _overlaps(rows, height, len(map_YX), y0, y1), _overlaps(columns, width, map_YX.shape[1], x0, x1)
        finite = map_YX.isfinite()
        total += down @ torch.where(finite, map_YX.double(), 0.0) @ across.T
        cover += down @ finite.double() @ across.T
    return torch.where(cover > 0, total / cover, torch.nan)


def _sums_3x3(map_YX: Cells) -> Cells:
    padded = np.pad(map_YX, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]


def _cells(cells: int, side_px: float, picture_px: int) -> int:
    return max(1, math.ceil(cells * picture_px / side_px - 1e-9))


def _overlaps(cells: int, picture_px: int, own: int, low_px: float, high_px: float) -> Tensor:
    """Common length in pixels of each of the picture's cells with each of a region's own, (cells, own), along one axis."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * (picture_px / cells)
    inner = low_px + torch.arange(own + 1, dtype=torch.float64) * ((high_px - low_px) / own)
    common = torch.minimum(edges[1:, None], inner[1:]) - torch.maximum(edges[:-1, None], inner[:-1])
    return torch.where(common > 1e-9 * picture_px / cells, common, 0.0)
