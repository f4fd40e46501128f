"""The gate in front of every model folder: plain JSON, text and safetensors, or nothing is loaded."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

ALLOWED_SUFFIXES = {".json", ".safetensors", ".md", ".txt", ".model", ".jinja"}  # templates run in the library's sandbox
HARMLESS_NAMES = {".gitattributes"}  # every folder copied from the hub has one
EMBEDDED = Path(__file__).parent / "embedded"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
OURS = "mc-llava"  # published with code of its own, which is not fetched: the class is ours and reads no `auto_map`
_CODE_KEYS = ("auto_map", "trust_remote_code", "custom_pipelines")


class ModelRefused(ValueError):
    """A model folder cannot be used; the message names what was found and what was expected."""


def model_folder(name: str, revision: str | None = None) -> Path:
    """The folder of `embedded`, of a local path, or of a hub model `owner/name` at a pinned commit, checked file by file.

    Raises:
        ModelRefused: absent folder, missing config or weights, a file that may hold code, or JSON that asks for any; a hub
            model without a pinned commit, or one that cannot be had.
    """
    folder = EMBEDDED if name == "embedded" else Path(name).expanduser()
    if not folder.is_dir():
        if not _HUB_NAME.fullmatch(name):
            raise ModelRefused(
                f"model {name!r}: no folder there; expected `embedded`, owner/name, or a folder with config.json and safetensors"
            )
        folder = _from_hub(name, revision)
    files = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    for path in files:
        if (path.suffix not in ALLOWED_SUFFIXES and path.name not in HARMLESS_NAMES) or (
            path.is_symlink() and not path.resolve().is_file()
        ):
            raise ModelRefused(
                f"model {name!r}: refused because of {path.name!r}; expected only {', '.join(sorted(ALLOWED_SUFFIXES))}"
            )
        if path.suffix == ".json":
            _refuse_code(name, path)
    names = {path.name for path in files if path.parent == folder}
    if "config.json" not in names or not any(file.endswith(".safetensors") for file in names):
        raise ModelRefused(f"model {name!r}: has {sorted(names)[:6]}; expected config.json and at least one *.safetensors")
    return folder


def _from_hub(name: str, revision: str | None) -> Path:
    """What the gate lets through of a hub model, from the local cache or the hub."""
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ModelRefused(f"model {name!r} with model.revision {revision!r}; expected the commit to pin it to, 40 hex digits")
    wanted = [f"*{suffix}" for suffix in sorted(ALLOWED_SUFFIXES)]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (OSError, ValueError, HfHubHTTPError) as error:
        why = " ".join(str(error).split())[:200]
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


def _refuse_code(name: str, path: Path) -> None:
    try:
        value = json.loads(path.read_bytes())
        if path.name == "config.json" and isinstance(value, dict) and value.get("model_type") == OURS:
            value.pop("auto_map", None)
        found = _code_key(value)
    except ValueError as error:
        raise ModelRefused(f"model {name!r}: {path.name} is not JSON ({error}); expected plain JSON") from None
    if found:
        raise ModelRefused(f"model {name!r}: {path.name} holds {found!r}; models that bring their own code are refused")


def _code_key(value: Any) -> str | None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _CODE_KEYS:
                return str(key)
            if found := _code_key(inner):
                return found
    if isinstance(value, list):
        for inner in value:
            if found := _code_key(inner):
                return found
    return None
