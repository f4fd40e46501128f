"""An output folder on a POSIX file system: files appear under their name complete and synced, or not at all.

A file is written to `.staging`, synced, linked to its name (which fails if the name is taken) and unlinked from
`.staging`. While that lasts the writer holds a lock on the staging file. A dead writer holds none, and that is how
`clean_staging` tells orphans from files that somebody is writing right now, on this or another machine.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ray_pipeline.delivery.fail_points import FailPoints

STAGING = ".staging"
TRIES = 200  # a cleaner may take a staging file away between its creation and its lock


class LocalStore:
    """Reads and writes below `root`. Names are relative, with forward slashes, and checked by the caller."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.fail_points = FailPoints()

    def create(self, name: str, data: bytes) -> bool:
        """Commit the file; False if the name is taken. Synced to disk when this returns, whoever wrote it."""
        target = self._target(name)
        with self._staged(data) as temporary:
            self.fail_points.reach("commit.before_create")
            try:
                os.link(temporary, target)
            except FileExistsError:
                _sync_folder(target.parent)  # the other writer may have died between link and sync
                return False
            self.fail_points.reach("commit.after_create")
            _sync_folder(target.parent)
            return True

    def replace(self, name: str, data: bytes) -> None:
        """Write the file whether or not it exists; a reader sees the old one or the new one."""
        target = self._target(name)
        with self._staged(data) as temporary:
            os.replace(temporary, target)
            _sync_folder(target.parent)

    def remove(self, name: str) -> None:
        """Take the file away for good; nothing happens where there is none."""
        target = self._target(name)
        target.unlink(missing_ok=True)
        _sync_folder(target.parent)

    def read(self, name: str) -> bytes:
        """The whole file; FileNotFoundError if there is none."""
        return (self.root / name).read_bytes()

    def exists(self, name: str) -> bool:
        """Whether the name is taken."""
        return (self.root / name).exists()

    def present(self) -> bool:
        """Whether the folder itself is there."""
        return self.root.is_dir()

    def names(self, folder: str) -> list[str]:
        """Everything in the folder, sorted; none if there is no such folder."""
        try:
            return sorted(os.listdir(self.root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def clean_staging(self) -> int:
        """Remove what dead writers left; how many files that was. None while another process does the same."""
        try:
            folder = os.open(self.root / STAGING, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # writers hold it shared while they make a file
            return self._clean()
        except BlockingIOError:
            return 0
        except OSError:  # folders cannot be locked here; the files still tell who is alive
            return self._clean()
        finally:
            os.close(folder)

    def _clean(self) -> int:
        """The folder itself stays: taken away and made again by turns, it could vanish under a writer without end."""
        return sum(self._removed(self.root / STAGING / name) for name in self.names(STAGING))

    def writable_check(self) -> None:
        """Make the folder and do in `.staging` all that a commit does.

        Raises:
            OSError: it cannot be done here: no permission, no space, no hard links.
        """
        with self._staged(b"probe") as temporary:
            link = temporary.with_suffix(".link")
            os.link(temporary, link)
            os.unlink(link)

    @contextmanager
    def _staged(self, data: bytes) -> Iterator[Path]:
        """A synced staging file with these bytes, locked as long as the block runs, gone after it."""
        descriptor, temporary = self._open_staging()
        try:
            _write(descriptor, data[: len(data) // 2])
            self.fail_points.reach("stage.middle")
            _write(descriptor, data[len(data) // 2 :])
            os.fsync(descriptor)
            self.fail_points.reach("stage.after_fsync")
            yield temporary
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            os.close(descriptor)

    def _open_staging(self) -> tuple[int, Path]:
        for attempt in range(TRIES):
            time.sleep(min(0.001 * attempt, 0.02))
            _make_folder(self.root)
            with suppress(FileExistsError):
                (self.root / STAGING).mkdir()
            temporary = self.root / STAGING / uuid.uuid4().hex
            try:
                descriptor = _created_and_locked(temporary)
            except FileNotFoundError:  # somebody took the folder away
                continue
            self.fail_points.reach("stage.open")
            if temporary.exists():
                return descriptor, temporary
            os.close(descriptor)
        raise OSError(f"{self.root / STAGING}: staging files vanish; expected only this program to work there")

    def _removed(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # gone, or no file of ours
            return False
        try:
            if not _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return False
            self.fail_points.reach("recover.delete")
            with suppress(FileNotFoundError):
                os.unlink(path)
            return True
        finally:
            os.close(descriptor)

    def _target(self, name: str) -> Path:
        target = self.root / name
        _make_folder(target.parent)
        return target


def _created_and_locked(path: Path) -> int:
    """A new file, locked before any cleaner can look at it."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(folder, fcntl.LOCK_SH)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        _lock(descriptor, fcntl.LOCK_EX)
        return descriptor
    finally:
        os.close(folder)


def _lock(descriptor: int, how: int) -> bool:
    """Whether the lock was taken. A file system without locks says no; its staging files are then never cleaned."""
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        return False
    return True


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is there, but is no folder")
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
