"""Every way a fetch can end, on real files, a real http server and an S3 server."""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.fetch import Fetcher
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status
from tests.ray_pipeline.intake.fault_server import BODY, FaultServer, running


def fetcher(base: str | Path, remote: bool = False, **settings: Any) -> Fetcher:
    settings = {
        "schemes": ("file", "memory", "http", "https"),
        "max_bytes": 4096,
        "timeout_s": 90,
        "outage_s": 0,
        "attempts": 3,
    } | settings
    chosen = FetchSettings(**settings)
    return Fetcher(chosen, AddressPolicy.from_settings(chosen, str(base), remote, loopback_for_tests=True))


def failure(fetching: Fetcher, uri: str) -> RowFailure:
    with pytest.raises(RowFailure) as caught:
        fetching.fetch(uri)
    assert "SECRET" not in caught.value.message
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good").write_bytes(BODY)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "exact").write_bytes(bytes(4096))
    (tmp_path / "large").write_bytes(bytes(4097))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "link").symlink_to(tmp_path / "good")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "size"), [("good", 2048), ("empty", 0), ("exact", 4096), ("link", 2048), ("folder/../good", 2048)]
)
def test_local_files(folder: Path, name: str, size: int) -> None:
    assert len(fetcher(folder).fetch(name)) == size
    assert len(fetcher("memory://elsewhere", True, roots=(str(folder),)).fetch(f"file://{folder}/{name}")) == size


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("absent", Status.FETCH_NOT_FOUND),
        ("good/below", Status.FETCH_NOT_FOUND),
        ("folder", Status.FETCH_DENIED),
        ("pipe", Status.FETCH_DENIED),
        ("loop", Status.FETCH_DENIED),
        ("/dev/zero", Status.FETCH_DENIED),
        ("x" * 300, Status.FETCH_DENIED),
        ("ftp://host/a?SECRET", Status.FETCH_DENIED),
        ("large", Status.FETCH_TOO_LARGE),
        ("/proc/kallsyms", Status.FETCH_TOO_LARGE),  # says 0 bytes and has many
    ],
)
def test_local_failures(folder: Path, uri: str, status: Status) -> None:
    assert failure(fetcher(folder), uri).status == status


def test_a_socket_and_a_forbidden_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")  # a whole path can be longer than a socket's name may be
        assert failure(fetcher(folder), "socket").status == Status.FETCH_DENIED
    (folder / "good").chmod(0)
    if os.geteuid():
        assert failure(fetcher(folder), "good").status == Status.FETCH_DENIED


def test_a_link_swapped_in_after_the_check(folder: Path) -> None:
    """The opened file is checked again, not only its name."""
    (folder / "root").mkdir()
    (folder / "root" / "a").write_bytes(b"x")
    swapping = fetcher("memory://m", True, roots=(str(folder / "root"),))
    address = swapping._policy.resolve(f"{folder}/root/a")
    (folder / "root" / "a").unlink()
    (folder / "root" / "a").symlink_to(folder / "good")
    with pytest.raises(RowFailure, match="outside fetch.roots"):
        swapping._read(address, deadline=None)  # type: ignore[arg-type]


def test_memory_files() -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/intake/a", BODY)
    store.pipe("/intake/large", bytes(5000))
    fetching = fetcher("memory://intake", True)
    assert fetching.fetch("a") == fetching.fetch("memory://intake/a") == BODY
    assert failure(fetching, "absent").status == Status.FETCH_NOT_FOUND
    assert failure(fetching, "large").status == Status.FETCH_TOO_LARGE


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with running() as started:
        yield started


def web(server: FaultServer, **settings: Any) -> Fetcher:
    return fetcher("/nowhere", hosts=(f"127.0.0.1:{server.server_port}",), **settings)


