"""Where an export goes: it is written beside its place under a hidden name, and moved there whole."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = "export.json"  # stands in every folder that is an export, so that only such a folder is ever replaced


class PlaceRefused(ValueError):
    """Nothing may be written there; one line says why."""


def checked_place(target: str, run_folder: str | None, folder: bool, overwrite: bool) -> Path:
    """The absolute path of an export that may be written.

    Raises:
        PlaceRefused: it is there already, within the run's own folder or around it, no local path, or has no parent folder.
    """
    local = target.removeprefix("file://")
    if not local or "://" in local or any(ord(character) < 32 for character in local):
        raise PlaceRefused(f"target {target!r}; expected a local path")
    place = Path(local).expanduser().absolute()
    if not place.name or not place.parent.is_dir():
        raise PlaceRefused(f"target {target!r}: no folder {str(place.parent)!r}")
    if run_folder is not None:
        ours, run = place.parent.resolve() / place.name, Path(run_folder).expanduser().resolve()
        ours = ours.resolve() if folder else ours
        if ours.is_relative_to(run) or run.is_relative_to(ours):
            raise PlaceRefused(f"target {target!r} is within or around the run's folder; expected a place of its own")
    if os.path.lexists(place):
        _refuse_standing(place, target, folder, overwrite)
    return place


@contextmanager
def staged(place: Path, folder: bool, overwrite: bool) -> Iterator[Path]:
    """A file or empty folder to write to, which becomes `place` when the block ends well, and else leaves no trace.

    Raises:
        PlaceRefused: somebody else has written `place` in the meantime.
    """
    scratch = Path(tempfile.mkdtemp(prefix=".fovea-export-", dir=place.parent))
    try:
        work = scratch / "export"
        if folder:
            work.mkdir()
        yield work
        _flush(work)
        _move(work, place, scratch / "before", folder, overwrite)
        _flush(place.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _move(work: Path, place: Path, before: Path, folder: bool, overwrite: bool) -> None:
    """A file is replaced in one step; a folder steps aside first, and comes back if its successor cannot take its place."""
    if os.path.lexists(place):
        _refuse_standing(place, str(place), folder, overwrite)
        if folder:
            os.rename(place, before)
    try:
        os.rename(work, place)
    except BaseException:
        if before.exists():
            os.rename(before, place)
        raise


def _refuse_standing(place: Path, target: str, folder: bool, overwrite: bool) -> None:
    if not overwrite:
        raise PlaceRefused(f"target {target!r} is there already; expected a new place, or --overwrite")
    if not folder and (place.is_symlink() or not place.is_file()):
        raise PlaceRefused(f"target {target!r} is no plain file; expected one to overwrite")
    if folder and (place.is_symlink() or not (place.is_dir() and ((place / MARK).is_file() or not any(place.iterdir())))):
        raise PlaceRefused(f"target {target!r} is no folder with an {MARK}; expected an earlier export to overwrite")


def _flush(path: Path) -> None:
    """What is written there survives a power cut; of a folder only its list of names, its files are flushed by the system."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
