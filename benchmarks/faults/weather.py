"""What hanging addresses, throttling and outages cost the rows of a fetcher, with its default settings and real sockets.

The servers run in this process: rates are low, so that what is measured is waiting and not the processor.
"""

import http.client
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from benchmarks.faults.figures import Figure, Figures, table
from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.fetch import Fetcher
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status
from tests.faults.weather_server import HANGS, Weather, WeatherServer, running_weather

_PACED_S, _ROWS_PER_S = 90, 10  # with 60 s per row, 60 hang side by side
_FAULTY_ROWS = 1000
_LIMIT_BYTES = 100_000_000
_OUTAGE_S, _BEFORE_S, _AFTER_S = 60.0, 5.0, 25.0
_CALLERS = 16


@dataclass(frozen=True)
class _Row:
    """How one row ended, in seconds of one clock."""

    uri: str
    status: str
    began_s: float
    ended_s: float


def measure() -> Figures:
    """Five minutes, nearly all of it waiting."""
    with _credentials():
        return _sizes() + _hangs() + _faults() + _outages()


def _sizes() -> Figures:
    """A body without end, against the limit on what is read and kept."""
    counted, read1 = [0], http.client.HTTPResponse.read1

    def count(reply: http.client.HTTPResponse, most: int = -1) -> bytes:
        chunk = read1(reply, most)
        counted[0] += len(chunk)
        return chunk

    with running_weather(Weather()) as server, mock.patch.object(http.client.HTTPResponse, "read1", count):
        fetch = _fetching(server, max_bytes=_LIMIT_BYTES)
        fetch(f"http://{server.authority}/good/0")
        counted[0], before = 0, _most_bytes(anew=True)
        row = fetch(f"http://{server.authority}/endless/0")
        kept = _most_bytes() - before
    return [
        Figure("body without end: rows not too_large", row.status != Status.FETCH_TOO_LARGE, 0, 1),
        Figure("body without end: bytes read past the limit", counted[0] - _LIMIT_BYTES, 1 << 16, 1),
        Figure("body without end: peak memory over the limit", kept / _LIMIT_BYTES, 1.1, 1),
    ]


