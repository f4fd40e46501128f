"""What the files of a model folder may be, decided on their bytes before any library opens one of them.

Plain JSON, text and safetensors pass. Refused is what may hold code, what asks for code, what names files elsewhere,
what two parsers may read differently, and what is only dressed as one of the three.
"""

import json
import os
import pickletools
import re
import stat
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

SUFFIXES = frozenset({".json", ".safetensors", ".md", ".txt", ".model", ".jinja"})  # templates run in the library's sandbox
HARMLESS_NAMES = frozenset({".gitattributes"})  # every folder copied from the hub has one
LARGEST_TEXT_BYTES = 1 << 26  # the largest published vocabulary is half of that
LARGEST_HEADER_BYTES = 1 << 25  # a hundred thousand tensors take a third of that
MOST_FILES = 10_000

# Keys by which the libraries find code, or weights of another kind, at any depth of any file.
CODE_KEYS = frozenset(
    {
        "auto_map",
        "auto_mapping",
        "code_revision",
        "custom_generate",
        "custom_pipelines",
        "transformers_weights",
        "trust_remote_code",
    }
)
FILE_KEYS = frozenset({"fast_tokenizer_files", "merges_file", "spm_file", "vocab_file"})
KERNEL_KEYS = frozenset({"attn_implementation", "experts_implementation"})  # owner/name would be fetched and run
OURS = "mc-llava"  # published with code of its own, which is not fetched: the class is ours and reads no `auto_map`
_LOCAL_CLASS = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*", re.ASCII)  # of a module in the folder, where the gate lets none be
_KERNEL = re.compile(r"[a-z0-9_]+(\|[a-z0-9_]+)?", re.ASCII)
_PLAIN_NAME = re.compile(r"[\w][\w.+-]*", re.ASCII)
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
_CALLS = frozenset({"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"})


class FileRefused(ValueError):
    """A file must not be opened; the message says which and why."""


def refuse_unsafe_files(folder: Path) -> list[str]:
    """Check every file below the folder. The names of those in the folder itself, sorted.

    Raises:
        FileRefused: the first file that cannot be let through, or a link that leaves the folder.
    """
    names = []
    for count, path in enumerate(_files(folder)):
        if count >= MOST_FILES:
            raise FileRefused(f"more than {MOST_FILES} files; expected a model")
        try:
            _refuse_file(folder, path)
        except OSError as error:
            raise _refused(path, f"{error.strerror or type(error).__name__}; expected a readable file") from None
        if path.parent == folder:
            names.append(path.name)
    return sorted(names)


def plain_json(data: bytes) -> Any:
    """JSON as every parser reads it: UTF-8 without a mark, no key twice in one object.

    Raises:
        ValueError: anything else, also what is nested too deeply.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise ValueError("it begins with a byte order mark")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_each_key_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"key {twice[:80]!r} is there twice")
    return made


def _files(folder: Path) -> Iterator[Path]:
    """Everything that is no folder, links to folders included: the library would follow them."""

    def unreadable(error: OSError) -> None:
        raise _refused(Path(str(error.filename)), f"{error.strerror}; expected a readable folder")

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders.sort()
        for inner in folders:
            if (path := Path(place, inner)).is_symlink():
                raise _refused(path, "a link to a folder; expected the folder itself")
        yield from (Path(place, name) for name in sorted(files))


def _refuse_file(folder: Path, path: Path) -> None:
    if path.suffix not in SUFFIXES and path.name not in HARMLESS_NAMES:
        raise _refused(path, f"expected only {', '.join(sorted(SUFFIXES))}")
    if path.name == "adapter_config.json":
        raise _refused(path, "an adapter brings its own base model; expected merged weights")
    if path.is_symlink() and not any(Path(os.path.realpath(path)).is_relative_to(home) for home in _homes(folder)):
        raise _refused(path, "a link that leaves the folder; expected the file itself")
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise _refused(path, "not a regular file")
    if path.suffix == ".safetensors":
        _refuse_header(path, state.st_size)
        return
    if state.st_size > LARGEST_TEXT_BYTES:
        raise _refused(path, f"{state.st_size} bytes; expected at most {LARGEST_TEXT_BYTES}")
    data = path.read_bytes()
    if path.suffix == ".json":
        _refuse_json(path, data)
    else:
        _refuse_disguise(path, data)


def _homes(folder: Path) -> list[Path]:
    """Where a link may lead: the folder itself, and for one of the hub's cache the files that its snapshots share."""
    home = folder.resolve()
    return [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]


