"""Steps 3 to 5 of pure-grad (ViCrop section 4.4), pixel by pixel.

Conventions the specification leaves open: the blur's border is reflected without repeating the edge (d c b | a b c d), the
median's with repeating it (c b a | a b c d), both as in the libraries the published code calls.
"""

import math

import numpy as np

BLUR, SIGMA, MEDIAN = 3, 0.8, 7


def high_pass(pixels_YX3: np.ndarray) -> np.ndarray:
    """(Y, X): median-filtered L2 norm of what a 3 x 3 Gaussian takes away. Pixels in 0..1."""
    near = [math.exp(-((k - BLUR // 2) ** 2) / (2 * SIGMA**2)) for k in range(BLUR)]
    near = [value / sum(near) for value in near]
    high, wide = pixels_YX3.shape[:2]
    padded = np.pad(pixels_YX3.astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="reflect")
    norms = np.zeros((high, wide))
    for y in range(high):
        for x in range(wide):
            blurred = sum(near[i] * near[j] * padded[y + i, x + j] for i in range(BLUR) for j in range(BLUR))
            norms[y, x] = np.sqrt(((pixels_YX3[y, x] - blurred) ** 2).sum())
    around = np.pad(norms, MEDIAN // 2, mode="symmetric")
    return np.array([[np.median(around[y : y + MEDIAN, x : x + MEDIAN]) for x in range(wide)] for y in range(high)])


def pure_grad_map(ratio_YX: np.ndarray, pixels_YX3: np.ndarray, block_px: int) -> np.ndarray:
    """(rows, columns): mean of the ratio over each block, pixels at or below the high-pass median counting as zero."""
    edges = high_pass(pixels_YX3)
    kept = np.where(edges > np.median(edges), ratio_YX, 0.0)
    rows, columns = kept.shape[0] // block_px, kept.shape[1] // block_px
    blocks = [
        [kept[r * block_px : (r + 1) * block_px, c * block_px : (c + 1) * block_px].mean() for c in range(columns)]
        for r in range(rows)
    ]
    return np.array(blocks)
