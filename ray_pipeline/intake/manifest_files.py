"""Where a manifest's Parquet files are, in the order that numbers the rows."""

import os
import posixpath
import re
from dataclasses import dataclass

from ray_pipeline.intake.manifest_refused import ManifestRefused
from ray_pipeline.intake.manifest_store import FIRST_S, PATIENCE_S, ManifestStore
from ray_pipeline.intake.redaction import named, redacted

_MAGIC = re.compile(r"[*?\[]")
_ENDINGS = (".parquet", ".parq", ".pq")


@dataclass(frozen=True)
class ManifestFiles:
    """Name-sorted `paths` inside the store, and the folder (`base`) that relative image addresses start from.

    `base` is an absolute path of this machine, or `scheme://folder` where `remote`.
    """

    paths: tuple[str, ...]
    base: str
    remote: bool


def store_of(uri: str, patience_s: float = PATIENCE_S) -> tuple[ManifestStore, str]:
    """The store behind a manifest's address, and the address inside it."""
    store = ManifestStore(uri, patience_s)
    return store, store.path


def find_files(uri: str) -> ManifestFiles:
    """Files of a Parquet file, folder or glob. In folders, other endings and hidden names (`.x`, `_x`) are skipped.

    Raises:
        ManifestRefused: nothing there, no Parquet file, or the store cannot be asked, for `FIRST_S` seconds per question.
    """
    if not uri:
        raise ManifestRefused("manifest '' is empty, expected a Parquet file, folder or glob")
    try:
        store, path = store_of(uri, FIRST_S)
        paths, folder = _list(store, path)
    except Exception as error:  # stores raise errors of their own libraries
        raise ManifestRefused(f"manifest {redacted(uri)} cannot be read ({named(error)})") from None
    if not paths:
        raise ManifestRefused(f"manifest {redacted(uri)} has no Parquet file, expected a file, folder or glob of *.parquet")
    protocol = store.fs.protocol if isinstance(store.fs.protocol, str) else store.fs.protocol[0]
    remote = protocol not in ("file", "local")
    base = str(store.fs.unstrip_protocol(folder)).rstrip("/") if remote else os.path.abspath(folder)
    return ManifestFiles(tuple(sorted(paths)), base, remote)


def _list(store: ManifestStore, path: str) -> tuple[list[str], str]:
    """(files, base folder). A file whose very name holds glob letters is a file, not a glob."""
    if store.is_file(path):
        return [path], posixpath.dirname(path)
    found = _MAGIC.search(path)
    if found:
        folder = posixpath.dirname(path[: found.start()] + "x")
        return [name for name in store.glob(path) if _is_wanted(name, folder) and store.is_file(name)], folder
    return [name for name in store.find(path) if _is_wanted(name, path)], path


def _is_wanted(name: str, folder: str) -> bool:
    below = name.removeprefix(folder).split("/")
    return name.lower().endswith(_ENDINGS) and not any(piece.startswith((".", "_")) for piece in below)
