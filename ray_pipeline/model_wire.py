"""What a worker and its model process say to each other over a socket: JSON with a length before it, never code.

    worker  {"settings": ..., "load": [module, name] or null}            once; the answer is {"ready": true} or {"refused": text}
    worker  {"rows": [row, ...]}                                         a batch; each row is followed by the memory of its pixels
    model   {"step": true} | {"ended": number, "row": result row} | {"done": true}

A descriptor travels with the first byte of its message. Pixels are (height, width, 3) uint8 from the start of their memory.
"""

import json
import socket
import struct
import time
from typing import Any

_HEAD = struct.Struct(">Q")
_LONGEST_BYTES = 1 << 30


class WireBroken(ConnectionError):
    """The other side has gone, or sent what is no message."""


def send(channel: socket.socket, message: dict[str, Any], descriptor: int | None = None) -> None:
    """The whole message, with a descriptor where there is one."""
    body = json.dumps(message).encode()
    head = _HEAD.pack(len(body))
    if descriptor is None:
        channel.sendall(head + body)
        return
    sent = socket.send_fds(channel, [head], [descriptor])
    channel.sendall(head[sent:] + body)


def receive(channel: socket.socket, timeout_s: float | None = None) -> tuple[dict[str, Any], list[int]]:
    """The next message and the descriptors that came with it, which are the caller's to close.

    Raises:
        TimeoutError: it was not there after `timeout_s` seconds.
        WireBroken: the other side has gone.
    """
    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    _set_timeout(channel, end_s)
    head, descriptors, _, _ = socket.recv_fds(channel, _HEAD.size, 1)
    head += _exactly(channel, _HEAD.size - len(head), end_s) if head else b""
    if not head:
        raise WireBroken("the other side has gone")
    (size,) = _HEAD.unpack(head)
    if size > _LONGEST_BYTES:
        raise WireBroken(f"a message of {size} bytes was announced, expected at most {_LONGEST_BYTES}")
    message = json.loads(_exactly(channel, size, end_s))
    if not isinstance(message, dict):
        raise WireBroken("a message that is no object")
    return message, list(descriptors)


def _exactly(channel: socket.socket, size: int, end_s: float | None) -> bytes:
    received = bytearray()
    while len(received) < size:
        _set_timeout(channel, end_s)
        chunk = channel.recv(min(1 << 20, size - len(received)))
        if not chunk:
            raise WireBroken("the other side has gone in the middle of a message")
        received += chunk
    return bytes(received)


def _set_timeout(channel: socket.socket, end_s: float | None) -> None:
    channel.settimeout(None if end_s is None else max(0.001, end_s - time.monotonic()))
