"""An image's address → its bytes, within size, time and retry limits."""

import errno
import http.client
import os
import ssl
import stat

import fsspec
import tenacity

from ray_pipeline.intake.addresses import Address, AddressPolicy
from ray_pipeline.intake.deadline import Deadline, Expired, Workers
from ray_pipeline.intake.objects import ObjectStore
from ray_pipeline.intake.passing import PassingFailure
from ray_pipeline.intake.redaction import redacted, redacted_text
from ray_pipeline.intake.web import get
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status

_CHUNK_BYTES = 1 << 20
_MOST_THREADS = 64
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 10.0
_UNUSABLE = (errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV, errno.ELOOP, errno.ENAMETOOLONG)


class Fetcher:
    """Reads what the policy allows. Safe to share between threads; holds no open files between calls."""

    def __init__(self, settings: FetchSettings, policy: AddressPolicy) -> None:
        self._settings, self._policy = settings, policy
        self._workers = Workers(_MOST_THREADS)
        # A single stall must leave time for another try.
        self._step_s = max(0.05, settings.timeout_s / min(3, settings.attempts))
        self._objects = ObjectStore(self._step_s)

    def fetch(self, image_uri: str) -> bytes:
        """The file's bytes, at most `max_bytes`. An empty file is fetched fine.

        Raises:
            RowFailure: fetch_denied, fetch_not_found, fetch_timeout, fetch_too_large or fetch_failed, never later
                than `timeout_s` from now, tries and waits included.
        """
        deadline = Deadline(self._settings.timeout_s)
        try:
            return self._workers.run(deadline, lambda: self._read_with_retries(image_uri, deadline))
        except Expired:
            message = f"{redacted(image_uri)}: not read within {self._settings.timeout_s:g} s"
            raise RowFailure(Status.FETCH_TIMEOUT, message) from None
        except PassingFailure as failure:
            raise RowFailure(failure.status, failure.message) from None
        except RowFailure:
            raise
        except Exception as error:  # the one broad catch of this stage: whatever a row does, it costs that row
            raise RowFailure(Status.FETCH_FAILED, f"{redacted(image_uri)}: {_named(error)}") from None

    def _read_with_retries(self, image_uri: str, deadline: Deadline) -> bytes:
        address = self._policy.resolve(image_uri)
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(PassingFailure),
            stop=lambda tried: tried.attempt_number >= self._settings.attempts or _asked_wait_s(tried) >= deadline.remaining_s(),
            wait=_full_jitter,
            sleep=deadline.sleep,
            reraise=True,
        )
        return tries(self._read_once, address, deadline)

    def _read_once(self, address: Address, deadline: Deadline) -> bytes:
        """One try, with every failure sorted into final (RowFailure) and passing."""
        try:
            return self._read(address, deadline)
        except (RowFailure, PassingFailure):
            raise
        except TimeoutError as error:
            raise PassingFailure(Status.FETCH_TIMEOUT, f"{address.shown}: no answer in time") from error
        except ssl.SSLCertVerificationError as error:
            raise RowFailure(Status.FETCH_FAILED, f"{address.shown}: {_named(error)}") from error
        except (OSError, http.client.HTTPException) as error:
            raise PassingFailure(Status.FETCH_FAILED, f"{address.shown}: {_named(error)}") from error

    def _read(self, address: Address, deadline: Deadline) -> bytes:
        most = self._settings.max_bytes
        if address.scheme == "file":
            return read_local(address, self._policy, deadline, most)
        if address.scheme == "memory":
            return _read_memory(address, most)
        if address.scheme == "s3":
            return self._objects.read(address, deadline, most)
        return get(address, self._policy, deadline, most, self._step_s)


def read_local(address: Address, policy: AddressPolicy, deadline: Deadline, max_bytes: int) -> bytes:
    """A regular file's bytes. Checks are on the opened file, so nothing can be swapped in between.

    Raises:
        RowFailure: fetch_not_found, fetch_denied (no permission, or a folder, pipe, socket or device), fetch_too_large.
    """
    try:
        # O_NONBLOCK: opening a pipe without a writer would wait for ever.
        descriptor = os.open(address.place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        raise RowFailure(Status.FETCH_NOT_FOUND, f"{address.shown}: no such file") from None
    except OSError as error:
        if error.errno in _UNUSABLE:
            raise RowFailure(Status.FETCH_DENIED, f"{address.shown}: {_named(error)}") from None
        raise
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise RowFailure(Status.FETCH_DENIED, f"{address.shown}: not a regular file")
        policy.refuse_outside_roots(os.path.realpath(f"/proc/self/fd/{descriptor}"), address.shown)
        if state.st_size > max_bytes:
            raise RowFailure(Status.FETCH_TOO_LARGE, f"{address.shown}: {state.st_size} bytes, at most {max_bytes} allowed")
        return _read_open(descriptor, address, deadline, max_bytes)
    finally:
        os.close(descriptor)


def _read_open(descriptor: int, address: Address, deadline: Deadline, max_bytes: int) -> bytes:
    body = bytearray()
    while chunk := os.read(descriptor, min(_CHUNK_BYTES, max_bytes + 1 - len(body))):
        body += chunk
        if len(body) > max_bytes:  # it grew while it was read, or it never said its size
            raise RowFailure(Status.FETCH_TOO_LARGE, f"{address.shown}: more than {max_bytes} bytes")
        if not deadline.remaining_s():
            raise TimeoutError
    return bytes(body)


def _read_memory(address: Address, max_bytes: int) -> bytes:
    """A file of fsspec's in-process store: for small jobs and tests."""
    store = fsspec.filesystem("memory")
    try:
        body = bytes(store.cat_file(address.place, start=0, end=max_bytes + 1))
    except FileNotFoundError:
        raise RowFailure(Status.FETCH_NOT_FOUND, f"{address.shown}: no such file") from None
    if len(body) > max_bytes:
        raise RowFailure(Status.FETCH_TOO_LARGE, f"{address.shown}: more than {max_bytes} bytes")
    return body


_jitter = tenacity.wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)


def _full_jitter(state: tenacity.RetryCallState) -> float:
    """Seconds: uniform below a doubling limit, but at least what the server asked for."""
    return max(_asked_wait_s(state), _jitter(state))


def _asked_wait_s(state: tenacity.RetryCallState) -> float:
    failure = state.outcome.exception() if state.outcome else None
    return failure.wait_s if isinstance(failure, PassingFailure) else 0.0


def _named(error: BaseException) -> str:
    """`TypeName: text` without secrets; an OSError's own file name adds nothing to the address."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {redacted_text(text)}" if text else type(error).__name__
