"""Throttling, outages and hangs are weather: no row fails of them, nobody else waits for them, and the host is not hammered."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.fetch import Fetcher
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status
from tests.faults.weather_server import BODY, HANGS, Weather, WeatherServer, running_weather


def web(server: WeatherServer, **settings: Any) -> Fetcher:
    chosen = FetchSettings(schemes=("http",), hosts=(server.authority,), **settings)
    return Fetcher(chosen, AddressPolicy.from_settings(chosen, "/nowhere", False, loopback_for_tests=True))


def fetched(fetching: Fetcher, server: WeatherServer, path: str) -> str:
    """`ok`, or the status."""
    try:
        body = fetching.fetch(f"http://{server.authority}{path}")
    except RowFailure as failure:
        return failure.status
    assert body == BODY
    return "ok"


def all_fetched(fetching: Fetcher, server: WeatherServer, paths: list[str], threads: int = 8) -> list[str]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda path: fetched(fetching, server, path), paths))


def rows(count: int) -> list[str]:
    return [f"/good/{number}" for number in range(count)]


def test_three_faults_in_ten() -> None:
    """The defaults bring every row home, at little more than the 1.43 requests per row that chance asks for."""
    with running_weather(Weather(fault_share=0.3, retry_after="0")) as server:
        assert all_fetched(web(server), server, rows(120)) == ["ok"] * 120
        assert sum(server.seen.hits.values()) <= 1.6 * 120


@pytest.mark.parametrize(
    "kind", ["503", "silent", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("reset", "500", "short"))]
)
def test_an_outage_costs_no_row(kind: str) -> None:
    """Tries are worth nothing here: the host answers none for longer than all of a row's tries would take."""
    with running_weather(Weather()) as server:
        fetching = web(server, attempts=3, timeout_s=3)
        assert all_fetched(fetching, server, rows(8)) == ["ok"] * 8
        server.weather.outage = kind
        before = server.seen.hits.total()
        back = threading.Timer(3, lambda: setattr(server.weather, "outage", None))
        back.start()
        assert all_fetched(fetching, server, [f"/good/new{number}" for number in range(24)]) == ["ok"] * 24
        back.join()
        # 24 good ones, the first ones of eight threads, what these tried before the suspicion, the witness and its kin
        assert server.seen.hits.total() - before <= 24 + 4 + 8 + 10


@pytest.mark.slow
def test_an_outage_from_the_start() -> None:
    with running_weather(Weather(outage="reset")) as server:
        back = threading.Timer(2, lambda: setattr(server.weather, "outage", None))
        back.start()
        assert all_fetched(web(server, attempts=6), server, rows(8)) == ["ok"] * 8
        back.join()


def test_a_dead_host_is_given_up_once() -> None:
    """The first rows wait for it; the later ones are told after one request each."""
    with running_weather(Weather(outage="503")) as server:
        fetching = web(server, outage_s=1)
        assert set(all_fetched(fetching, server, rows(4), 4)) == {Status.FETCH_FAILED}
        before = server.seen.hits.total()
        assert set(all_fetched(fetching, server, [f"/good/new{number}" for number in range(10)], 4)) == {Status.FETCH_FAILED}
        assert server.seen.hits.total() - before == 10
        server.weather.outage = None
        assert fetched(fetching, server, "/good/back") == "ok"


@pytest.mark.slow
def test_a_host_that_died_is_asked_for_a_witness_only() -> None:
    """It answered before: rows need no try of their own. Each waits for one more proof; none is lost once it is back."""
    with running_weather(Weather()) as server:
        fetching = web(server, outage_s=1, attempts=6)
        assert fetched(fetching, server, "/good/a") == "ok"
        server.weather.outage = "reset"
        assert set(all_fetched(fetching, server, rows(6), 6)) == {Status.FETCH_FAILED}
        before = server.seen.hits.copy()
        assert set(all_fetched(fetching, server, [f"/good/new{number}" for number in range(8)], 8)) == {Status.FETCH_FAILED}
        assert (server.seen.hits - before).total() <= 4
        server.weather.outage = None
        assert all_fetched(fetching, server, [f"/good/back{number}" for number in range(8)], 8) == ["ok"] * 8


def test_one_broken_address_is_no_outage() -> None:
    """Alone at the end of a job nothing but the witness speaks for the host."""
    with running_weather(Weather()) as server:
        fetching = web(server, attempts=5)
        assert fetched(fetching, server, "/good/a") == "ok"
        assert fetched(fetching, server, "/500/b") == Status.FETCH_FAILED
        assert server.seen.hits["/500/b"] == 5
        assert server.seen.hits["/good/a"] == 2


def test_hanging_addresses_are_no_outage() -> None:
    """Six together at the end of a job: each has its own time, and the host is asked for what it served before."""
    with running_weather(Weather()) as server:
        fetching = web(server, timeout_s=2.4)
        assert fetched(fetching, server, "/good/a") == "ok"
        paths = [f"/{HANGS[number % 3]}/{number}" for number in range(6)]
        assert set(all_fetched(fetching, server, paths)) == {Status.FETCH_TIMEOUT}
        assert fetched(fetching, server, "/good/b") == "ok"
        for thread in [thread for thread in threading.enumerate() if thread.name == "fetch"]:
            thread.join()


