"""Who was contacted: listeners that nobody may reach, and every connection that this process opens."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

_watching: list["Contacts"] = []


class Contacts:
    """`accepted` counts connections at the canaries; `dialled` lists the internet addresses that sockets were told to connect to.

    Nothing leaves this machine while it watches: a connection to anywhere else is noted, then refused.
    """

    def __init__(self, allowed_ports: set[int]) -> None:
        self.allowed_ports = allowed_ports
        self.accepted, self.port = 0, 0
        self.dialled: list[tuple[str, int]] = []
        self._listeners: list[socket.socket] = []

    @contextlib.contextmanager
    def watching(self) -> Iterator["Contacts"]:
        """Canaries on 127.0.0.1 and, where there is one, ::1, at the same port."""
        four = socket.create_server(("127.0.0.1", 0))
        self.port, self._listeners = four.getsockname()[1], [four]
        with contextlib.suppress(OSError):
            self._listeners.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        threads = [threading.Thread(target=self._count, args=(one,), daemon=True) for one in self._listeners]
        for thread in threads:
            thread.start()
        _hook()
        _watching.append(self)
        try:
            yield self
        finally:
            _watching.remove(self)
            for listener in self._listeners:
                listener.shutdown(socket.SHUT_RDWR)
                listener.close()
            for thread in threads:
                thread.join()

    @property
    def canaries(self) -> int:
        return len(self._listeners)

    def stray(self) -> int:
        """Contacts that should not have been."""
        return self.accepted + len(self.dialled)

    def _count(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller = listener.accept()[0]
                self.accepted += 1
                caller.close()

    def note(self, address: Any) -> None:
        """A socket is about to connect."""
        if not isinstance(address, tuple) or address[1] in self.allowed_ports:
            return
        self.dialled.append((str(address[0]), address[1]))
        if address[1] != self.port:
            raise ConnectionRefusedError(f"no way to {address[0]} while contacts are watched")


def _on_event(event: str, details: Any) -> None:
    if event == "socket.connect":
        for one in _watching:
            one.note(details[1])


_hooked: list[bool] = []


def _hook() -> None:
    if not _hooked:  # one can never be removed
        sys.addaudithook(_on_event)
        _hooked.append(True)
