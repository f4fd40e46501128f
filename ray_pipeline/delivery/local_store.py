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
PATIENCE_S = 0.5  # for a lock that is held for microseconds unless its holder stands still


class LocalStore:
    """Reads and writes below `root`. Names are relative, with forward slashes, and checked by the caller."""

    def __init__(self, root: str, fail_points: FailPoints) -> None:
        self.root = Path(root)
        self.fail_points = fail_points

    def create(self, name: str, data: bytes) -> bool:
        """Commit the file; False if the name is taken. Synced to disk when this returns, whoever wrote it."""
        target = self._target(name)
        with self._staged(data) as temporary:
            self.fail_points.reach("commit.before_create")
            try:
                os.link(temporary, target)
            except FileExistsError:
                sync_folder(target.parent)  # the other writer may have died between link and sync
                return False
            self.fail_points.reach("commit.after_create")
            sync_folder(target.parent)
            return True

    def replace(self, name: str, data: bytes) -> None:
        """Write the file whether or not it exists; a reader sees the old one or the new one."""
        target = self._target(name)
        with self._staged(data) as temporary:
            os.replace(temporary, target)
            sync_folder(target.parent)

    def remove(self, name: str) -> None:
        """Take the file away for good; nothing happens where there is none."""
        target = self._target(name)
        target.unlink(missing_ok=True)
        sync_folder(target.parent)

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
            lock(folder, fcntl.LOCK_EX)  # writers hold it shared while they make a file; without locks the files still tell
            return self._clean()
        except BlockingIOError:
            return 0
        finally:
            os.close(folder)

    def _clean(self) -> int:
        """The folder itself stays: taken away and made again by turns, it could vanish under a writer without end."""
        self.fail_points.reach("recover.scan")
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

    def creates_once(self) -> bool:
        """Whether two writers of one name are kept apart: always, a second link to a name fails."""
        return True

    @contextmanager
    def _staged(self, data: bytes) -> Iterator[Path]:
        """A synced staging file with these bytes, locked as long as the block runs, gone after it."""
        descriptor, temporary = self._open_staging()
        try:
            write_whole(descriptor, data[: len(data) // 2])
            self.fail_points.reach("stage.middle")
            write_whole(descriptor, data[len(data) // 2 :])
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
            make_folder(self.root)
            with suppress(FileExistsError):
                (self.root / STAGING).mkdir()
            temporary = self.root / STAGING / uuid.uuid4().hex
            try:
                descriptor = _created_and_locked(temporary)
            except (FileNotFoundError, BlockingIOError):  # somebody took the folder away, or has the file in hand
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
            try:
                if not lock(descriptor, fcntl.LOCK_EX):
                    return False
            except BlockingIOError:
                return False
            self.fail_points.reach("recover.delete")
            with suppress(FileNotFoundError):
                os.unlink(path)
            return True
        finally:
            os.close(descriptor)

    def _target(self, name: str) -> Path:
        target = self.root / name
        make_folder(target.parent)
        return target


def _created_and_locked(path: Path) -> int:
    """A new file, locked before any cleaner can look at it.

    Raises:
        BlockingIOError: a cleaner took its lock and stands still.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(BlockingIOError):  # a cleaner stands still: go on without keeping it out
            lock(folder, fcntl.LOCK_SH, PATIENCE_S)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            lock(descriptor, fcntl.LOCK_EX, PATIENCE_S)
        except BlockingIOError:
            os.close(descriptor)
            raise
        return descriptor
    finally:
        os.close(folder)


def lock(descriptor: int, how: int, wait_s: float = 0.0) -> bool:
    """Whether the lock was taken. False: the file system has no locks, and what is left on it is never taken for an orphan.

    Asked for again and again, never waited for: a process that was stopped with the lock in hand would stop us, too.

    Raises:
        BlockingIOError: somebody else held it all the time.
    """
    end = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.001)
        except OSError:
            return False


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of it, however many calls that takes; nothing is synced."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def make_folder(folder: Path) -> None:
    """The folder and those above it, each name synced; no-op where it is there.

    Raises:
        NotADirectoryError: something else has the name.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is there, but is no folder")
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were added to the folder or taken from it last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
