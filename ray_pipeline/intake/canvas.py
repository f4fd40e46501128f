"""Pixels too many to be mapped at once: filled block by block through a window that moves over them."""

import mmap

import numpy as np
from numpy.typing import NDArray

_WINDOW_BYTES = 64 << 20


class Canvas:
    """Pixel memory of (height, width, 3) uint8 behind a descriptor. The address space of a confined process need not hold it."""

    def __init__(self, memory: int, width: int, height: int) -> None:
        self._memory, self._width, self._height = memory, width, height

    def put(self, left: int, top: int, block_YXC: NDArray[np.uint8]) -> None:
        """Lay a block there; one channel becomes grey."""
        rows = max(1, _WINDOW_BYTES // (3 * self._width))
        for first in range(0, len(block_YXC), rows):
            self._put_rows(left, top + first, block_YXC[first : first + rows])

    def _put_rows(self, left: int, top: int, block_YXC: NDArray[np.uint8]) -> None:
        start, wanted = 3 * self._width * top, 3 * self._width * len(block_YXC)
        before = start % mmap.ALLOCATIONGRANULARITY
        window = mmap.mmap(self._memory, before + wanted, offset=start - before)
        rows_YX3 = np.frombuffer(window, np.uint8, wanted, before).reshape(len(block_YXC), self._width, 3)
        rows_YX3[:, left : left + block_YXC.shape[1]] = block_YXC
