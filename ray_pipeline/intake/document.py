"""A fetched file in memory that decoding children map: sent to each at most once, however many pages are asked of it."""

import fcntl
import hashlib
import itertools
import os
import tempfile
from types import TracebackType

_NUMBERS = itertools.count(1)


class Document:
    """The file's bytes. `pages` is 0 until a child has counted them; `sha256` is the hex digest of the bytes.

    Raises:
        OSError: no memory or no descriptor left.
    """

    def __init__(self, data: bytes) -> None:
        self.number, self.bytes = next(_NUMBERS), len(data)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.pages = 0
        self.descriptor = sealed_memory("picture-file", data, len(data), fcntl.F_SEAL_WRITE)

    def __enter__(self) -> "Document":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory back, as far as no child looks at it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


def sealed_memory(name: str, data: bytes, size: int, seals: int = 0) -> int:
    """Descriptor of anonymous memory whose size nobody can change: a child that shrank it would crash its reader.

    Untouched pages take no memory, so sizing it for the largest picture costs nothing.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        rest, place = memoryview(data), 0
        while place < len(rest):
            place += os.pwrite(descriptor, rest[place:], place)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL | seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def unnamed_file(folder: str, size: int) -> int:
    """Descriptor of a file there that nobody else can open and that ends with its last descriptor, its bytes reserved at once.

    What is looked at in it takes memory that the kernel can take back; anonymous memory cannot be.

    Raises:
        OSError: no such folder, or no room.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        return os.dup(file.fileno())
