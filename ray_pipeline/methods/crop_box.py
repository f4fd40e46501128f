"""From an importance map to one crop (ViCrop, section 6): the window that stands out most sharply, over six sizes.

`official` reproduces the published selection defect for defect. `corrected` chooses size and window in the same way, but
repairs maps that are not finite, keeps windows of at least one cell, finds no crop in a map that says nothing, and puts
what it found in the middle of the crop.
A map has thousands of cells at most, where numpy's calls cost a third of torch's: the search is done in numpy.
Legend: Y X cells of a map over the whole picture. Windows count cells (columns, rows); boxes are pixels of the picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from ray_pipeline.methods.importance import Cells, repaired
from schemas.picture import Box

RATIOS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
TIE = 1e-12  # of the map's whole mass: what the order of additions may change in a window's sum
FLAT = 1e-6  # of the largest cell: a smaller contrast is rounding of single precision
WORTH_KEEPING = 0.9  # of a window's mass above background, which centring must not lose


@dataclass(frozen=True)
class CropChoice:
    """The crop, and how it was found: size ratio, sharpness (map units per cell), window (columns, rows).

    `whole` says that the box is the whole picture; sharpness is 0 where nothing was compared.
    """

    box_px: Box
    ratio: float
    sharpness: float
    window_cells: tuple[int, int]
    whole: bool


@dataclass(frozen=True)
class _Scored:
    """The best window of one size. `x`, `y` is its first cell, in official order; `sums_YX` one sum per position."""

    ratio: float
    columns: int
    rows: int
    x: int
    y: int
    sharpness: float
    sums_YX: Cells
    tie: float


def select_crop(
    map_YX: Tensor,
    width: int,
    height: int,
    base_px: float,
    mode: Literal["official", "corrected"] = "corrected",
    ratios: Sequence[float] = RATIOS,
) -> CropChoice:
    """The crop of 2 floor(base_px ratio / 2) pixels a side, cut at the picture's edges, that stands out of the map (Y, X).

    The whole picture where the window of the first ratio covers it. `corrected` also returns it for a map without contrast.
    Of windows with equal sums it takes the one nearest to the middle of them all, and centres the crop on the cells that
    rise more than half way from the map's median to the window's peak, weighted by how far they rise above that level,
    unless this would lose a tenth of what the window holds above the median. A positive factor of the map changes nothing.

    Raises:
        ValueError: a map without cells, a picture without extent, sizes that are not positive, or an unknown mode.
    """
    _check(map_YX, width, height, base_px, ratios)
    if mode not in ("official", "corrected"):
        raise ValueError(f"crop selection {mode!r}, expected official or corrected")
    cells_YX = map_YX.detach().cpu().double().numpy()
    if mode == "official":
        return _official(cells_YX, width, height, base_px, ratios)
    return _corrected(cells_YX, width, height, base_px, ratios)


def _official(map_YX: Cells, width: int, height: int, base_px: float, ratios: Sequence[float]) -> CropChoice:
    best = _sharpest(map_YX, width, height, base_px, ratios, 0)
    if best is None:
        return _whole(map_YX, width, height, ratios)
    cell = width / map_YX.shape[1], height / map_YX.shape[0]
    x, y = int(best.x * cell[0] + best.columns * cell[0] / 2), int(best.y * cell[1] + best.rows * cell[1] / 2)
    return _choice(best, x, y, math.floor(base_px * best.ratio / 2), width, height)


def _corrected(map_YX: Cells, width: int, height: int, base_px: float, ratios: Sequence[float]) -> CropChoice:
    repaired_YX = repaired(map_YX)
    scale = float(np.abs(repaired_YX).max()) or 1.0
    scaled_YX = repaired_YX / scale
    flat = float(scaled_YX.max() - scaled_YX.min()) <= FLAT
    best = None if flat else _sharpest(scaled_YX, width, height, base_px, ratios, 1)
    if best is None:
        return _whole(map_YX, width, height, ratios)
    x, y = _centre_of_mass(best, scaled_YX)
    x_px, y_px = round(x * width / map_YX.shape[1]), round(y * height / map_YX.shape[0])
    choice = _choice(best, x_px, y_px, max(1, math.floor(base_px * best.ratio / 2)), width, height)
    return replace(choice, sharpness=choice.sharpness * scale)


def _sharpest(map_YX: Cells, width: int, height: int, base_px: float, ratios: Sequence[float], fewest: int) -> _Scored | None:
    """The window of greatest sharpness, the first of equals; None where the first covers the picture.

    A sharpness that is not a number wins, as in the published argmax.
    """
    rows, columns = map_YX.shape
    sums = WindowSums(map_YX)
    best: _Scored | None = None
    for k, ratio in enumerate(ratios):
        nx = min(max(fewest, int(base_px * ratio / (width / columns))), columns)
        ny = min(max(fewest, int(base_px * ratio / (height / rows))), rows)
        if nx == columns and ny == rows:
            if k == 0:
                return None
            continue
        scored = _scored(ratio, sums, nx, ny)
        if best is None or _beats(scored.sharpness, best.sharpness, sums.tie):
            best = scored
    return best


def _beats(new: float, old: float, tie: float) -> bool:
    if math.isnan(old) or math.isnan(new):
        return math.isnan(new) and not math.isnan(old)
    return new > old + tie if math.isfinite(old) else new > old


def _scored(ratio: float, sums: "WindowSums", nx: int, ny: int) -> _Scored:
    sums_YX = sums.of(nx, ny)
    x, y, top = _first_best(sums_YX, sums.tie)
    neighbours = [
        float(sums_YX[row, column])
        for row, column in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x))
        if 0 <= row < sums_YX.shape[0] and 0 <= column < sums_YX.shape[1]
    ]
    rise = top - sum(neighbours) / len(neighbours)
    rise = 0.0 if abs(rise) <= sums.tie else rise
    return _Scored(ratio, nx, ny, x, y, rise / (nx * ny) if nx * ny else math.nan, sums_YX, sums.tie)


def _first_best(sums_YX: Cells, tie: float) -> tuple[int, int, float]:
    """Smallest x, then smallest y, of the windows with the greatest sum; the first one where no sum is a number."""
    top = float(np.fmax.reduce(sums_YX, axis=None))
    if not top > -math.inf:
        return 0, 0, -math.inf
    x, y = divmod(int(np.argmax(top - tie <= sums_YX.T)), sums_YX.shape[0])
    return x, y, float(sums_YX[y, x])


class WindowSums:
    """Sums of a map in every window of a size, by prefix sums.

    A cell that is not finite would spoil all prefixes behind it: such cells are counted in prefix sums of their own.
    """

    def __init__(self, map_YX: Cells) -> None:
        finite = np.isfinite(map_YX)
        filled = map_YX if finite.all() else np.where(finite, map_YX, 0.0)
        specials = () if finite.all() else (np.isnan(map_YX), map_YX == math.inf, map_YX == -math.inf)
        self.finite, self.specials = _prefix(filled), [_prefix(cells.astype(np.float64)) for cells in specials]
        self.tie = TIE * float(np.abs(filled).sum())

    def of(self, columns: int, rows: int) -> Cells:
        """(Y - rows + 1, X - columns + 1): the sum of each window of columns x rows cells, by its first cell."""
        sums = _windows(self.finite, columns, rows)
        if self.specials:
            nan, plus, minus = (_windows(prefix, columns, rows) > 0 for prefix in self.specials)
            sums[plus], sums[minus] = math.inf, -math.inf
            sums[nan | (plus & minus)] = math.nan
        return sums


def _prefix(map_YX: Cells) -> Cells:
    prefix = np.zeros((map_YX.shape[0] + 1, map_YX.shape[1] + 1))
    np.cumsum(map_YX.cumsum(0), axis=1, out=prefix[1:, 1:])
    return prefix


def _windows(prefix_YX: Cells, nx: int, ny: int) -> Cells:
    down, across = prefix_YX.shape[0] - ny, prefix_YX.shape[1] - nx
    sums: Cells = prefix_YX[ny:, nx:] + prefix_YX[:down, :across]
    sums -= prefix_YX[ny:, :across] + prefix_YX[:down, nx:]
    return sums


def _centre_of_mass(best: _Scored, map_YX: Cells) -> tuple[float, float]:
    """Centre of what stands out, in cells from the map's corner; see `select_crop` for the rule."""
    x, y = _middle_tie(best)
    nx, ny = best.columns, best.rows
    median = float(np.median(map_YX))
    window_YX = np.maximum(map_YX[y : y + ny, x : x + nx] - median, 0)
    mass_YX = np.maximum(window_YX - window_YX.max() / 2, 0)
    total = float(mass_YX.sum())
    if total <= 0:
        return x + nx / 2, y + ny / 2
    centre_x = x + _middle(mass_YX.sum(0) / total)
    centre_y = y + _middle(mass_YX.sum(1) / total)
    to_x = min(max(round(centre_x - nx / 2), 0), map_YX.shape[1] - nx)
    to_y = min(max(round(centre_y - ny / 2), 0), map_YX.shape[0] - ny)
    moved_YX = np.maximum(map_YX[to_y : to_y + ny, to_x : to_x + nx] - median, 0)
    kept = float(moved_YX.sum()) / float(window_YX.sum())
    return (centre_x, centre_y) if kept >= WORTH_KEEPING - FLAT else (x + nx / 2, y + ny / 2)


