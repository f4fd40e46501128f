"""The gate in front of every model folder: plain JSON, text and safetensors, or nothing is loaded."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ALLOWED_SUFFIXES = {".json", ".safetensors", ".md", ".txt", ".model", ".jinja"}  # templates run in the library's sandbox
HARMLESS_NAMES = {".gitattributes"}  # every folder copied from the hub has one
EMBEDDED = Path(__file__).parent / "embedded"
_CODE_KEYS = ("auto_map", "trust_remote_code", "custom_pipelines")


class ModelRefused(ValueError):
    """A model folder cannot be used; the message names what was found and what was expected."""


def model_folder(name: str) -> Path:
    """The folder of `embedded` or of a local path, checked file by file.

    Raises:
        ModelRefused: absent folder, missing config or weights, a file that may hold code, or JSON that asks for any.
    """
    folder = EMBEDDED if name == "embedded" else Path(name).expanduser()
    if not folder.is_dir():
        raise ModelRefused(f"model {name!r}: no folder there; expected `embedded` or a folder with config.json and *.safetensors")
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
        found = _code_key(json.loads(path.read_bytes()))
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
