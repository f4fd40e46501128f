"""Where a picture has detail (ViCrop, section 4.4, steps 3 and 4): pure-grad looks at nothing else.

Arrays of numpy, float32 as published. Legend: Y X pixels, 3 colours in 0..1.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLUR_SIGMA = 0.8
MEDIAN_SIDE = 7
STRIP_ROWS = 64  # bounds the memory of the median's windows; strips do not change results


def high_pass(pixels_YX3: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a 3 x 3 Gaussian blur takes away: L2 norm over the colours, then a 7 x 7 median, (Y, X).

    The blur mirrors the picture at its outermost pixels, the median behind them, each as published.
    """
    left = pixels_YX3 - _blurred(pixels_YX3.astype(np.float32))
    return _median(np.sqrt(np.square(left).sum(-1)))


def detail_mask(high_pass_YX: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels strictly above the median of all, the mean of the middle two where their number is even."""
    mask: NDArray[np.bool_] = high_pass_YX > np.median(high_pass_YX)
    return mask


def _blurred(pixels_YX3: NDArray[np.float32]) -> NDArray[np.float32]:
    tap = math.exp(-0.5 / BLUR_SIGMA**2)
    side, middle = np.float32(tap / (1 + 2 * tap)), np.float32(1 / (1 + 2 * tap))
    rows = np.pad(pixels_YX3, ((1, 1), (0, 0), (0, 0)), mode="reflect")
    down: NDArray[np.float32] = side * rows[:-2] + middle * rows[1:-1] + side * rows[2:]
    columns = np.pad(down, ((0, 0), (1, 1), (0, 0)), mode="reflect")
    blurred: NDArray[np.float32] = side * columns[:, :-2] + middle * columns[:, 1:-1] + side * columns[:, 2:]
    return blurred


def _median(values_YX: NDArray[np.float32]) -> NDArray[np.float32]:
    reach, middle = MEDIAN_SIDE // 2, MEDIAN_SIDE**2 // 2
    padded = np.pad(values_YX, reach, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (MEDIAN_SIDE, MEDIAN_SIDE))
    strips = [windows[row : row + STRIP_ROWS] for row in range(0, len(values_YX), STRIP_ROWS)]
    return np.concatenate([np.partition(strip.reshape(*strip.shape[:2], -1), middle, -1)[..., middle] for strip in strips])
