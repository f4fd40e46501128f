"""A web and S3 server on this machine with weather: dice that throw faults, and outages that begin and end on demand."""

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BODY = bytes(range(256)) * 8
FAULTS = ("503", "429", "500", "reset", "short", "cut")
HANGS = ("silent", "trickle", "stops")  # and one that never ends:
ENDLESS = "endless"


@dataclass
class Weather:
    """How the server behaves; may be changed while it runs.

    A path's first folder may name a hang (`/silent/7`), `endless`, or a status that it always gives (`/500/7`); all else is good.
    The dice of a path's n-th request are the same in every run. `outage`: None, or a fault that meets every request, or `silent`.
    """

    fault_share: float = 0.0
    faults: tuple[str, ...] = FAULTS
    delay_s: float = 0.0
    outage: str | None = None
    retry_after: str | None = None
    seed: int = 0


@dataclass
class Seen:
    """What clients did. `peak` is of requests under way at a time since it was last set to 0."""

    hits: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    under_way: int = 0
    peak: int = 0
    times_s: list[float] = field(default_factory=list)


class WeatherServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, weather: Weather) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.weather, self.seen = weather, Seen()
        self.released, self.lock = threading.Event(), threading.Lock()

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what is tested."""


@contextmanager
def running_weather(weather: Weather) -> Iterator[WeatherServer]:
    server = WeatherServer(weather)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: WeatherServer

    def do_GET(self) -> None:
        seen, weather = self.server.seen, self.server.weather
        path = self.path.split("?")[0]
        with self.server.lock:
            seen.hits[path] += 1
            seen.under_way += 1
            seen.peak = max(seen.peak, seen.under_way)
            seen.times_s.append(time.monotonic())
            dice = random.Random(f"{weather.seed} {path} {seen.hits[path]}")
        try:
            self._answer(path, weather, dice)
        finally:
            with self.server.lock:
                seen.under_way -= 1
                seen.answered += 1

    def _answer(self, path: str, weather: Weather, dice: random.Random) -> None:
        kind = path.split("/")[1]
        if weather.outage:
            self._do(weather.outage, weather)
        elif kind in (*HANGS, ENDLESS) or kind.isdigit():
            self._do(kind, weather)
        elif dice.random() < weather.fault_share:
            self._do(dice.choice(weather.faults), weather)
        else:
            self.server.released.wait(weather.delay_s)
            self._reply(200, BODY)

    def _do(self, fault: str, weather: Weather) -> None:
        if fault.isdigit():
            code = {"503": "SlowDown", "429": "TooManyRequests", "500": "InternalError"}.get(fault, "Other")
            self._reply(int(fault), f"<Error><Code>{code}</Code></Error>".encode(), retry_after=weather.retry_after)
        elif fault == "reset":
            self._reset()
        elif fault == "short":
            self._reply(200, BODY[:100], len(BODY))
        elif fault == "cut":
            self._reply(200, BODY[:1000], len(BODY))
            self.wfile.flush()
            self._reset()
        else:
            self._dawdle(fault)

    def _dawdle(self, fault: str) -> None:
        if fault == "silent":
            self._wait_in_silence()
        elif fault == "stops":
            self._reply(200, BODY[:100], len(BODY))
            self._wait_in_silence()
        elif fault == "trickle":
            self._reply(200, b"", 10**6)
            while not self.server.released.wait(0.2):
                self.wfile.write(b"x")
        elif fault == ENDLESS:
            self._reply(200, b"", None)
            while not self.server.released.is_set():
                self.wfile.write(bytes(1 << 16))

    def _wait_in_silence(self) -> None:
        """Until the client hangs up."""
        self.connection.settimeout(0.1)
        while not self.server.released.is_set():
            with contextlib.suppress(TimeoutError):
                if not self.connection.recv(1):
                    return

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _reply(self, status: int, body: bytes, length: int | None = -1, retry_after: str | None = None) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        if retry_after is not None:
            if retry_after.startswith("date+"):
                retry_after = formatdate(time.time() + float(retry_after[5:]), usegmt=True)
            self.send_header("Retry-After", retry_after)
        self.send_header("ETag", '"e"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