def _middle(shares_X: Cells) -> float:
    """Mean position in cells, to 1e-9: the order of additions must not decide between two pixels."""
    return round(float(shares_X @ (np.arange(len(shares_X)) + 0.5)), 9)


def _middle_tie(best: _Scored) -> tuple[int, int]:
    """First cell of the best window nearest to the mean position of all equally good ones, the first of equally near."""
    tied = np.argwhere(best.sums_YX[best.y, best.x] - best.tie <= best.sums_YX.T)
    nearest = int(((tied - tied.mean(0)) ** 2).sum(1).argmin())
    return int(tied[nearest, 0]), int(tied[nearest, 1])


def _choice(best: _Scored, x_px: int, y_px: int, half_px: int, width: int, height: int) -> CropChoice:
    """A square of 2 half_px around the centre, moved inside the picture, cut where the picture is smaller."""
    x, y = min(max(x_px, half_px), width - half_px), min(max(y_px, half_px), height - half_px)
    x0, y0, x1, y1 = max(0, x - half_px), max(0, y - half_px), min(width, x + half_px), min(height, y + half_px)
    box = (float(x0), float(y0), float(x1), float(y1))
    whole = box == (0.0, 0.0, float(width), float(height))
    return CropChoice(box, best.ratio, best.sharpness, (best.columns, best.rows), whole)


def _whole(map_YX: Cells, width: int, height: int, ratios: Sequence[float]) -> CropChoice:
    rows, columns = map_YX.shape
    return CropChoice((0.0, 0.0, float(width), float(height)), ratios[0], 0.0, (columns, rows), True)


def _check(map_YX: Tensor, width: int, height: int, base_px: float, ratios: Sequence[float]) -> None:
    if map_YX.ndim != 2 or not map_YX.numel() or min(width, height) < 1:
        raise ValueError(
            f"map of {tuple(map_YX.shape)} cells on {width} x {height} px, expected (rows, columns) and at least 1 x 1"
        )
    sizes = [base_px * ratio for ratio in ratios]
    if not sizes or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise ValueError(f"window sides {sizes} px, expected at least one, all above 0")
