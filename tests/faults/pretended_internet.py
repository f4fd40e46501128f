"""An internet on this machine: names with scripted answers, public addresses that lead to local servers, and canaries.

The code under test runs with the policy of production; it believes that it dials public addresses.
"""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.fetch import Fetcher
from schemas.job import FetchSettings
from schemas.status import RowFailure
from tests.faults.contacts import Contacts
from tests.faults.uri_vectors import NAMES, PUBLIC, PUBLIC_6, REDIRECTS, allowed_hosts, filled

BODY = b"a good picture"
SECRET_BODY = b"nobody may read this"


class PretendedInternet:
    """`asked` counts questions per name; names outside the table are noted in `strange`."""

    def __init__(self, folder: Path) -> None:
        self.root, self.outside = folder / "root", folder / "outside"
        self.asked: Counter[str] = Counter()
        self.strange: list[str] = []
        self.credentials_seen: list[str] = []
        self.secure = bool(shutil.which("openssl"))
        self._folder = folder

    @contextlib.contextmanager
    def running(self) -> Iterator["PretendedInternet"]:
        self._fill_folders()
        with contextlib.ExitStack() as stack:
            self._servers = {80: stack.enter_context(_serving(self, None))}
            if self.secure:
                self._servers[443] = self._servers[8443] = stack.enter_context(_serving(self, self._certificate()))
            self.contacts = stack.enter_context(Contacts({one.server_port for one in self._servers.values()}).watching())
            self._dial = socket.create_connection
            stack.enter_context(mock.patch("socket.create_connection", self._connect))
            self._look_up = socket.getaddrinfo
            stack.enter_context(mock.patch("socket.getaddrinfo", self._resolve))
            stack.enter_context(mock.patch.dict(os.environ, self._environment()))
            yield self

    def fetcher(self) -> Fetcher:
        """Of a manifest in the bucket `archive`, with one local root."""
        settings = FetchSettings(
            schemes=("file", "s3", "http", "https", "memory"),
            hosts=allowed_hosts(self.contacts.port),
            roots=(str(self.root),),
            timeout_s=20,
            attempts=1,
            outage_s=0,
        )
        return Fetcher(settings, AddressPolicy.from_settings(settings, "s3://archive/2026", True))

    def verdict(self, fetcher: Fetcher, uri: str) -> str:
        """`ok`, `secret`, or the status."""
        try:
            body = fetcher.fetch(self.filled(uri))
        except RowFailure as failure:
            return "shown secret" if "SECRET" in failure.message else failure.status
        return "ok" if body == BODY else "secret"

    def filled(self, uri: str) -> str:
        return filled(uri, self.contacts.port, str(self.root), str(self.outside))

    def _fill_folders(self) -> None:
        for folder in (self.root, self.root / "sub", self.outside):
            folder.mkdir()
        for name in ("a.jpg", "with space.jpg"):
            (self.root / name).write_bytes(BODY)
        (self.outside / "secret").write_bytes(SECRET_BODY)
        (self.root / "inside-link").symlink_to(self.root / "a.jpg")
        (self.root / "link").symlink_to(self.outside / "secret")
        (self.root / "folder-link").symlink_to(self.outside)
        (self.root / "chain").symlink_to(self.root / "folder-link" / "secret")
        os.mkfifo(self.root / "pipe")

    def _environment(self) -> dict[str, str]:
        proxy = f"http://127.0.0.1:{self.contacts.port}"
        names = [f"{kind}_proxy" for kind in ("http", "https", "all", "ftp", "no")]
        proxies = {spelling: "" if "no" in name else proxy for name in names for spelling in (name, name.upper())}
        certificate = {"SSL_CERT_FILE": str(self._folder / "tls.crt")} if self.secure else {}
        store = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._servers[80].server_port}", "AWS_DEFAULT_REGION": "us-east-1"}
        keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_CONFIG_FILE": os.devnull}
        return proxies | certificate | store | keys

    def _certificate(self) -> ssl.SSLContext:
        names = "subjectAltName=DNS:images.example.org,DNS:other.example.org"
        command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=images.example.org -addext {names}"
        key, certificate = self._folder / "tls.key", self._folder / "tls.crt"
        subprocess.run([*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context

    def _connect(self, address: tuple[str, int], *rest: Any, **named: Any) -> socket.socket:
        if address[0] in (PUBLIC, PUBLIC_6) and address[1] in self._servers:
            address = ("127.0.0.1", self._servers[address[1]].server_port)
        return self._dial(address, *rest, **named)

    def _resolve(self, host: str, port: int, *rest: Any, **named: Any) -> Any:
        name = str(host).lower()
        if name in NAMES:
            answers = NAMES[name][min(self.asked[name], len(NAMES[name]) - 1)]
            self.asked[name] += 1
            return [_answer(one, port) for one in answers]
        try:
            return self._look_up(host, port, *rest, **named | {"flags": socket.AI_NUMERICHOST})
        except OSError:
            self.strange.append(name)
            raise


def _answer(ip: str, port: int) -> tuple[Any, ...]:
    if ":" in ip:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (ip, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    internet: PretendedInternet

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not like the certificate hangs up."""


@contextlib.contextmanager
def _serving(internet: PretendedInternet, context: ssl.SSLContext | None) -> Iterator[_Server]:
    server = _Server(("127.0.0.1", 0), _Pages)
    server.internet = internet
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Pages(BaseHTTPRequestHandler):
    """`/to/N` leads where the N-th redirect says, `/hops/N` over N more hops to a picture; all else is a picture."""

    server: _Server

    def do_GET(self) -> None:
        path = self.path.split("?")[0].split("/")
        if not self.path.startswith("/archive/"):  # the bucket, where they belong
            kept = ("Authorization", "Cookie", "Referer", "Proxy-Authorization", "X-Amz-Security-Token")
            self.server.internet.credentials_seen += [name for name in kept if self.headers[name]]
        if path[1] == "to" and path[2].isdigit() and "?" not in self.path:
            self._redirect(self.server.internet.filled(REDIRECTS[int(path[2])].location))
        elif path[1] == "hops":
            self._redirect(f"/hops/{int(path[2]) - 1}" if int(path[2]) > 1 else "/a.jpg")
        elif path[1] == "loop":
            self._redirect("/loop")
        elif path[-1] == "to-canary":  # of the bucket
            self._redirect(self.server.internet.filled("http://127.0.0.1:{port}/archive/2026/a"))
        else:
            self._reply(200, BODY)

    def _redirect(self, location: str) -> None:
        self._reply(302, b"", Location=location)

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "ETag": '"e"', "Set-Cookie": "a=SECRET", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
