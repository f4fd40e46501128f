"""Where a manifest's Parquet files are, in the order that numbers the rows."""

import os
import posixpath
import re
from dataclasses import dataclass
from typing import Any

import fsspec

from ray_pipeline.intake.manifest_refused import ManifestRefused
from ray_pipeline.intake.redaction import redacted, redacted_text

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


def store_of(uri: str) -> tuple[Any, str]:
    """The fsspec store behind a manifest's address, and the address inside it."""
    store, path = fsspec.core.url_to_fs(uri)
    store.invalidate_cache()
    return store, path


def find_files(uri: str) -> ManifestFiles:
    """Files of a Parquet file, folder or glob. In folders, other endings and hidden names (`.x`, `_x`) are skipped.

    Raises:
        ManifestRefused: nothing there, no Parquet file, or the store cannot be asked.
    """
    if not uri:
        raise ManifestRefused("manifest '' is empty, expected a Parquet file, folder or glob")
    try:
        store, path = store_of(uri)
        paths, folder = _list(store, path)
    except Exception as error:  # stores raise errors of their own libraries
        text = redacted_text(str(error))
        raise ManifestRefused(f"manifest {redacted(uri)} cannot be read ({type(error).__name__}: {text})") from None
    if not paths:
        raise ManifestRefused(f"manifest {redacted(uri)} has no Parquet file, expected a file, folder or glob of *.parquet")
    protocol = store.protocol if isinstance(store.protocol, str) else store.protocol[0]
    remote = protocol not in ("file", "local")
    base = str(store.unstrip_protocol(folder)).rstrip("/") if remote else os.path.abspath(folder)
    return ManifestFiles(tuple(sorted(paths)), base, remote)


def _list(store: Any, path: str) -> tuple[list[str], str]:
    """(files, base folder). A file whose very name holds glob letters is a file, not a glob."""
    if store.isfile(path):
        return [path], posixpath.dirname(path)
    found = _MAGIC.search(path)
    if found:
        folder = posixpath.dirname(path[: found.start()] + "x")
        return [name for name in store.glob(path) if _is_wanted(name, folder) and store.isfile(name)], folder
    return [name for name in store.find(path) if _is_wanted(name, path)], path


def _is_wanted(name: str, folder: str) -> bool:
    below = name.removeprefix(folder).split("/")
    return name.lower().endswith(_ENDINGS) and not any(piece.startswith((".", "_")) for piece in below)
