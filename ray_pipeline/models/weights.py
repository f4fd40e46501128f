"""From a model's name to a checked folder: `embedded`, `documents`, a local path, or a hub model pinned to a commit."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from ray_pipeline.models.gate import SUFFIXES, FileRefused, refuse_unsafe_files
from ray_pipeline.scrubbing import scrubbed

EMBEDDED = Path(__file__).parent / "embedded"
DOCUMENTS = Path(__file__).parent / "documents"
PACKAGED = {"embedded": EMBEDDED, "documents": DOCUMENTS}
LINE_FINDER, LINE_READER = "line_finder.safetensors", "line_reader.safetensors"  # networks of their own that read pages
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class ModelRefused(ValueError):
    """A model folder cannot be used; the message names what was found and what was expected."""


def model_folder(name: str, revision: str | None = None) -> Path:
    """The folder of a packaged model, of a local path, or of a hub model `owner/name` at a pinned commit, checked file by file.

    Raises:
        ModelRefused: absent folder, missing config or weights, a file that may hold code, or JSON that asks for any; a hub
            model without a pinned commit, or one that cannot be had.
    """
    folder = PACKAGED.get(name) or Path(name).expanduser()
    if not folder.is_dir():
        if not _HUB_NAME.fullmatch(name):
            raise ModelRefused(
                f"model {name!r}: no folder there; expected `embedded`, `documents`, owner/name, or a folder with config.json"
                " and safetensors"
            )
        folder = _from_hub(name, revision)
    try:
        names = refuse_unsafe_files(folder)
    except FileRefused as refusal:
        raise ModelRefused(f"model {name!r}: {refusal}") from None
    if "config.json" not in names or not any(file.endswith(".safetensors") for file in names):
        raise ModelRefused(f"model {name!r}: has {names[:6]}; expected config.json and at least one *.safetensors")
    if (LINE_FINDER in names) != (LINE_READER in names):
        there, missing = (LINE_FINDER, LINE_READER) if LINE_FINDER in names else (LINE_READER, LINE_FINDER)
        raise ModelRefused(f"model {name!r}: has {there} but no {missing}; expected both, or neither")
    return folder


@contextmanager
def offline() -> Iterator[None]:
    """Inside, the hub library refuses every request: what a checked folder names but does not hold is not fetched."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _from_hub(name: str, revision: str | None) -> Path:
    """What the gate lets through of a hub model, from the local cache or the hub."""
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ModelRefused(f"model {name!r} with model.revision {revision!r}; expected the commit to pin it to, 40 hex digits")
    wanted = [f"*{suffix}" for suffix in sorted(SUFFIXES)]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (OSError, ValueError, HfHubHTTPError) as error:
        why = scrubbed(" ".join(str(error).split()), paths=True)[:200]
        raise ModelRefused(f"model {name!r} at {revision[:12]}: {why}; expected it in the cache or within reach") from None


def refuse_partial_weights(folder: Path, report: Mapping[str, Any]) -> None:
    """The library draws at random what a folder does not hold; `report` is its `output_loading_info`.

    Raises:
        ModelRefused: tensors are missing or have another shape.
    """
    if missing := sorted(str(key) for key in [*report["missing_keys"], *report["mismatched_keys"]]):
        raise ModelRefused(f"{folder}: weights lack or misfit {len(missing)} tensors, first {missing[:3]}; expected all of them")


def model_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that decides answers, by relative name."""
    wanted = [path for path in sorted(folder.rglob("*")) if path.suffix in {".json", ".safetensors", ".model", ".txt", ".jinja"}]
    return {str(path.relative_to(folder)): _digest(path) for path in wanted}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
