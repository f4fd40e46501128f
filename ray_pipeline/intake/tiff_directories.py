"""Where a TIFF's pages begin: its chain of directories, followed without decoding a pixel.

Pillow reaches a page through all those before it, in time that grows with their square, and not at all past a broken one.
Here the chain is read as what it is, and each page becomes the first of a file that differs in that one address.
"""

import struct
from collections.abc import Callable

from schemas.status import RowFailure, Status

_CLASSIC = ("I", 4, "H", 12)  # an address, where the header has the first one, a count of entries, bytes of an entry
_BIG = ("Q", 8, "Q", 20)


def directories(data: memoryview, most: int) -> list[int]:
    """Places of the directories in the order of the chain, at most `most` + 1 of them.

    A chain ends with 0 or where it comes back to itself. An address beyond the end of the file is a page too: one that is lost.

    Raises:
        RowFailure: decode_corrupt, where not even the first directory is there.
    """
    address, place, _, _ = _layout(data)
    found: dict[int, None] = {}
    following = _number(data, place, address)
    while following and following not in found and len(found) <= most:
        found[following] = None
        following = _next(data, following)
    first = next(iter(found), None)
    if first is None or first >= len(data):
        raise RowFailure(Status.DECODE_CORRUPT, "starts as TIFF, but its header cannot be read")
    return list(found)


def alone(data: memoryview, directory: int) -> bytes:
    """The file with this directory as the first and last of its chain."""
    address, place, _, _ = _layout(data)
    end = _end(data, directory)
    head, tail = (struct.pack(_order(data) + address, number) for number in (directory, 0))
    after = place + len(head)
    return b"".join([data[:place], head, data[after:end], tail[: max(0, len(data) - end)], data[end + len(tail) :]])


def _next(data: memoryview, directory: int) -> int:
    return _number(data, _end(data, directory), _layout(data)[0])


def _end(data: memoryview, directory: int) -> int:
    """Where it says what follows it."""
    _, _, count, entry_bytes = _layout(data)
    return directory + struct.calcsize(count) + _number(data, directory, count) * entry_bytes


def _layout(data: memoryview) -> tuple[str, int, str, int]:
    return _BIG if 43 in (data[2], data[3]) else _CLASSIC


def _order(data: memoryview) -> str:
    return "<" if data[0] == ord("I") else ">"


def _number(data: memoryview, place: int, kind: str) -> int:
    """The number there; 0 beyond the end of the file."""
    unpack: Callable[..., tuple[int]] = struct.Struct(_order(data) + kind).unpack_from
    return unpack(data, place)[0] if place + struct.calcsize(kind) <= len(data) else 0
