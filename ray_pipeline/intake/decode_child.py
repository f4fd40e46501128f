"""The disposable process that meets the bytes of strangers. Started by `decode.py`; ends when its socket closes."""

import ctypes
import json
import math
import mmap
import os
import resource
import socket
import sys

import numpy as np

from ray_pipeline.intake import decode_wire as wire
from ray_pipeline.intake.pixels import open_upright, prepare_pillow, write_rgb
from schemas.status import RowFailure, Status

_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_SET_NO_NEW_PRIVILEGES = 38
_MOST_FILES = 24
_SMALLEST_ROOM_BYTES = 32 << 20


def main() -> None:
    """Arguments: socket descriptor, max_pixels, max_pages, address space in bytes, CPU seconds per file."""
    descriptor, max_pixels, max_pages, memory_bytes = (int(text) for text in sys.argv[1:5])
    channel = socket.socket(fileno=descriptor)
    prepare_pillow(max_pixels)
    _give_up_rights(memory_bytes)
    channel.sendall(wire.READY_MARK)
    while _serve(channel, max_pixels, max_pages, cpu_s=float(sys.argv[5])):
        pass


def _give_up_rights(memory_bytes: int) -> None:
    """No more memory than allowed, no growing files, no core dumps, few descriptors, no network, no words.

    Raises:
        MemoryError: the allowed memory does not even hold a small picture; said before the words are taken away.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    _try_memory()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    # A network of its own has no interface that is up. Hosts may forbid new namespaces; then this is not a second wall,
    # and what remains is that the child holds no address, no credentials and no environment.
    if libc.unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC) != 0:
        libc.unshare(_NEW_NETWORK)
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    os.close(silent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_FILES, _MOST_FILES))


def _try_memory() -> None:
    try:
        bytearray(_SMALLEST_ROOM_BYTES)
    except MemoryError:
        raise MemoryError("fetch.decode_memory_bytes is too small for the decoder itself, expected some 500 MB") from None


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
