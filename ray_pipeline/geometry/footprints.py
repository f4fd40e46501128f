"""Which rectangle of the picture each visual token saw: the joint between model families and methods.

Legend: T visual tokens in prompt order, 4 the corners x0, y0, x1, y1. Boxes are pixels of the original upright picture,
x right, y down; they may reach beyond the picture (padded inputs) and are clipped where they are used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from schemas.picture import Box

WHOLE_PICTURE = 0  # `view_T` of the first view, which shows everything
NO_VIEW = -1


@dataclass(frozen=True)
class Footprints:
    """A rectangle, a view and a validity per token.

    `boxes_T4_px` (T, 4) float32 or float64. `view_T` (T,) int64: 0 the whole picture, 1.. crops, -1 none. `valid_T` (T,)
    bool is false for tokens without a place (newlines, separators); their box is not looked at.

    Raises:
        ValueError: shapes or types disagree, a view below -1, or the box of a valid token is turned round or not finite.
    """

    boxes_T4_px: Tensor
    view_T: Tensor
    valid_T: Tensor

    def __post_init__(self) -> None:
        _check_shapes(self.boxes_T4_px, self.view_T, self.valid_T)
        _check_values(self.boxes_T4_px[self.valid_T], self.view_T)

    def __len__(self) -> int:
        return len(self.view_T)


def grid_footprints(
    box_px: Box, rows: int, columns: int, view: int, keep: slice | int = 0, patch_share: float = 1.0
) -> Footprints:
    """Patches of a rows x columns grid over a view's box, in raster order (mc_llava 9.2).

    `patch_share` is the part of the view's side that patches cover, 27 * 14 / 384 for SigLIP-384: the rest, at the right
    and at the bottom, is seen by none. `keep` is a slice of the raster order or the index of its first kept patch.

    Raises:
        ValueError: no rows or columns, a patch share outside (0, 1], or a first patch outside 0..rows * columns.
    """
    if rows < 1 or columns < 1 or not 0 < patch_share <= 1:
        grid = f"{rows} x {columns} patches over {patch_share} of a side"
        raise ValueError(f"{grid}, expected at least 1 x 1 over a share in (0, 1]")
    kept = _kept(keep, rows * columns)
    x0, y0, x1, y1 = box_px
    edges_x = x0 + (x1 - x0) * (patch_share * torch.arange(columns + 1, dtype=torch.float64) / columns)
    edges_y = y0 + (y1 - y0) * (patch_share * torch.arange(rows + 1, dtype=torch.float64) / rows)
    row = torch.arange(rows).repeat_interleave(columns)[kept]
    column = torch.arange(columns).repeat(rows)[kept]
    boxes = torch.stack([edges_x[column], edges_y[row], edges_x[column + 1], edges_y[row + 1]], dim=1)
    return _placed(boxes, view)


def view_footprints(
    box_px: Box,
    rows: int,
    columns: int,
    patch_share: float,
    first: int,
    view: int,
    mode: Literal["auto", "patch", "crop"] = "auto",
) -> Footprints:
    """Footprints of a view that keeps its patches `first`.. only (mc_llava 9.2).

    `patch` gives each token its patch, `crop` the view's whole box. `auto` is `crop` where fewer than half of the patches
    (rounded down: 364 of 729) are kept: their features then stand for the whole crop, and painting them where they sit
    would shift every map.

    Raises:
        ValueError: an unknown mode, or what `grid_footprints` refuses.
    """
    if mode not in ("auto", "patch", "crop"):
        raise ValueError(f"footprint mode {mode!r}, expected auto, patch or crop")
    patches = grid_footprints(box_px, rows, columns, view, first, patch_share)
    if mode == "patch" or (mode == "auto" and len(patches) >= rows * columns // 2):
        return patches
    return _placed(torch.tensor([box_px], dtype=torch.float64).repeat(len(patches), 1), view)


def join(parts: Sequence[Footprints]) -> Footprints:
    """One after another, in order; nothing joined is empty. Views keep the numbers they have."""
    if not parts:
        return Footprints(torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool())
    return Footprints(
        torch.cat([part.boxes_T4_px for part in parts]),
        torch.cat([part.view_T for part in parts]),
        torch.cat([part.valid_T for part in parts]),
    )


def _placed(boxes_T4_px: Tensor, view: int) -> Footprints:
    count = len(boxes_T4_px)
    return Footprints(boxes_T4_px, torch.full((count,), view, dtype=torch.int64), torch.ones(count, dtype=torch.bool))


def _kept(keep: slice | int, patches: int) -> slice:
    if isinstance(keep, slice):
        return keep
    if not 0 <= keep <= patches:  # a negative index would silently count from the end
        raise ValueError(f"first kept patch {keep} of {patches}, expected 0..{patches}")
    return slice(keep, None)


def _check_shapes(boxes_T4_px: Tensor, view_T: Tensor, valid_T: Tensor) -> None:
    if boxes_T4_px.ndim != 2 or boxes_T4_px.shape[1] != 4:
        raise ValueError(f"boxes of shape {tuple(boxes_T4_px.shape)}, expected (tokens, 4)")
    if view_T.shape != valid_T.shape or view_T.shape != boxes_T4_px.shape[:1]:
        shapes = f"{tuple(view_T.shape)} views and {tuple(valid_T.shape)} validities"
        raise ValueError(f"{len(boxes_T4_px)} boxes but {shapes}: weights would fall on the wrong tokens")
    if boxes_T4_px.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"boxes are {boxes_T4_px.dtype}, expected float32 or float64: halves cannot address pixels beyond 2048")
    if view_T.dtype != torch.int64 or valid_T.dtype != torch.bool:
        raise ValueError(f"views are {view_T.dtype} and validities {valid_T.dtype}, expected int64 and bool")


def _check_values(boxes_T4_px: Tensor, view_T: Tensor) -> None:
    if (view_T < NO_VIEW).any():
        raise ValueError(f"view {int(view_T.min())}, expected -1 (none), 0 (whole picture) or a crop's number")
    ordered = (boxes_T4_px[:, :2] <= boxes_T4_px[:, 2:]).all(1) & boxes_T4_px.isfinite().all(1)
    if not ordered.all():
        bad = boxes_T4_px[~ordered][0].tolist()
        raise ValueError(f"{int((~ordered).sum())} of {len(ordered)} boxes turned round or not finite, first {bad}")