def _refuse_json(path: Path, data: bytes) -> None:
    try:
        value = plain_json(data)
    except ValueError as error:
        raise FileRefused(f"{path.name} is not JSON ({error}); expected plain JSON") from None
    if path.name == "config.json" and isinstance(value, dict) and value.get("model_type") == OURS:
        _drop_published_map(value)
    for key, inner in _members(value):
        plain_key = key.casefold().replace("-", "_")
        if plain_key in CODE_KEYS:
            raise FileRefused(f"{path.name} holds {key!r}; models that bring their own code are refused")
        if plain_key.strip("_").removesuffix("_internal") in KERNEL_KEYS and not _is_plain(inner, _KERNEL):
            raise FileRefused(f"{path.name} holds {key!r} of {_shown(inner)}; expected a kernel of the library's own")
        if plain_key in FILE_KEYS and not _is_plain(inner, _PLAIN_NAME):
            raise FileRefused(f"{path.name} holds {key!r} of {_shown(inner)}; expected a file beside it")
        if plain_key == "weight_map":
            _refuse_shards(path, inner)


def _drop_published_map(config: dict[str, Any]) -> None:
    """Leave an `auto_map` that names classes of modules in this folder out of account: there are no modules."""
    published = config.get("auto_map")
    if isinstance(published, dict) and all(isinstance(one, str) and _LOCAL_CLASS.fullmatch(one) for one in published.values()):
        del config["auto_map"]


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _is_plain(value: Any, allowed: re.Pattern[str]) -> bool:
    """Whether all texts in a value, or in a flat list or object, are of the pattern. Numbers are: any word has a vocabulary's."""
    texts = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
    return all(
        one is None or isinstance(one, bool | int | float) or (isinstance(one, str) and allowed.fullmatch(one)) for one in texts
    )


def _refuse_shards(path: Path, places: Any) -> None:
    """A shard of another name would be read as a pickle."""
    names = places.values() if isinstance(places, dict) else [places]
    for name in names:
        if isinstance(name, int) and not isinstance(name, bool):  # a word of a vocabulary
            continue
        if not (isinstance(name, str) and _PLAIN_NAME.fullmatch(name) and name.endswith(".safetensors")):
            raise FileRefused(f"{path.name}: weight_map names {_shown(name)}, expected *.safetensors files beside it")


def _refuse_disguise(path: Path, data: bytes) -> None:
    """Text is UTF-8 without NUL; a `.model` may also be SentencePiece, whose first byte opens its first piece."""
    if path.suffix == ".model" and data.startswith(b"\n"):
        return
    try:
        readable = "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        readable = False
    if not readable or _is_pickle(data):
        what = "a SentencePiece model or text" if path.suffix == ".model" else "text"
        raise _refused(path, f"its first bytes are {data[:8]!r}; expected {what}")


def _is_pickle(data: bytes) -> bool:
    """Whether the bytes are a whole pickle that calls something, the oldest protocol in plain letters included."""
    try:
        names = {opcode.name for opcode, _, _ in pickletools.genops(data)}  # reads, runs nothing
    except Exception:  # any text that is none
        return False
    return not _CALLS.isdisjoint(names)


def _refuse_header(path: Path, size: int) -> None:
    """The header describes the file exactly: known types, no gap, no overlap, nothing behind the last tensor."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(LARGEST_HEADER_BYTES, size - 8):
            raise _refused(path, f"a header of {length} bytes in {size}; expected safetensors")
        header = file.read(length)
    try:
        if not header.startswith(b"{"):
            raise ValueError("it does not begin with an object")
        tensors = plain_json(header)
        end = _end_of_tensors(tensors)
    except ValueError as error:
        raise _refused(path, f"its header is wrong ({error}); expected safetensors") from None
    if end != size - 8 - length:
        raise _refused(path, f"its tensors end at {end} of {size - 8 - length} bytes; expected safetensors")


def _end_of_tensors(header: dict[str, Any]) -> int:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("__metadata__ holds more than texts")
    end = 0
    for first, stop, needed in sorted(_extent(name, one) for name, one in header.items()):
        if first != end or stop - first != needed:
            raise ValueError(f"bytes {first} to {stop} for a tensor of {needed} that should begin at {end}")
        end = stop
    return end


def _extent(name: str, tensor: Any) -> tuple[int, int, int]:
    """First byte, the one behind the last, and how many bytes type and shape need."""
    if not isinstance(tensor, dict) or tensor.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name[:80]!r} is no tensor")
    shape, offsets, kind = tensor["shape"], tensor["data_offsets"], tensor["dtype"]
    if not (isinstance(shape, list) and isinstance(offsets, list) and all(type(n) is int and n >= 0 for n in shape + offsets)):
        raise ValueError(f"shape {_shown(shape)} at {_shown(offsets)}")
    if not isinstance(kind, str) or kind not in _BITS or len(offsets) != 2:
        raise ValueError(f"type {_shown(kind)} at {_shown(offsets)}")
    return offsets[0], offsets[1], prod(shape) * _BITS[kind] // 8


def _refused(path: Path, why: str) -> FileRefused:
    return FileRefused(f"refused because of {path.name[:200]!r}: {why}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
