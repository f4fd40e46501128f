"""Messages arrive whole, with their descriptors, or say why they do not."""

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.model_wire import WireBroken, receive, send

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@settings(max_examples=50)
@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_sent_arrives(message: dict[str, object]) -> None:
    left, right = socket.socketpair()
    with left, right:
        send(left, message)
        assert receive(right, 5.0) == (message, [])


def test_a_long_message_and_a_descriptor_arrive_together(ends: tuple[socket.socket, socket.socket]) -> None:
    left, right = ends
    descriptor = os.memfd_create("x")
    os.write(descriptor, b"pixels")
    text = "é\ud800\u2028" * 300_000
    sender = threading.Thread(target=send, args=(left, {"text": text}, descriptor))
    sender.start()
    message, (received,) = receive(right, 5.0)
    sender.join()
    assert message == {"text": text} and os.pread(received, 6, 0) == b"pixels"
    os.close(received)
    os.close(descriptor)


def test_a_silent_sender_is_a_timeout(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(struct.pack(">Q", 10) + b"{")
    with pytest.raises(TimeoutError):
        receive(ends[1], 0.05)


BROKEN = {
    "nothing": b"",
    "half a length": b"\0\0",
    "half a message": struct.pack(">Q", 10) + b"{",
    "no object": struct.pack(">Q", 2) + b"[]",
    "a length beyond reason": struct.pack(">Q", 1 << 40),
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=list(BROKEN))
def test_what_is_no_message_breaks_the_wire(sent: bytes, ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(sent)
    ends[0].close()
    with pytest.raises(WireBroken):
        receive(ends[1], 5.0)


def test_letters_that_are_no_json_are_no_message(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(struct.pack(">Q", 3) + b"abc")
    with pytest.raises(json.JSONDecodeError):
        receive(ends[1], 5.0)
