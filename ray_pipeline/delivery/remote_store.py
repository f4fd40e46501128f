"""An output folder in an object store, through fsspec. Objects appear whole, so a commit is one conditional write.

`pipe_file(mode="create")` becomes `If-None-Match: *` on S3 (s3fs), for large objects on the request that completes the
upload, and an exclusive open in memory. The name is also looked up before: where a file system or a store does not know the
condition, that is all there is, and only one driver at a time is safe. Two writers in the same instant could then both
write; the same bytes, as results depend on nothing but the run's fingerprint.
"""

import inspect
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from fsspec.asyn import sync
from fsspec.core import url_to_fs

from ray_pipeline.delivery.fail_points import FailPoints
from ray_pipeline.delivery.remote_errors import UNCONDITIONAL, Verdict, code_of, judged

STEP_S = 30.0  # one connect or read
DEADLINE_S = 300.0  # one operation with all its tries: as long as a store's outage may last without failing the part
FIRST_S = 90.0  # the same until the store has answered once: what never answers is more likely a wrong address
TRIES = 60
LONGEST_PAUSE_S = 20.0
PROBE = ".staging/probe"


class RemoteStore:
    """Reads and writes below the URI. Names are relative, with forward slashes, and checked by the caller.

    Every operation is tried again on what may pass (throttling, 5xx, lost connections and replies, conflicting writes), with
    random pauses, `TRIES` times and until `deadline_s` at most; then it raises what it met last, or TimeoutError.
    """

    def __init__(self, uri: str, fail_points: FailPoints, deadline_s: float = DEADLINE_S) -> None:
        # Listings are never cached: other processes commit to the same folder.
        self.fs, root = url_to_fs(uri, use_listings_cache=False, **_client_limits(uri, min(STEP_S, deadline_s)))
        if hasattr(self.fs, "retries"):
            self.fs.retries = 1  # tries are made here: nested ones multiply
        self.root = root.rstrip("/")
        self.fail_points, self.deadline_s = fail_points, deadline_s
        self.conditional = "mode" in inspect.signature(self._method("pipe_file")).parameters
        self._met = False  # whether the store has answered yet

    def create(self, name: str, data: bytes) -> bool:
        """Commit the object; False if the name is taken, perhaps by a first try of ours whose reply was lost."""
        self.fail_points.reach("commit.before_create")
        created = self._tried(lambda left_s: self._create(self._path(name), data, left_s))
        self.fail_points.reach("commit.after_create")
        return bool(created)

    def _create(self, path: str, data: bytes, left_s: float) -> bool:
        self.fs.invalidate_cache()
        if self._once("exists", left_s, path):
            return False
        if not self.conditional:
            self._once("pipe_file", left_s, path, data)
            return True
        try:
            self._once("pipe_file", left_s, path, data, mode="create")
        except Exception as error:
            if code_of(error) in UNCONDITIONAL:
                self.conditional = False
                return self._create(path, data, left_s)
            if judged(error) is Verdict.TAKEN:
                return False
            raise
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Write the object whether or not it exists; a reader sees the old one or the new one."""
        self._call("pipe_file", self._path(name), data)

    def remove(self, name: str) -> None:
        """Take the object away for good; nothing happens where there is none."""
        if self.exists(name):
            with suppress(FileNotFoundError):  # a first try of ours, whose reply was lost
                self._call("rm_file", self._path(name))

    def remove_many(self, names: list[str]) -> int:
        """Take the objects away, as far as this role may; how many were asked for."""
        if not names:
            return 0
        try:
            self._call("rm", [self._path(name) for name in names])
        except (FileNotFoundError, PermissionError):
            return 0
        return len(names)

    def read(self, name: str) -> bytes:
        """The whole object; FileNotFoundError if there is none."""
        data: bytes = self._call("cat_file", self._path(name))
        return data

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The objects by name, fetched side by side; those that are not there are left out."""
        wanted = {self.fs._strip_protocol(self._path(name)): name for name in names}
        found: dict[str, bytes] = self._tried(lambda left_s: self._cat(list(wanted), left_s)) if wanted else {}
        return {wanted[path]: data for path, data in found.items()}

    def _cat(self, paths: list[str], left_s: float) -> dict[str, bytes]:
        got = self._once("cat", left_s, paths, on_error="return")
        failed = next(
            (one for one in got.values() if isinstance(one, Exception) and not isinstance(one, FileNotFoundError)), None
        )
        if failed:
            raise failed
        return {path: data for path, data in got.items() if isinstance(data, bytes)}

    def exists(self, name: str) -> bool:
        """Whether the name is taken."""
        self.fs.invalidate_cache()
        return bool(self._call("exists", self._path(name)))

    def present(self) -> bool:
        """Object stores have no folders: present means that something is below the URI."""
        return bool(self.names(""))

    def names(self, folder: str) -> list[str]:
        """Everything in the folder, sorted; none if there is no such folder."""
        self.fs.invalidate_cache()
        try:
            paths: list[str] = self._call("ls", self._path(folder).rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        start = self.fs._strip_protocol(self._path(folder)).rstrip("/") + "/"
        inside = (path.rstrip("/").removeprefix(start) for path in paths if path.rstrip("/") + "/" != start)
        return sorted(name for name in inside if name)

    def clean_staging(self) -> int:
        """Nothing to do: a write that is cut off leaves no object."""
        return 0

    def writable_check(self) -> None:
        """Write one small object to `.staging`, and remove it where that is allowed.

        Raises:
            OSError: it cannot be written.
        """
        self._call("pipe_file", self._path(PROBE), b"probe")
        with suppress(OSError):  # a role without the right to delete may still commit
            self._call("rm_file", self._path(PROBE))

    def creates_once(self) -> bool:
        """Whether the store itself keeps two writers of one name apart; tried out on an object in `.staging`."""
        try:
            for _ in range(2 if self.conditional else 0):
                self._call("pipe_file", self._path(PROBE), b"probe", mode="create")
            return False
        except OSError as error:
            if judged(error) is Verdict.TAKEN:
                return True
            if code_of(error) in UNCONDITIONAL:
                return False
            raise
        finally:
            with suppress(OSError):
                self._call("rm_file", self._path(PROBE))

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._tried(lambda left_s: self._once(method, left_s, *arguments, **options))

    def _once(self, method: str, left_s: float, *arguments: Any, **options: Any) -> Any:
        """One try. The asynchronous file systems are cut off when time is up; the others have only their own limits."""
        if self.fs.async_impl:
            return sync(self.fs.loop, self._method(method), *arguments, timeout=left_s, **options)
        return self._method(method)(*arguments, **options)

    def _method(self, name: str) -> Callable[..., Any]:
        """The asynchronous file systems have their work, and its signature, on the coroutine."""
        method: Callable[..., Any] = getattr(self.fs, f"_{name}" if self.fs.async_impl else name)
        return method

    def _tried(self, work: Callable[[float], Any]) -> Any:
        end = time.monotonic() + (self.deadline_s if self._met else min(FIRST_S, self.deadline_s))
        for attempt in range(TRIES):
            try:
                result = work(max(end - time.monotonic(), 0.001))
                self._met = True
                return result
            except Exception as error:
                pause_s = random.uniform(0, min(0.2 * 2**attempt, LONGEST_PAUSE_S))
                last = attempt == TRIES - 1 or time.monotonic() + pause_s >= end
                if last or judged(error) is not Verdict.PASSING:
                    if isinstance(error, OSError | ValueError):
                        raise
                    raise OSError(f"{type(error).__name__}: {error}") from error  # the client libraries' own errors are none
                time.sleep(pause_s)
        raise AssertionError("unreachable: the last try returns or raises")


def _client_limits(uri: str, step_s: float) -> dict[str, Any]:
    """What the client itself must be told about time; only S3's is known."""
    if uri.split("://", 1)[0] not in ("s3", "s3a"):
        return {}
    limits = {"connect_timeout": step_s, "read_timeout": step_s, "retries": {"total_max_attempts": 1}}
    return {"config_kwargs": limits}
