"""A small http server that misbehaves on demand: one fault per path."""

import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BODY = bytes(range(256)) * 8  # 2048 bytes


class FaultServer(ThreadingHTTPServer):
    """`hits` counts requests per path; `headers_seen` keeps the last request's headers; what dawdles goes on until `released`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Faults)
        self.hits: Counter[str] = Counter()
        self.headers_seen: dict[str, str] = {}
        self.elsewhere = ""
        self.released = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what is tested."""


@contextmanager
def running(context: ssl.SSLContext | None = None) -> Iterator[FaultServer]:
    server = FaultServer()
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Faults(BaseHTTPRequestHandler):
    server: FaultServer

    def do_GET(self) -> None:
        name = self.path.split("?")[0].split("/")[1]
        self.server.hits[name] += 1
        self.server.headers_seen = dict(self.headers)
        action: Callable[[], None] | None = getattr(self, f"_{name.replace('-', '_')}", None)
        if name.isdigit():
            self._reply(int(name))
        elif action:
            action()
        else:
            self._reply(404)

    def log_message(self, *_: object) -> None:
        pass

    def _reply(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _good(self) -> None:
        self._reply(200, BODY)

    def _empty(self) -> None:
        self._reply(200)

    def _chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(BODY), 512):
            self.wfile.write(b"200\r\n" + BODY[start : start + 512] + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunked_cut(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"200\r\n" + BODY[:100])

    def _announced_huge(self) -> None:
        self._reply(200, b"x", length=10**12)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(4096))

    def _short(self) -> None:
        self._reply(200, BODY, length=len(BODY) + 10)

    def _longer_than_announced(self) -> None:
        self._reply(200, BODY + b"more", length=len(BODY))

    def _gzip(self) -> None:
        self._reply(200, BODY, Content_Encoding="gzip")

    def _silent(self) -> None:
        self.server.released.wait()

    def _stops(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2048")
        self.end_headers()
        self.wfile.write(BODY[:100])
        self.server.released.wait()

    def _trickle(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2048")
        self.end_headers()
        self._drip(BODY[:2047])

    def _trickled_header(self) -> None:
        self._drip(b"HTTP/1.0 200 OK\r\nX-Long: " + b"x" * 60_000)

    def _drip(self, data: bytes) -> None:
        """Never silent, and never done."""
        for letter in data:
            self.wfile.write(bytes([letter]))
            if self.server.released.wait(0.03):
                return
        self.server.released.wait()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _second_time(self) -> None:
        self._reply(503) if self.server.hits["second-time"] == 1 else self._good()

    def _third_time(self) -> None:
        self._reset() if self.server.hits["third-time"] < 3 else self._good()

    def _busy(self) -> None:
        self._reply(429, Retry_After="0")

    def _very_busy(self) -> None:
        self._reply(503, Retry_After="3600")

    def _nonsense(self) -> None:
        self.wfile.write(b"\x16\x03\x01 this is not http\r\n\r\n")

    def _hops(self) -> None:
        left = int(self.path.split("?")[0].split("/")[2])
        self._reply(302, Location=f"/hops/{left - 1}" if left else "/good")

    def _away(self) -> None:
        self._reply(301, Location=self.server.elsewhere)
