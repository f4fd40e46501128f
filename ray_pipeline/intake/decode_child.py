"""The disposable process that meets the bytes of strangers. Started by `decode.py`; ends when its socket closes."""

import json
import math
import mmap
import os
import resource
import signal
import socket
import sys
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ray_pipeline.intake import decode_wire as wire
from ray_pipeline.intake.canvas import Canvas
from ray_pipeline.intake.confinement import give_up_rights
from ray_pipeline.intake.opened_file import OpenedFile, PageLimits
from ray_pipeline.intake.pixels import prepare_pillow
from schemas.status import RowFailure, Status


def main() -> None:
    """Arguments: socket descriptor, max_pixels, max_pages, pdf_dpi (0: no PDFs), huge_pixels (0: none), address space in bytes,
    CPU seconds per file."""
    descriptor, max_pixels, max_pages, pdf_dpi, huge_pixels, memory_bytes = (int(text) for text in sys.argv[1:7])
    channel = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is sent to all processes of a job is the parent's to answer
    prepare_pillow(max(max_pixels, huge_pixels))
    if huge_pixels:
        from ray_pipeline.intake.bands import prepare_libvips

        prepare_libvips()
    if pdf_dpi:
        from ray_pipeline.intake.pdf_pages import prepare_pdfium  # a library that is not asked for is not even loaded

        prepare_pdfium()
    give_up_rights(memory_bytes)
    channel.sendall(wire.READY_MARK)
    desk = _Desk(PageLimits(max_pixels, max_pages, pdf_dpi, huge_pixels))
    while _serve(channel, desk, cpu_s=float(sys.argv[7])):
        pass


class _Desk:
    """The one file that lies open."""

    def __init__(self, limits: PageLimits) -> None:
        self._limits, self._number = limits, wire.ALONE
        self._file: OpenedFile | None = None

    def opened(self, number: int, descriptor: int, file_bytes: int) -> OpenedFile:
        """The document of that number, opened now if it is not the one that lies here."""
        if self._file is None or number == wire.ALONE or number != self._number:
            self.clear()
            file = mmap.mmap(descriptor, file_bytes, mmap.MAP_PRIVATE, mmap.PROT_READ) if file_bytes else b""
            self._file, self._number = OpenedFile(file, self._limits), number
        return self._file

    def clear(self) -> None:
        """Close what lies here."""
        if self._file is not None:
            self._file.close()
        self._number, self._file = wire.ALONE, None


def _serve(channel: socket.socket, desk: _Desk, cpu_s: float) -> bool:
    """One request. False when the parent has gone."""
    request, descriptors, _, _ = socket.recv_fds(channel, wire.TASK.size, 2)
    if not request:
        return False
    mark, number, page, file_bytes = wire.TASK.unpack(request)
    if (mark, len(descriptors)) not in ((wire.OPEN_MARK, 1), (wire.PAGE_MARK, 2), (wire.HUGE_MARK, 2)):
        return False
    _allow_cpu(cpu_s)
    text = b""
    width = height = pages = 0
    try:
        file = desk.opened(number, descriptors[0], file_bytes)
        pages = file.pages
        if mark != wire.OPEN_MARK:
            pixels, canvas = partial(_pixels, descriptors[1]), partial(Canvas, descriptors[1])
            width, height = file.write(page, pixels, canvas if mark == wire.HUGE_MARK else None)
            if number == wire.ALONE or pages == 1:
                desk.clear()
    except RowFailure as failure:
        text = json.dumps([failure.status, failure.message[:500]]).encode()
    except MemoryError:
        text = json.dumps([Status.DECODE_TOO_LARGE, "needs more memory than fetch.decode_memory_bytes"]).encode()
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    channel.sendall(wire.REPLY.pack(wire.REPLY_MARK, width, height, pages, len(text)) + text)
    return True


def _pixels(memory: int, width: int, height: int) -> NDArray[np.uint8]:
    """The pixel memory as an array. Not closed by hand: a failure's traceback may still hold the array that looks at it."""
    return np.frombuffer(mmap.mmap(memory, width * height * 3), dtype=np.uint8).reshape(height, width, 3)


def _allow_cpu(seconds: float) -> None:
    """CPU time up to now plus `seconds`: ends a child whose parent was killed while it ran away."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
