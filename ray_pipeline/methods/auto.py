"""auto: several methods' maps of one picture as one map, each counting as much as it deserves.

What a map is worth is what a crop can take from it: the share of all that stands out (above the map's median) that its
best smallest window holds, beyond that window's share of the area. One compact thing gives nearly 1. Noise gives nearly 0,
however spiky it is: entropy would take a few scattered spikes, as pure-grad's mask leaves them, for certainty, and a
window's sharpness alone would reward a single cell.
Legend: Y X cells, M maps.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ray_pipeline.methods.crop_box import WindowSums
from ray_pipeline.methods.importance import Cells, repaired, tiled


def confidence(map_YX: Tensor, width: int, height: int, base_px: float) -> float:
    """What a map is worth to a crop, 0..1; 0 where nothing stands out or the smallest window covers the picture."""
    return _concentration(_standing_out(map_YX), width, height, base_px)


def mixed(maps_M: Sequence[Tensor], width: int, height: int, base_px: float) -> tuple[Tensor, tuple[float, ...]]:
    """The maps' mean weighted by their confidences, and these; on the finest raster among the maps.

    Each map counts by what stands out of it, scaled to unit mass, so that neither its scale nor its background matters.
    Cells without a number are filled first. All zeros where no map is worth anything.
    """
    rows, columns = max(len(cells) for cells in maps_M), max(cells.shape[1] for cells in maps_M)
    whole = (0.0, 0.0, float(width), float(height))
    standing = [
        _standing_out(cells if cells.shape == (rows, columns) else tiled([(cells, whole)], width, height, rows, columns))
        for cells in maps_M
    ]
    worth = tuple(_concentration(cells, width, height, base_px) for cells in standing)
    total = sum(worth)
    mixture = np.zeros((rows, columns))
    for cells, weight in zip(standing, worth, strict=True):
        if weight > 0:
            mixture += weight / total * cells
    return torch.from_numpy(mixture), worth


def _standing_out(map_YX: Tensor) -> Cells:
    """What rises above the median, as shares of its sum; zeros where nothing does."""
    cells = repaired(map_YX.detach().cpu().double().numpy())
    excess = np.maximum(cells - np.median(cells), 0)
    total = float(excess.sum())
    flat = float(excess.max()) <= 1e-6 * float(np.abs(cells).max())  # rounding of single precision
    shares: Cells = np.zeros_like(excess) if flat else excess / total
    return shares


def _concentration(shares_YX: Cells, width: int, height: int, base_px: float) -> float:
    rows, columns = shares_YX.shape
    nx = min(max(1, int(base_px * columns / width)), columns)
    ny = min(max(1, int(base_px * rows / height)), rows)
    area = float(nx * ny / (rows * columns))
    if area == 1:
        return 0.0
    held = float(WindowSums(shares_YX).of(nx, ny).max())
    return min(max((held - area) / (1 - area), 0.0), 1.0)
