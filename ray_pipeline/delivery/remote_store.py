"""An output folder in an object store, through fsspec. Objects appear whole, so a commit is one conditional write.

`pipe_file(mode="create")` becomes `If-None-Match: *` on S3 (s3fs) and an exclusive open in memory. Where a file system's
`pipe_file` does not know the mode, the name is looked up first: two writers in that same instant could then both write,
the same bytes, as results depend on nothing but the run's fingerprint.
"""

import inspect
import time
from contextlib import suppress
from typing import Any

from fsspec.core import url_to_fs

CONFLICT = frozenset({"ConditionalRequestConflict", "OperationAborted", "409"})  # another write is under way: ask again
TAKEN = frozenset({"PreconditionFailed", "412"})
TRIES = 5
PROBE = ".staging/probe"


class RemoteStore:
    """Reads and writes below the URI. Names are relative, with forward slashes, and checked by the caller."""

    def __init__(self, uri: str) -> None:
        # Listings are never cached: other processes commit to the same folder.
        self.fs, root = url_to_fs(uri, use_listings_cache=False)
        self.root = root.rstrip("/")

    def create(self, name: str, data: bytes) -> bool:
        """Commit the object; False if the name is taken, perhaps by a first try of ours whose reply was lost."""
        for attempt in range(TRIES):
            try:
                return self._create(self._path(name), data)
            except FileExistsError:
                return False
            except OSError as error:
                code = _code(error)
                if code in TAKEN:
                    return False
                if code not in CONFLICT or attempt == TRIES - 1:
                    raise
                time.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable: the last try returns or raises")

    def _create(self, path: str, data: bytes) -> bool:
        if _knows_create(self.fs):
            self.fs.pipe_file(path, data, mode="create")
            return True
        if self.fs.exists(path):
            return False
        self.fs.pipe_file(path, data)
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Write the object whether or not it exists; a reader sees the old one or the new one."""
        self.fs.pipe_file(self._path(name), data)

    def remove(self, name: str) -> None:
        """Take the object away for good; nothing happens where there is none."""
        if self.exists(name):
            self.fs.rm_file(self._path(name))

    def read(self, name: str) -> bytes:
        """The whole object; FileNotFoundError if there is none."""
        data: bytes = self.fs.cat_file(self._path(name))
        return data

    def exists(self, name: str) -> bool:
        """Whether the name is taken."""
        self.fs.invalidate_cache()
        return bool(self.fs.exists(self._path(name)))

    def present(self) -> bool:
        """Object stores have no folders: present means that something is below the URI."""
        return bool(self.names(""))

    def names(self, folder: str) -> list[str]:
        """Everything in the folder, sorted; none if there is no such folder."""
        self.fs.invalidate_cache()
        try:
            paths: list[str] = self.fs.ls(self._path(folder).rstrip("/"), detail=False)
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
        self.fs.pipe_file(self._path(PROBE), b"probe")
        with suppress(OSError):  # a role without the right to delete may still commit
            self.fs.rm_file(self._path(PROBE))

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"


def _knows_create(fs: Any) -> bool:
    """Whether this file system's own write takes `mode`; the async ones have it on the coroutine."""
    method = getattr(fs, "_pipe_file", None) or fs.pipe_file
    return "mode" in inspect.signature(method).parameters


def _code(error: OSError) -> str:
    """The service's own error code, from the exception that fsspec's translation keeps as the cause."""
    response = getattr(error.__cause__, "response", None)
    detail = response.get("Error", {}) if isinstance(response, dict) else {}
    return str(detail.get("Code", ""))
