"""The disposable process that meets the bytes of strangers. Started by `decode.py`; ends when its socket closes."""

import json
import math
import mmap
import os
import resource
import signal
import socket
import sys

import numpy as np

from ray_pipeline.intake import decode_wire as wire
from ray_pipeline.intake.confinement import give_up_rights
from ray_pipeline.intake.pixels import open_upright, prepare_pillow, write_rgb
from schemas.status import RowFailure, Status


def main() -> None:
    """Arguments: socket descriptor, max_pixels, max_pages, address space in bytes, CPU seconds per file."""
    descriptor, max_pixels, max_pages, memory_bytes = (int(text) for text in sys.argv[1:5])
    channel = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is sent to all processes of a job is the parent's to answer
    prepare_pillow(max_pixels)
    give_up_rights(memory_bytes)
    channel.sendall(wire.READY_MARK)
    while _serve(channel, max_pixels, max_pages, cpu_s=float(sys.argv[5])):
        pass


def _serve(channel: socket.socket, max_pixels: int, max_pages: int, cpu_s: float) -> bool:
    """One file. False when the parent has gone."""
    request, descriptors, _, _ = socket.recv_fds(channel, wire.TASK.size, 2)
    if not request:
        return False
    mark, has_page, page, file_bytes = wire.TASK.unpack(request)
    if mark != wire.TASK_MARK or len(descriptors) != 2:
        return False
    _allow_cpu(cpu_s)
    file, memory = descriptors
    text = b""
    width = height = 0
    try:
        width, height = _decode(file, memory, file_bytes, page if has_page else None, max_pixels, max_pages)
    except RowFailure as failure:
        text = json.dumps([failure.status, failure.message[:500]]).encode()
    except MemoryError:
        text = json.dumps([Status.DECODE_TOO_LARGE, "needs more memory than fetch.decode_memory_bytes"]).encode()
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    channel.sendall(wire.REPLY.pack(wire.REPLY_MARK, width, height, len(text)) + text)
    return True


def _decode(file: int, memory: int, file_bytes: int, page: int | None, max_pixels: int, max_pages: int) -> tuple[int, int]:
    """(width, height) of the pixels now in `memory`."""
    with mmap.mmap(file, file_bytes, prot=mmap.PROT_READ) if file_bytes else memoryview(b"") as view:
        image = open_upright(bytes(view), page, max_pixels, max_pages)
    # Not closed by hand: a failure's traceback may still hold the array that looks at it.
    target = mmap.mmap(memory, image.width * image.height * 3)
    write_rgb(image, np.frombuffer(target, dtype=np.uint8).reshape(image.height, image.width, 3))
    return image.width, image.height


def _allow_cpu(seconds: float) -> None:
    """CPU time up to now plus `seconds`: ends a child whose parent was killed while it ran away."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
