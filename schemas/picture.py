"""Decoded pixels of one picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]  # x0, y0, x1, y1


@dataclass(frozen=True)
class Picture:
    """Upright RGB pixels (EXIF applied, transparency over white), 8 bits a channel.

    `pixels_YX3` is (height, width, 3) uint8. `sha256` is the hex digest of the file's bytes.
    """

    pixels_YX3: NDArray[np.uint8]
    sha256: str

    @property
    def width(self) -> int:
        return int(self.pixels_YX3.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels_YX3.shape[0])
