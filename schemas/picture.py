"""Decoded pixels of one picture."""

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]  # x0, y0, x1, y1


class PixelFile:
    """A file on disk that holds a picture's pixels from its first byte on; closed when nothing refers to it any more.

    `descriptor` reads only: whoever is handed it cannot cut short what others look at.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self.descriptor)


@dataclass(frozen=True)
class Picture:
    """Upright RGB pixels (EXIF applied, transparency over white), 8 bits a channel.

    `pixels_YX3` is (height, width, 3) uint8. `sha256` is the hex digest of the file's bytes. `file` is null for pixels that lie
    in memory alone; where it is not, only what is looked at of them takes memory, which the kernel can take back.
    """

    pixels_YX3: NDArray[np.uint8]
    sha256: str
    file: PixelFile | None = None

    @property
    def width(self) -> int:
        return int(self.pixels_YX3.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels_YX3.shape[0])