def _most_bytes(anew: bool = False) -> int:
    """Most memory this process has had resident; `anew`: from now on."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def _hangs() -> Figures:
    """Two fetchers beside each other at the same pace; one of them has a tenth of its addresses hang."""
    before, settings = _leftovers(), FetchSettings()
    with running_weather(Weather()) as calm, running_weather(Weather()) as hanging, ThreadPoolExecutor(3) as beside:
        ends = beside.submit(_all_hang)
        good, mixed = beside.map(_paced, (calm, hanging), (False, True))
    slowest_s = max(row.ended_s - row.began_s for row in mixed)
    share = _healthy_per_s(mixed) / _healthy_per_s(good)
    hung = [row for row in mixed if row.status != "ok"]
    lost = sum("/good/" in row.uri for row in hung)
    waits_s = sorted(row.ended_s - row.began_s for row in mixed if "/good/" in row.uri)
    return [
        Figure("healthy rows/s beside 10 % hanging, over none", share, 0.95, len(mixed), at_most=False),
        Figure("healthy rows lost beside hanging ones", lost, 0, len(mixed) - len(hung)),
        Figure("healthy rows beside hanging ones, 99th percentile", waits_s[99 * len(waits_s) // 100], 1, len(waits_s), unit="s"),
        Figure("slowest row", slowest_s, settings.timeout_s + 1, len(hung), unit="s"),
        Figure("slowest row where all others hang too", max(ends.result()), settings.timeout_s + 1, len(ends.result()), unit="s"),
        Figure("threads and sockets left", _leftovers() - before, 0, len(mixed)),
    ]


def _all_hang() -> list[float]:
    """Seconds that the last rows of a job took, when nobody else is left to show that the host answers."""
    with running_weather(Weather()) as server, ThreadPoolExecutor(FetchSettings().concurrency) as pool:
        fetch = _fetching(server)
        fetch(f"http://{server.authority}/good/0")
        rows = pool.map(fetch, [f"http://{server.authority}/{HANGS[number % len(HANGS)]}/{number}" for number in range(8)])
        return [row.ended_s - row.began_s for row in rows]


def _paced(server: WeatherServer, hang: bool) -> list[_Row]:
    fetch, rows = _fetching(server), []
    with ThreadPoolExecutor(_PACED_S * _ROWS_PER_S // 10 + 64) as pool:
        start_s = time.monotonic()
        for number in range(_PACED_S * _ROWS_PER_S):
            if number % 10 != 9:
                rows.append(pool.submit(fetch, f"http://{server.authority}/good/{number}"))
            elif hang:
                rows.append(pool.submit(fetch, f"http://{server.authority}/{HANGS[number // 10 % len(HANGS)]}/{number}"))
            time.sleep(max(0.0, start_s + (number + 1) / _ROWS_PER_S - time.monotonic()))
        return [row.result() for row in rows]


def _healthy_per_s(rows: list[_Row]) -> float:
    healthy = [row for row in rows if "/good/" in row.uri]
    return len(healthy) / (max(row.ended_s for row in healthy) - min(row.began_s for row in healthy))


def _faults() -> Figures:
    """Three requests in ten meet a fault: a throttling or broken reply, a reset, a body cut short."""
    figures = []
    for kind in ("http", "s3"):
        with running_weather(Weather(fault_share=0.3, retry_after="1")) as server, ThreadPoolExecutor(_CALLERS) as pool:
            rows = list(pool.map(_fetching(server, kind), [_uri(server, kind, number) for number in range(_FAULTY_ROWS)]))
            requests = server.seen.hits.total() / len(rows)
        failed = sum(row.status != "ok" for row in rows)
        figures += [
            Figure(f"rows failed at 30 % faults, {kind}", failed, 0, len(rows)),
            Figure(f"requests per row at 30 % faults, {kind}", requests, 1.6, len(rows)),
        ]
    return figures


def _outages() -> Figures:
    """Three hosts at once go out for a minute, each in its own way, while rows keep coming."""
    kinds = (("http", "503"), ("http", "silent"), ("s3", "reset"))
    with ThreadPoolExecutor(len(kinds)) as side_by_side:
        return [figure for figures in side_by_side.map(_outage, *zip(*kinds, strict=True)) for figure in figures]


def _outage(kind: str, fault: str) -> Figures:
    with running_weather(Weather(delay_s=0.2)) as server, ThreadPoolExecutor(_CALLERS) as pool:
        fetch, end_s = _fetching(server, kind), time.monotonic() + _BEFORE_S + _OUTAGE_S + _AFTER_S
        callers = [pool.submit(_until, end_s, fetch, server, kind, number) for number in range(_CALLERS)]
        time.sleep(_BEFORE_S)
        server.seen.peak, asked, out_s = 0, server.seen.hits.total(), time.monotonic()
        server.weather.outage = fault
        time.sleep(_OUTAGE_S)
        server.weather.outage, back_s = None, time.monotonic()
        peak, asked = server.seen.peak, server.seen.hits.total() - asked
        rows = [row for caller in callers for row in caller.result()]
    name = f"60 s outage ({kind}, {fault})"
    return [
        Figure(f"{name}: rows failed", sum(row.status != "ok" for row in rows), 0, len(rows)),
        Figure(f"{name}: most requests at a time", peak, _CALLERS, asked),
        Figure(f"{name}: requests during it", asked, 2 * _CALLERS + _OUTAGE_S, asked),
        Figure(f"{name}: seconds until rows flow again", _recovery_s(rows, out_s, back_s), 15, len(rows), unit="s"),
    ]


def _until(end_s: float, fetch: Callable[[str], _Row], server: WeatherServer, kind: str, caller: int) -> list[_Row]:
    rows: list[_Row] = []
    while time.monotonic() < end_s:
        rows.append(fetch(_uri(server, kind, 1000 * caller + len(rows))))
    return rows


def _recovery_s(rows: list[_Row], out_s: float, back_s: float) -> float:
    """Seconds from the end of the outage to the start of the first second that ends as many rows as one before, less a tenth."""
    ends = sorted(row.ended_s for row in rows)
    usual = sum(out_s - _BEFORE_S + 1 <= end < out_s for end in ends) / (_BEFORE_S - 1)
    after = [end for end in ends if end >= back_s]
    return next((end - back_s for end in after if sum(end <= other < end + 1 for other in after) >= 0.9 * usual), float("inf"))


def _uri(server: WeatherServer, kind: str, number: int) -> str:
    return f"s3://archive/good/{number}" if kind == "s3" else f"http://{server.authority}/good/{number}"


def _fetching(server: WeatherServer, kind: str = "http", max_bytes: int = 1 << 20) -> Callable[[str], _Row]:
    if kind == "s3":  # one at a time: its client reads the environment
        os.environ["AWS_ENDPOINT_URL"] = f"http://{server.authority}"
    settings = FetchSettings(schemes=("http", "s3"), hosts=(server.authority,), buckets=("archive",), max_bytes=max_bytes)
    fetcher = Fetcher(settings, AddressPolicy.from_settings(settings, "s3://archive", True, loopback_for_tests=True))

    def fetch(uri: str) -> _Row:
        began_s = time.monotonic()
        try:
            fetcher.fetch(uri)
        except RowFailure as failure:
            return _Row(uri, failure.status, began_s, time.monotonic())
        return _Row(uri, "ok", began_s, time.monotonic())

    return fetch


def _leftovers() -> int:
    """Fetching threads and open sockets of this process."""
    until_s = time.monotonic() + 2  # a thread that has just been cut is on its way out
    while (count := _threads_and_sockets()) and time.monotonic() < until_s:
        time.sleep(0.05)
    return count


def _threads_and_sockets() -> int:
    links = [os.path.join("/proc/self/fd", one) for one in os.listdir("/proc/self/fd")]
    sockets = sum(os.path.islink(one) and os.readlink(one).startswith("socket:") for one in links)
    return sockets + sum(thread.name == "fetch" for thread in threading.enumerate())


@contextmanager
def _credentials() -> Iterator[None]:
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        config = {"AWS_CONFIG_FILE": str(Path(folder, "none")), "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ.update(config, AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s")
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


if __name__ == "__main__":
    print(table("Weather", measure()))