def address(server: FaultServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


@pytest.mark.parametrize(
    ("path", "body", "requests"),
    [
        ("good?token=SECRET", BODY, 1),
        ("empty", b"", 1),
        ("chunked", BODY, 1),
        ("longer-than-announced", BODY, 1),
        ("second-time", BODY, 2),
        ("third-time", BODY, 3),
        ("hops/2", BODY, 3),
    ],
)
def test_web(server: FaultServer, path: str, body: bytes, requests: int) -> None:
    name = path.split("?")[0].split("/")[0]
    assert web(server).fetch(address(server, path)) == body
    assert server.hits[name] == requests


@pytest.mark.parametrize(
    ("path", "status", "requests"),
    [
        ("404", Status.FETCH_NOT_FOUND, 1),
        ("410", Status.FETCH_NOT_FOUND, 1),
        ("401", Status.FETCH_DENIED, 1),
        ("403", Status.FETCH_DENIED, 1),
        ("400", Status.FETCH_FAILED, 1),
        ("206", Status.FETCH_FAILED, 1),
        ("302", Status.FETCH_FAILED, 1),
        ("500", Status.FETCH_FAILED, 3),
        ("503", Status.FETCH_FAILED, 3),
        ("busy", Status.FETCH_FAILED, 3),
        ("very-busy", Status.FETCH_FAILED, 1),
        ("reset", Status.FETCH_FAILED, 3),
        ("short", Status.FETCH_FAILED, 3),
        ("chunked-cut", Status.FETCH_FAILED, 3),
        ("nonsense", Status.FETCH_FAILED, 3),
        ("gzip", Status.FETCH_FAILED, 1),
        ("announced-huge", Status.FETCH_TOO_LARGE, 1),
        ("endless", Status.FETCH_TOO_LARGE, 1),
        ("hops/3", Status.FETCH_DENIED, 4),
    ],
)
def test_web_failures(server: FaultServer, path: str, status: Status, requests: int) -> None:
    name = path.split("/")[0]
    before = server.hits[name]
    caught = failure(web(server), address(server, f"{path}?token=SECRET"))
    assert (caught.status, server.hits[name] - before) == (status, requests), caught.message


@pytest.mark.parametrize("path", ["endless", "announced-huge", "longer-than-announced", "chunked", "short", "gzip"])
def test_nothing_is_read_past_the_limit(server: FaultServer, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a reply announces: one byte more than allowed tells enough."""
    counted, real = [], http.client.HTTPResponse.read1

    def read1(self: http.client.HTTPResponse, most: int = -1) -> bytes:
        counted.append(real(self, most))
        return counted[-1]

    monkeypatch.setattr(http.client.HTTPResponse, "read1", read1)
    failure(web(server, max_bytes=1000, attempts=1), address(server, path))
    assert sum(map(len, counted)) <= 1001


@pytest.mark.parametrize("path", ["silent", "stops", "trickle", "trickled-header"])
def test_the_deadline_is_hard(server: FaultServer, path: str) -> None:
    """However the server dawdles, and it does so as long as this test runs; the threads that waited come to their end too."""
    caught = failure(web(server, timeout_s=0.5, attempts=1), address(server, path))
    assert caught.status == Status.FETCH_TIMEOUT
    for thread in [thread for thread in threading.enumerate() if thread.name == "fetch"]:
        thread.join()


@pytest.mark.parametrize(
    "elsewhere", ["http://localhost:1/a", "http://127.0.0.1:1/a", "file:///etc/passwd", "//evil.example/a", "http://[::1"]
)
def test_redirects_are_checked(server: FaultServer, elsewhere: str) -> None:
    server.elsewhere = elsewhere
    assert failure(web(server), address(server, "away")).status == Status.FETCH_DENIED


def test_no_connection_without_permission(server: FaultServer) -> None:
    """An allowed host that resolves to this machine is not dialled, and the proxies of the environment are not asked."""
    chosen = FetchSettings(schemes=("http",), hosts=(f"localhost:{server.server_port}",))
    strict = Fetcher(chosen, AddressPolicy.from_settings(chosen, "/nowhere", False))
    before = sum(server.hits.values())
    assert failure(strict, f"http://localhost:{server.server_port}/good").status == Status.FETCH_DENIED
    assert sum(server.hits.values()) == before


def test_proxies_and_headers(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert web(server).fetch(address(server, "good")) == BODY
    assert server.headers_seen["Host"] == f"127.0.0.1:{server.server_port}"
    assert not {"Authorization", "Cookie", "Referer"} & set(server.headers_seen)


def test_a_closed_port(server: FaultServer) -> None:
    fetching = fetcher("/nowhere", hosts=("127.0.0.1:1",), attempts=1)
    assert failure(fetching, "http://127.0.0.1:1/a").status == Status.FETCH_FAILED


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate of `localhost` in one file."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*command.split(), "-keyout", str(path), "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_https(certificate: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate must be trusted and of the asked host; https never falls back to http."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with running(context) as secure:
        hosts = tuple(
            f"{name}:{port}" for name in ("localhost", "127.0.0.1") for port in (secure.server_port, server.server_port)
        )
        fetching = fetcher("/nowhere", hosts=hosts, attempts=1)
        url = f"https://localhost:{secure.server_port}"
        assert "CERTIFICATE_VERIFY_FAILED" in failure(fetching, f"{url}/good").message
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        assert fetching.fetch(f"{url}/good") == BODY
        assert "CERTIFICATE_VERIFY_FAILED" in failure(fetching, f"https://127.0.0.1:{secure.server_port}/good").message
        secure.elsewhere = address(server, "good")
        caught = failure(fetching, f"{url}/away")
        assert (caught.status, "expected https" in caught.message) == (Status.FETCH_DENIED, True)


def test_many_threads_share_a_fetcher(server: FaultServer) -> None:
    fetching = web(server)
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(fetching.fetch(address(server, "good")))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [BODY] * 12
