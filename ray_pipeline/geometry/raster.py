"""Token weights painted on the picture: deposit, coverage and their ratio (mc_llava 9.1).

Legend: T visual tokens, Y X cells of a regular raster over the picture, ... batch. Everything is computed in float64:
a cell's overlap with a footprint is exact, and the product of one overlap per axis.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_pipeline.geometry.boxes import area, clip
from ray_pipeline.geometry.footprints import Footprints

MOST_CELLS = 256  # a side; finer than any footprint needs
ROUNDING = 1e-9  # share of a cell or footprint below which an overlap is rounding of a common edge


@dataclass(frozen=True)
class Maps:
    """What the tokens say about the picture, float64, cell by cell.

    `deposit_YX` (..., Y, X): weight per pixel; times `cell_area_px` it sums to `placed_mass`. `coverage_YX` (Y, X): tokens
    per pixel, a token counting 1 over its whole footprint. `ratio_YX` (..., Y, X): deposit / coverage, the mean weight of
    the tokens seen there, finer ones counting more, and 0 where `covered_YX` (Y, X) is false. `unplaced_mass` (...): weight of
    tokens without a place or without area inside the picture.
    """

    deposit_YX: Tensor
    coverage_YX: Tensor
    ratio_YX: Tensor
    covered_YX: Tensor
    placed_mass: Tensor
    unplaced_mass: Tensor
    cell_area_px: float


def rasterise(
    weights_T: Tensor, footprints: Footprints, width: int, height: int, rows: int | None = None, columns: int | None = None
) -> Maps:
    """Paint weights (..., T) on a raster of a width x height picture (mc_llava 9.1).

    Footprints are clipped to the picture and keep their mass. By default a cell is at most half as wide and half as high
    as the narrowest and the lowest footprint, and there are at most 256 x 256. A weight that is not finite spoils its map.

    Raises:
        ValueError: weights and footprints differ in number, or a picture or raster without extent.
    """
    if weights_T.shape[-1] != len(footprints):
        raise ValueError(f"{weights_T.shape[-1]} weights for {len(footprints)} footprints: they would fall on the wrong tokens")
    boxes = clip(footprints.boxes_T4_px.double(), width, height)
    placed = footprints.valid_T & (area(boxes) > 0)
    default_rows, default_columns = _raster_size(footprints.boxes_T4_px[placed].double(), width, height)
    rows, columns = default_rows if rows is None else rows, default_columns if columns is None else columns
    if min(width, height, rows, columns) < 1:
        raise ValueError(f"picture {width} x {height} px on {columns} x {rows} cells, expected at least 1 x 1 of both")
    weights = weights_T.double()
    share_TX = _shares(boxes[placed, 0], boxes[placed, 2], width / columns, columns)
    share_TY = _shares(boxes[placed, 1], boxes[placed, 3], height / rows, rows)
    cell_area = width / columns * (height / rows)
    deposit = _painted(weights[..., placed], share_TY, share_TX) / cell_area
    coverage = (share_TY.T @ share_TX) / cell_area
    covered = coverage > 0
    ratio = torch.where(covered, deposit / coverage, torch.zeros_like(deposit))
    unplaced = weights[..., ~placed].sum(-1)
    return Maps(deposit, coverage, ratio, covered, weights[..., placed].sum(-1), unplaced, cell_area)


def picture_means(weights_T: Tensor, footprints: Footprints) -> tuple[Tensor, Footprints]:
    """One rectangle per view whose tokens all stand for the same rectangle, with their mean weight (mc_llava 9.2).

    Else the view with most tokens would win. Views with a rectangle per patch stay as they are. The whole picture says
    nothing about where: as one rectangle around all others it is left out. Tokens without a place are left out too.
    Returns weights (..., G) and G footprints, in the order of their first tokens.

    Raises:
        ValueError: weights and footprints differ in number.
    """
    if weights_T.shape[-1] != len(footprints):
        raise ValueError(f"{weights_T.shape[-1]} weights for {len(footprints)} footprints: they would fall on the wrong tokens")
    valid = footprints.valid_T
    boxes, view, weights = footprints.boxes_T4_px[valid], footprints.view_T[valid], weights_T[..., valid].double()
    first, group, count = torch.unique(_first_token(boxes, view), return_inverse=True, return_counts=True)
    means = weights.new_zeros(*weights.shape[:-1], len(first)).index_add(-1, group, weights) / count
    kept = ~_placeless(boxes[first], view[first])
    return means[..., kept], Footprints(boxes[first][kept], view[first][kept], torch.ones_like(first[kept], dtype=torch.bool))


def _raster_size(boxes_T4_px: Tensor, width: int, height: int) -> tuple[int, int]:
    """Rows and columns. Sides before clipping: a sliver left of a padded token needs no fine raster."""
    if not len(boxes_T4_px):
        return 1, 1
    narrowest, lowest = (boxes_T4_px[:, 2:] - boxes_T4_px[:, :2]).amin(0).tolist()
    return _cells(height, lowest), _cells(width, narrowest)


def _cells(length: int, smallest_side: float) -> int:
    wanted = 2 * length / smallest_side if smallest_side * MOST_CELLS > length else MOST_CELLS
    return max(1, min(MOST_CELLS, math.ceil(wanted * (1 - ROUNDING))))


def _shares(low_T: Tensor, high_T: Tensor, cell: float, cells: int) -> Tensor:
    """Part of each interval in each cell of one axis, (T, cells); rows sum to 1."""
    edges = torch.arange(cells + 1, dtype=torch.float64, device=low_T.device) * cell
    overlap = torch.minimum(high_T[:, None], edges[1:]) - torch.maximum(low_T[:, None], edges[:-1])
    length = (high_T - low_T)[:, None]
    real = overlap > ROUNDING * length.clamp(max=cell)
    return torch.where(real, overlap, torch.zeros_like(overlap)) / length


def _painted(weights_T: Tensor, share_TY: Tensor, share_TX: Tensor) -> Tensor:
    """Mass per cell, (..., Y, X)."""
    return torch.einsum("...t,ty,tx->...yx", weights_T, share_TY, share_TX)


def _first_token(boxes_T4_px: Tensor, view_T: Tensor) -> Tensor:
    """Per token the first token of its view if the whole view shares one rectangle, else the token itself, (T,)."""
    own = torch.arange(len(view_T), device=view_T.device)
    views, index = torch.unique(view_T, return_inverse=True)
    first = torch.full((len(views),), len(view_T), device=view_T.device).scatter_reduce(0, index, own, "amin")
    differs = (boxes_T4_px != boxes_T4_px[first[index]]).any(1)
    shared = torch.zeros(len(views), device=view_T.device).index_add(0, index, differs.float()) == 0
    return torch.where(shared[index] & (view_T >= 0), first[index], own)


def _placeless(boxes_T4_px: Tensor, view_T: Tensor) -> Tensor:
    """The whole picture as one rectangle around those of other views, (T,) bool."""
    whole = view_T == 0
    if int(whole.sum()) != 1 or len(view_T) == 1:
        return torch.zeros_like(whole)
    box = boxes_T4_px[whole][0]
    around = (box[:2] <= boxes_T4_px[:, :2]).all() & (box[2:] >= boxes_T4_px[:, 2:]).all()
    return whole & around
