"""Trails on a POSIX file system: `.journal/part-00003.<32 hex digits>.jsonl`, one file per writer.

A writer appends and syncs; while it lives it holds a lock on its file, which the kernel takes away when it dies.
"""

import fcntl
import os
import re
import uuid
import weakref
from contextlib import suppress
from pathlib import Path

from ray_pipeline.delivery.fail_points import FailPoints
from ray_pipeline.delivery.local_store import PATIENCE_S, lock, make_folder, sync_folder, write_whole
from ray_pipeline.delivery.trail import Trail

FOLDER = ".journal"
NAME = re.compile(r"(part-[0-9]{5,18})\.([0-9a-f]{32})\.jsonl", re.ASCII)
# The data and the length of the file are what counts; fsync writes its time stamps as well.
_sync_data = getattr(os, "fdatasync", os.fsync)


class LocalTrails:
    """The trails in `.journal` below `root`. Other files there are left alone."""

    def __init__(self, root: str, fail_points: FailPoints) -> None:
        self.folder = Path(root) / FOLDER
        self.fail_points = fail_points

    def start(self, stem: str) -> "LocalTrail":
        """A new trail of this process."""
        return LocalTrail(self.folder, stem, self.fail_points)

    def read(self, stem: str) -> list[Trail]:
        """What all writers left; a file that goes away while it is read counts as removed."""
        trails = []
        for name, writer in self._files(stem):
            self.fail_points.reach("recover.scan")
            with suppress(FileNotFoundError, PermissionError):  # what cannot be read is computed again
                trails.append(_trail(self.folder / name, writer))
        return trails

    def stems(self) -> list[str]:
        """The parts that have a trail."""
        return sorted({found[1] for name in self._names() if (found := NAME.fullmatch(name))})

    def remove(self, stem: str, living: bool) -> int:
        """Unlink the files. A writer that lives goes on appending to a file without a name, to no effect."""
        return sum(self._removed(self.folder / name, living) for name, _ in self._files(stem))

    def _removed(self, path: Path, living: bool) -> bool:
        try:
            if not living and _is_living(path):
                return False
            self.fail_points.reach("recover.delete")
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _files(self, stem: str) -> list[tuple[str, str]]:
        found = (NAME.fullmatch(name) for name in self._names())
        return [(match[0], match[2]) for match in found if match and match[1] == stem and _is_plain(self.folder / match[0])]


class LocalTrail:
    """One writer's file, made with the first record."""

    def __init__(self, folder: Path, stem: str, fail_points: FailPoints) -> None:
        self.folder, self.stem, self.fail_points = folder, stem, fail_points
        self._descriptor = -1  # none
        self._closing: weakref.finalize[[int], LocalTrail] | None = None

    def append(self, record: bytes) -> None:
        """Write and sync. After an error the file may end in half a record, so the next one goes to a new file."""
        self.fail_points.reach("journal.before_write")
        try:
            descriptor = self._open()
            write_whole(descriptor, record[: len(record) // 2])
            self.fail_points.reach("journal.middle")
            write_whole(descriptor, record[len(record) // 2 :])
            _sync_data(descriptor)
        except OSError:
            self.close()
            raise
        self.fail_points.reach("journal.after_sync")

    def close(self) -> None:
        """Give the file and its lock back."""
        if self._closing:
            self._closing()
        self._descriptor, self._closing = -1, None

    def _open(self) -> int:
        if self._descriptor < 0:
            make_folder(self.folder)
            path = self.folder / f"{self.stem}.{uuid.uuid4().hex}.jsonl"
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._closing = weakref.finalize(self, os.close, self._descriptor)  # also when a writer is merely forgotten
            with suppress(BlockingIOError):  # a reader asks for it at this moment, and stands still
                lock(self._descriptor, fcntl.LOCK_EX, PATIENCE_S)
            sync_folder(self.folder)
        return self._descriptor


def _trail(path: Path, writer: str) -> Trail:
    """Life is asked for first: a writer that dies in between has then been read to its end."""
    living = _is_living(path)
    return Trail(writer, living, path.read_bytes())


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_living(path: Path) -> bool:
    """Whether some process holds the lock. A file system without locks says no."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        lock(descriptor, fcntl.LOCK_SH)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
