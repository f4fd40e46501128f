"""GET over http(s): dials only addresses that were checked, follows at most three redirects, each checked again."""

import contextlib
import http.client
import io
import socket
import ssl
from dataclasses import dataclass

from ray_pipeline.intake.addresses import Address, AddressPolicy
from ray_pipeline.intake.deadline import Deadline
from ray_pipeline.intake.host import Hosts
from ray_pipeline.intake.passing import PassingFailure, sorted_failures
from ray_pipeline.intake.public_ip import public_addresses
from ray_pipeline.intake.retry_after import asked_wait_s
from schemas.status import RowFailure, Status

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 3
_CHUNK_BYTES = 1 << 16
_STATUS = {
    401: Status.FETCH_DENIED,
    403: Status.FETCH_DENIED,
    407: Status.FETCH_DENIED,
    451: Status.FETCH_DENIED,
    404: Status.FETCH_NOT_FOUND,
    410: Status.FETCH_NOT_FOUND,
}


class _CheckedConnection(http.client.HTTPConnection):
    """Connects to an address it is given, and speaks to the host it was asked for (Host header, certificate, SNI).

    http.client, unlike most clients, reads no proxy from the environment.
    """

    def __init__(self, address: Address, dialled_ip: str, timeout_s: float) -> None:
        super().__init__(address.place, address.port, timeout=timeout_s)
        self.default_port = 443 if address.scheme == "https" else 80
        self._secure, self._ip = address.scheme == "https", dialled_ip
        self._is_cut = False
        self._dialled: socket.socket | None = None

    def connect(self) -> None:
        self.sock = self._dialled = socket.create_connection((self._ip, self.port), self.timeout)
        if self._is_cut:  # while it connected
            raise TimeoutError
        if self._secure:
            self.sock = self._dialled = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def cut(self) -> None:
        """End a blocked call from another thread; closing alone would leave it blocked.

        http.client lets go of `sock` before the body is read.
        """
        self._is_cut = True
        if self._dialled is not None:
            with contextlib.suppress(OSError):
                self._dialled.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Limits:
    """Of one body, and of one connect or read."""

    max_bytes: int
    step_s: float


def get(address: Address, policy: AddressPolicy, deadline: Deadline, limits: Limits, hosts: Hosts) -> bytes:
    """Body of the address. Each hop waits for its own host's turn.

    Raises:
        RowFailure: denied, not found, too large, or a reply that will not change.
        PassingFailure: connection failures and the server's weather: 429, 5xx, a body cut short.
    """
    for _ in range(_MOST_REDIRECTS + 1):
        host = hosts[f"{address.scheme}://{address.authority}"]
        reply: bytes | str = host.ask(deadline, address, lambda hop, until: _get_once(hop, policy, until, limits))
        if isinstance(reply, bytes):
            return reply
        address = policy.redirected(address, reply)
    raise RowFailure(Status.FETCH_DENIED, f"{address.shown}: more than {_MOST_REDIRECTS} redirects")


def _get_once(address: Address, policy: AddressPolicy, deadline: Deadline, limits: Limits) -> bytes | str:
    """The body, or where to go instead."""
    with sorted_failures(address.shown):
        dialled_ip = public_addresses(address.place, address.port, policy.loopback_for_tests)[0]
        connection = _CheckedConnection(address, dialled_ip, max(0.01, min(limits.step_s, deadline.remaining_s())))
        deadline.on_expiry(connection.cut)
        with contextlib.closing(connection):
            headers = {"Accept-Encoding": "identity", "User-Agent": "fovea", "Connection": "close"}
            connection.request("GET", address.target, headers=headers)
            with connection.getresponse() as reply:
                location = reply.getheader("Location")
                if reply.status in _REDIRECTS and location:
                    return location
                _refuse_status(address, reply)
                return _body(address, reply, deadline, limits.max_bytes)


def _refuse_status(address: Address, reply: http.client.HTTPResponse) -> None:
    message = f"{address.shown}: HTTP {reply.status}"
    if reply.status in (408, 425, 429) or reply.status >= 500:
        wait_s = asked_wait_s(reply.getheader("Retry-After"), reply.getheader("Date"))
        raise PassingFailure(Status.FETCH_FAILED, message, wait_s, busy=reply.status in (429, 503))
    if reply.status != 200:
        raise RowFailure(_STATUS.get(reply.status, Status.FETCH_FAILED), message)
    if reply.getheader("Content-Encoding", "identity").lower() != "identity":
        raise RowFailure(Status.FETCH_FAILED, f"{address.shown}: compressed body, expected none")


def _body(address: Address, reply: http.client.HTTPResponse, deadline: Deadline, max_bytes: int) -> bytes:
    promised = reply.length
    if promised is not None and promised > max_bytes:
        raise RowFailure(Status.FETCH_TOO_LARGE, f"{address.shown}: {promised} bytes announced, at most {max_bytes} allowed")
    body = io.BytesIO()  # its value is no second copy
    while chunk := reply.read1(min(_CHUNK_BYTES, max_bytes + 1 - body.tell())):
        body.write(chunk)
        if body.tell() > max_bytes:
            raise RowFailure(Status.FETCH_TOO_LARGE, f"{address.shown}: more than {max_bytes} bytes")
        if not deadline.remaining_s():
            raise TimeoutError
    if promised is not None and body.tell() != promised:
        raise PassingFailure(Status.FETCH_FAILED, f"{address.shown}: body ended at {body.tell()} of {promised} bytes")
    return body.getvalue()
