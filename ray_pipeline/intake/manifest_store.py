"""The fsspec store that holds a manifest: asked within limits of time, and again where a failure may pass.

What fsspec itself does is not enough. Its S3 client tries a silent server for minutes; and its `isfile` takes a server that
is busy for one moment for a file that is not there, after which relative addresses would start from the wrong folder.
"""

import io
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import fsspec
import tenacity
from fsspec.asyn import sync

STEP_S = 15.0  # one connect or read
PATIENCE_S = 300.0  # one question with all its tries: as long as a store's outage may last without costing a part
FIRST_S = 45.0  # the same for the first question of a run: what never answers is more likely a wrong address
TRIES = 40
_LONGEST_PAUSE_S = 20.0
_BLOCK_BYTES = 8 << 20  # read ahead of a remote file
_PASSING_STATUSES = frozenset({0, 408, 409, 425, 429, 500, 502, 503, 504})  # 0: there was no reply
_FINAL_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, TypeError, ImportError)
# By their names: importing the library to name them costs a second.
_FINAL_NAMES = frozenset(
    {
        "NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "UnauthorizedSSOTokenError",
        "ParamValidationError", "InvalidRegionError", "ProfileNotFound", "FileExpired",
    }
)  # fmt: skip


class ManifestStore:
    """The store behind a manifest's address; `path` is the address inside it.

    Each question is asked again on what may pass, `TRIES` times and for `patience_s` at most. Local stores are asked once.
    """

    def __init__(self, uri: str, patience_s: float = PATIENCE_S, step_s: float = STEP_S) -> None:
        self.fs, self.path = fsspec.core.url_to_fs(uri, **_client_limits(uri, min(step_s, patience_s)))
        if hasattr(self.fs, "retries"):
            self.fs.retries = 1  # tries are made here: nested ones multiply
        self.patience_s = patience_s

    def is_file(self, path: str) -> bool:
        """Whether there is such a file; False for folders and where there is nothing."""
        try:
            return bool(self._ask("info", path)["type"] == "file")
        except (FileNotFoundError, NotADirectoryError):
            return False

    def glob(self, pattern: str) -> list[str]:
        """Paths that match."""
        return list(self._ask("glob", pattern))

    def find(self, folder: str) -> list[str]:
        """All files below the folder; none where there is no such folder."""
        return list(self._ask("find", folder))

    def open(self, path: str, mode: str = "rb") -> BinaryIO:
        """The file, for reading. It stays the one that was opened: S3 refuses to go on with another of the same name."""
        if not self.fs.async_impl:
            local: BinaryIO = self.fs.open(path, mode)
            return local
        remote = self._tried(lambda _: self.fs.open(path, mode, block_size=_BLOCK_BYTES))
        return io.BufferedReader(_PatientFile(remote, self._tried))

    def _ask(self, method: str, path: str) -> Any:
        self.fs.invalidate_cache()
        if not self.fs.async_impl:
            return getattr(self.fs, method)(path)
        work = getattr(self.fs, f"_{method}")
        return self._tried(lambda left_s: sync(self.fs.loop, work, path, timeout=left_s))

    def _tried(self, work: Callable[[float], Any]) -> Any:
        end_s = time.monotonic() + self.patience_s
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_pass),
            stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_before_delay(self.patience_s),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=_LONGEST_PAUSE_S),
            reraise=True,
        )
        return tries(lambda: work(max(end_s - time.monotonic(), 0.001)))


class _PatientFile(io.RawIOBase):
    """A remote file whose reads are tried again, each from where it began."""

    def __init__(self, file: Any, tried: Callable[[Callable[[float], Any]], Any]) -> None:
        self._file, self._tried, self._place = file, tried, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        data = self._tried(lambda _: self._read(min(len(buffer), _BLOCK_BYTES)))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _read(self, size: int) -> bytes:
        self._file.seek(min(self._place, self._file.size))
        data: bytes = self._file.read(size)
        return data


def _client_limits(uri: str, step_s: float) -> dict[str, Any]:
    """What the client itself must be told; only S3's is known. Nothing is cached: others may write to the same folder."""
    if uri.split("://", 1)[0] not in ("s3", "s3a"):
        return {}
    limits = {"connect_timeout": step_s, "read_timeout": step_s, "retries": {"total_max_attempts": 1}}
    return {"config_kwargs": limits, "use_listings_cache": False}


def _may_pass(error: BaseException) -> bool:
    """Stores let errors of four libraries through. What has a reply is judged by its status, the rest passes by default."""
    if not isinstance(error, Exception) or isinstance(error, _FINAL_ERRORS) or type(error).__name__ in _FINAL_NAMES:
        return False
    for one in (error, error.__cause__):
        reply = getattr(one, "response", None)
        if isinstance(reply, dict):
            return reply.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) in _PASSING_STATUSES
    return True
