"""A small S3 in a thread that fails on demand: refusals, resets before and after the work is done, silence.

It knows objects, conditional puts, listings, deletes and multipart uploads: what an output folder needs, and no more.
"""

import hashlib
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

RESET, LOST_REPLY, SILENCE, ERROR_IN_200 = "reset", "lost reply", "silence", "error in 200"
Fault = tuple[int, str] | str  # (status, code), or one of the names above
CODES = {404: "NoSuchKey", 412: "PreconditionFailed"}


class FaultyS3(ThreadingHTTPServer):
    """The server's state: objects, the faults to come, and what was asked for so far."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gate = threading.Lock()
        self.over = threading.Event()
        self.forget()

    def forget(self) -> None:
        """Nothing stored, nothing asked, no fault to come."""
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.faults: deque[tuple[str, Fault]] = deque()  # what happens to the next request of this kind
        self.asked: list[str] = []  # GET, HEAD, PUT, LIST, …
        self.knows_conditions: bool | None = True  # None: refuses them
        self.chance: Callable[[], Fault | None] = lambda: None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def fail(self, kind: str, *faults: Fault) -> None:
        """Let the next requests of the kind fail, one after the other."""
        self.faults.extend((kind, fault) for fault in faults)

    def next_fault(self, kind: str) -> Fault | None:
        """The fault of this request, if any."""
        with self.gate:
            self.asked.append(kind)
            for place, (other, fault) in enumerate(self.faults):
                if other == kind:
                    del self.faults[place]
                    return fault
            return self.chance()

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyS3

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        key = unquote(parts.path).lstrip("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self._kind(query)
        fault = self.server.next_fault(kind)
        if fault == RESET:
            self.close_connection = True
            return
        if fault == SILENCE:
            self.server.over.wait()
            return
        if isinstance(fault, tuple):
            self._refuse(*fault)
            return
        if fault == ERROR_IN_200:
            self._answer(200, b"<Error><Code>InternalError</Code><Message>try again</Message></Error>")
            return
        with self.server.gate:
            status, data, headers = getattr(self, f"_{kind.lower()}")(key, query, body)
        if fault == LOST_REPLY:
            self.close_connection = True
        elif status >= 400:
            self._refuse(status, CODES.get(status, "Error") if data == b"" else data.decode())
        else:
            self._answer(status, data, headers)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve

    def _kind(self, query: dict[str, str]) -> str:
        if "list-type" in query:
            return "LIST"
        named = {"delete": "PURGE", "uploads": "START", "partNumber": "PART"}
        for name, kind in named.items():
            if name in query:
                return kind
        if "uploadId" in query:
            return "COMPLETE" if self.command == "POST" else "ABORT"
        return self.command

    def _refuse(self, status: int, code: str) -> None:
        condition = "<Condition>If-None-Match</Condition>" if status == 412 else ""
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message>{condition}</Error>".encode())

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _put(self, key: str, _: dict[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if refused := self._condition(key):
            return refused
        self.server.objects[key] = body
        return 200, b"", {"ETag": _tag(body)}

    def _condition(self, key: str) -> tuple[int, bytes, dict[str, str]] | None:
        if not self.headers.get("If-None-Match"):
            return None
        if self.server.knows_conditions is None:
            return 501, b"NotImplemented", {}
        return (412, b"", {}) if self.server.knows_conditions and key in self.server.objects else None

    def _get(self, key: str, _: dict[str, str], __: bytes) -> tuple[int, bytes, dict[str, str]]:
        if key not in self.server.objects:
            return 404, b"", {}
        data = self.server.objects[key]
        headers = {"ETag": _tag(data), "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        return 200, data, headers

    def _head(self, key: str, query: dict[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        status, data, headers = self._get(key, query, body)
        return status, b"", headers | {"Content-Length": str(len(data))}

    def _delete(self, key: str, _: dict[str, str], __: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.server.objects.pop(key, None)
        return 204, b"", {}

    def _purge(self, key: str, _: dict[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        for name in re.findall(r"<Key>([^<]*)</Key>", body.decode()):
            self.server.objects.pop(f"{key.rstrip('/')}/{name}", None)
        return 200, b"<DeleteResult/>", {}

    def _list(self, bucket: str, query: dict[str, str], _: bytes) -> tuple[int, bytes, dict[str, str]]:
        bucket, prefix, delimiter = bucket.rstrip("/"), query.get("prefix", ""), query.get("delimiter", "")
        keys = [key[len(bucket) + 1 :] for key in sorted(self.server.objects) if key.startswith(f"{bucket}/{prefix}")]
        folders = {key[: key.index(delimiter, len(prefix)) + 1] for key in keys if delimiter and delimiter in key[len(prefix) :]}
        files = [key for key in keys if not (delimiter and delimiter in key[len(prefix) :])]
        said = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.server.objects[f'{bucket}/{key}'])}</Size>"
            "<LastModified>2024-01-01T00:00:00Z</LastModified><ETag>x</ETag></Contents>"
            for key in files
        )
        said += "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders))
        return 200, f"<ListBucketResult><KeyCount>{len(keys)}</KeyCount>{said}</ListBucketResult>".encode(), {}

    def _start(self, _: str, __: dict[str, str], ___: bytes) -> tuple[int, bytes, dict[str, str]]:
        number = f"upload-{len(self.server.asked)}"
        self.server.uploads[number] = {}
        return 200, f"<R><UploadId>{number}</UploadId></R>".encode(), {}

    def _part(self, _: str, query: dict[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.server.uploads[query["uploadId"]][int(query["partNumber"])] = body
        return 200, b"", {"ETag": _tag(body)}

    def _complete(self, key: str, query: dict[str, str], _: bytes) -> tuple[int, bytes, dict[str, str]]:
        if refused := self._condition(key):
            return refused
        parts = self.server.uploads.pop(query["uploadId"])
        self.server.objects[key] = b"".join(parts[number] for number in sorted(parts))
        return 200, b"<R><ETag>x</ETag></R>", {}

    def _abort(self, _: str, query: dict[str, str], __: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.server.uploads.pop(query["uploadId"], None)
        return 204, b"", {}


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@contextmanager
def running_faulty_s3() -> Iterator[FaultyS3]:
    """The server, as long as the block runs."""
    server = FaultyS3()
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
