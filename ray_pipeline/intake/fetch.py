"""An image's address → its bytes, within size, time and retry limits."""

import contextlib
import errno
import io
import os
import stat
import threading
from collections.abc import Iterator

import fsspec
import tenacity

from ray_pipeline.intake.addresses import Address, AddressPolicy
from ray_pipeline.intake.deadline import Deadline, Expired, Workers
from ray_pipeline.intake.host import Hosts
from ray_pipeline.intake.objects import ObjectStore
from ray_pipeline.intake.passing import PassingFailure, sorted_failures
from ray_pipeline.intake.redaction import named, redacted
from ray_pipeline.intake.web import Limits, get
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status

_CHUNK_BYTES = 1 << 20
_FEWEST_THREADS = 64
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 10.0
_UNUSABLE = (errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV, errno.ELOOP, errno.ENAMETOOLONG)


class Fetcher:
    """Reads what the policy allows. Safe to share between threads; holds no open files between calls."""

    def __init__(self, settings: FetchSettings, policy: AddressPolicy) -> None:
        self._settings, self._policy = settings, policy
        self._workers = Workers(max(_FEWEST_THREADS, 2 * settings.concurrency))
        # A single stall must leave time for another try.
        step_s = max(0.05, settings.timeout_s / min(3, settings.attempts))
        self._limits = Limits(settings.max_bytes, step_s)
        self._objects = ObjectStore(step_s)
        self._hosts = Hosts(settings.concurrency, step_s, settings.outage_s)
        self._lock, self._closed, self._open = threading.Lock(), False, set[Deadline]()

    def close(self) -> None:
        """End what is under way, from any thread, with a status that may pass; nothing is fetched afterwards."""
        with self._lock:
            self._closed, under_way = True, list(self._open)
        for deadline in under_way:
            deadline.expire()

    def fetch(self, image_uri: str) -> bytes:
        """The file's bytes, at most `max_bytes`. An empty file is fetched fine.

        Raises:
            RowFailure: fetch_denied, fetch_not_found, fetch_timeout, fetch_too_large or fetch_failed, never later
                than `timeout_s` from now, tries included, plus at most `outage_s` of waiting for the host.
        """
        try:
            with self._noted(Deadline(self._settings.timeout_s, self._settings.outage_s)) as deadline:
                return self._workers.run(deadline, lambda: self._read_with_retries(image_uri, deadline))
        except Expired:
            raise RowFailure(Status.FETCH_TIMEOUT, f"{redacted(image_uri)}: not read within {self._patience()}") from None
        except PassingFailure as failure:
            raise RowFailure(failure.status, failure.message) from None
        except RowFailure:
            raise
        except Exception as error:  # the one broad catch of this stage: whatever a row does, it costs that row
            raise RowFailure(Status.FETCH_FAILED, f"{redacted(image_uri)}: {named(error)}") from None

    @contextlib.contextmanager
    def _noted(self, deadline: Deadline) -> Iterator[Deadline]:
        with self._lock:
            if self._closed:
                raise Expired
            self._open.add(deadline)
        try:
            yield deadline
        finally:
            with self._lock:
                self._open.discard(deadline)

    def _patience(self) -> str:
        if self._closed:
            return "the time until the end of work"
        return f"{self._settings.timeout_s:g} s, or its host was out for {self._settings.outage_s:g} s"

    def _read_with_retries(self, image_uri: str, deadline: Deadline) -> bytes:
        address = self._policy.resolve(image_uri)
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(PassingFailure),
            stop=lambda tried: tried.attempt_number >= self._settings.attempts or _failure(tried).wait_s >= deadline.most_s(),
            wait=tenacity.wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
            before_sleep=lambda tried: _wait_as_asked(_failure(tried), deadline),
            sleep=deadline.sleep,
            reraise=True,
        )
        return tries(self._read_in_any_weather, address, deadline)

    def _read_in_any_weather(self, address: Address, deadline: Deadline) -> bytes:
        """One try. A host that is out is waited for, and what failed meanwhile does not count."""
        while True:
            try:
                with sorted_failures(address.shown):
                    return self._read(address, deadline)
            except PassingFailure as failure:
                if failure.origin is None or not failure.origin.out(deadline):
                    raise
                if out := failure.origin.given_up():
                    raise RowFailure(failure.status, f"{failure.message}; {out}") from failure
                deadline.give_back(failure.took_s)

    def _read(self, address: Address, deadline: Deadline) -> bytes:
        if address.scheme == "file":
            return read_local(address, self._policy, deadline, self._limits.max_bytes)
        if address.scheme == "memory":
            return _read_memory(address, self._limits.max_bytes)
        if address.scheme == "s3":
            bucket = self._hosts[f"s3://{address.place.partition('/')[0]}"]
            return bucket.ask(deadline, address, lambda key, until: self._objects.read(key, until, self._limits.max_bytes))
        return get(address, self._policy, deadline, self._limits, self._hosts)


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
            raise RowFailure(Status.FETCH_DENIED, f"{address.shown}: {named(error)}") from None
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
    body = io.BytesIO()  # its value is no second copy
    while chunk := os.read(descriptor, min(_CHUNK_BYTES, max_bytes + 1 - body.tell())):
        body.write(chunk)
        if body.tell() > max_bytes:  # it grew while it was read, or it never said its size
            raise RowFailure(Status.FETCH_TOO_LARGE, f"{address.shown}: more than {max_bytes} bytes")
        if not deadline.remaining_s():
            raise TimeoutError
    return body.getvalue()


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


def _wait_as_asked(failure: PassingFailure, deadline: Deadline) -> None:
    """What the server asked for, and for a retry to be allowed; the jitter comes on top."""
    if failure.wait_s:
        deadline.sleep_standing(failure.wait_s)
    if failure.origin is not None:
        failure.origin.pay(deadline)


def _failure(state: tenacity.RetryCallState) -> PassingFailure:
    failure = state.outcome.exception() if state.outcome else None
    return failure if isinstance(failure, PassingFailure) else PassingFailure(Status.FETCH_FAILED, "")