def test_hanging_addresses_hold_up_no_other() -> None:
    """More of them than places at the start; the good ones are all there before the first hanging one has ended."""
    with running_weather(Weather()) as server, ThreadPoolExecutor(32) as pool:
        fetching = web(server, timeout_s=30, attempts=1, concurrency=2)
        assert fetched(fetching, server, "/good/a") == "ok"
        hanging = [pool.submit(fetched, fetching, server, f"/silent/{number}") for number in range(6)]
        good = [pool.submit(fetched, fetching, server, path) for path in rows(20)]
        assert [one.result() for one in good] == ["ok"] * 20
        assert not any(one.done() for one in hanging)
        server.released.set()
        assert {one.result() for one in hanging} <= {Status.FETCH_FAILED, Status.FETCH_TIMEOUT}


@pytest.mark.parametrize(("asked", "own_s"), [("3", 2), pytest.param("date+2", 20, marks=pytest.mark.slow)])
def test_retry_after_is_honoured(asked: str, own_s: float) -> None:
    """As seconds and as a date; the wait is not the row's own time."""
    with running_weather(Weather(outage="429", retry_after=asked)) as server:
        clear = threading.Thread(target=_clear_after_a_request, args=(server,))
        clear.start()
        assert fetched(web(server, timeout_s=own_s, attempts=2), server, "/good/a") == "ok"
        clear.join()
        first_s, second_s = server.seen.times_s
        assert second_s - first_s >= (3 if asked == "3" else 0.9)  # a date knows whole seconds only


def _clear_after_a_request(server: WeatherServer) -> None:
    while not server.seen.answered:
        time.sleep(0.01)
    server.weather.outage = None


def test_a_busy_host_gets_fewer_at_a_time() -> None:
    with running_weather(Weather(fault_share=1, faults=("503",))) as server:
        fetching = web(server, concurrency=16, attempts=2, outage_s=0)
        all_fetched(fetching, server, rows(16), 16)
        server.weather.fault_share, server.weather.delay_s, server.seen.peak = 0.0, 0.05, 0
        assert all_fetched(fetching, server, [f"/good/new{number}" for number in range(6)], 16) == ["ok"] * 6
        assert server.seen.peak <= 4


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


def object_rows(fetching: Fetcher, count: int, threads: int = 8) -> list[bytes]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(fetching.fetch, [f"s3://archive/{number}" for number in range(count)]))


def store(server: WeatherServer, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Fetcher:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server.authority}")
    chosen = FetchSettings(buckets=("archive",), **settings)
    return Fetcher(chosen, AddressPolicy.from_settings(chosen, "s3://archive", True))


def test_objects_in_any_weather(bucket: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_weather(Weather(fault_share=0.3, retry_after="0")) as server:
        assert object_rows(store(server, monkeypatch), 60) == [BODY] * 60
        assert server.seen.hits.total() <= 1.7 * 60


@pytest.mark.parametrize("fault", ["reset", "503", "500", "cut"])
def test_the_store_s_client_does_not_retry_for_itself(fault: str, bucket: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested retries multiply."""
    with running_weather(Weather(outage=fault)) as server:
        with pytest.raises(RowFailure, match="fetch_failed"):
            store(server, monkeypatch, attempts=3, outage_s=0).fetch("s3://archive/a")
        assert server.seen.hits.total() == 3


def test_an_outage_of_the_store(bucket: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_weather(Weather()) as server:
        fetching = store(server, monkeypatch, attempts=3)
        assert object_rows(fetching, 4) == [BODY] * 4
        server.weather.outage = "503"
        back = threading.Timer(2, lambda: setattr(server.weather, "outage", None))
        back.start()
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(fetching.fetch, [f"s3://archive/new{number}" for number in range(16)])) == [BODY] * 16
        back.join()
        assert server.seen.hits.total() <= 4 + 16 + 8 + 4 + 8


def test_the_environment_chooses_no_proxy(bucket: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An S3 client would take one; here nobody listens at it."""
    with running_weather(Weather()) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        assert object_rows(store(server, monkeypatch, attempts=1), 1) == [BODY]


def test_a_row_has_an_end(bucket: None) -> None:
    """However long the host is out: its own time, and that of the outage."""
    with running_weather(Weather(outage="silent")) as server:
        fetching = web(server, timeout_s=0.6, outage_s=1)
        assert set(all_fetched(fetching, server, rows(3))) <= {Status.FETCH_TIMEOUT, Status.FETCH_FAILED}
        for thread in [thread for thread in threading.enumerate() if thread.name == "fetch"]:
            thread.join()


@pytest.mark.parametrize("outage", ["silent", "stops", "trickle", "503"])
def test_closing_ends_every_wait(outage: str) -> None:
    """In a request, between tries, and while a host is out: whoever stops the work does not wait for the weather."""
    with running_weather(Weather(outage=outage, retry_after="100")) as server, ThreadPoolExecutor(8) as pool:
        fetching = web(server)
        waiting = [pool.submit(fetched, fetching, server, path) for path in rows(8)]
        while not server.seen.hits:
            time.sleep(0.01)
        fetching.close()
        assert {one.result() for one in waiting} <= {Status.FETCH_TIMEOUT, Status.FETCH_FAILED}
        assert fetched(fetching, server, "/good/later") == Status.FETCH_TIMEOUT
