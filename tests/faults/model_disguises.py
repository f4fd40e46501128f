"""Model folders that try to bring code: each starts from a harmless folder and changes one thing.

The payloads are live. Whatever unpickles or imports one of them leaves a canary.
"""

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray_pipeline.models.weights import ModelRefused, model_folder

Disguise = Callable[[Path, Path], None]  # the folder to change, and where the canary must never appear
CLASS = {"AutoConfig": "configuration_evil.EvilConfig", "AutoModelForCausalLM": "modeling_evil.EvilModel"}
TENSOR = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


class Payload:
    """Makes the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.canary,)


def pickled(canary: Path, protocol: int = 2) -> bytes:
    """A pickle that makes the canary."""
    return pickle.dumps({"w": Payload(canary)}, protocol=protocol)


def torch_archive(canary: Path) -> bytes:
    """A checkpoint as torch writes it: a zip archive around a pickle."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(canary))
        archive.writestr("archive/version", "3\n")
    return packed.getvalue()


def tar_archive(canary: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("pickle")
        member.size = len(pickled(canary))
        archive.addfile(member, io.BytesIO(pickled(canary)))
    return packed.getvalue()


def code(canary: Path) -> bytes:
    """A module that makes the canary when it is imported."""
    return f"import os\nos.mkdir({str(canary)!r})\nclass EvilConfig: pass\nclass EvilModel: pass\n".encode()


def safetensors(header: Any, body: bytes = bytes(8), length: int | None = None) -> bytes:
    """A file with this header (raw bytes, or what becomes JSON) and perhaps a lie about its length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + body


def harmless(folder: Path) -> Path:
    """What every disguise starts from; passes the gate."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llava", "text_config": {"model_type": "llama"}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "vocab_file": None}))
    (folder / "vocab.json").write_text(json.dumps({"vocab_file": 1, "weight_map": 2, "a": 3}))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    (folder / "model.safetensors").write_bytes(safetensors(TENSOR))
    return folder


def put(name: str, content: Callable[[Path], bytes]) -> Disguise:
    """Add a file."""

    def change(folder: Path, canary: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(canary))

    return change


def says(name: str, value: Any) -> Disguise:
    """A JSON file with this content over what is there, and the module that it may name, as bytes the gate must not need."""

    def change(folder: Path, canary: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = json.loads(path.read_text()) if path.exists() and isinstance(value, dict) else {}
        path.write_text(json.dumps(before | value if isinstance(value, dict) else value))

    return change


def raw(name: str, data: bytes) -> Disguise:
    return put(name, lambda canary: data)


def both(*changes: Disguise) -> Disguise:
    def change(folder: Path, canary: Path) -> None:
        for one in changes:
            one(folder, canary)

    return change


def linked(name: str, target: str, directory: bool = False) -> Disguise:
    """A link; `{out}` is a folder beside the model's, with a pickle and a config that asks for code in it."""

    def change(folder: Path, canary: Path) -> None:
        out = folder.parent / f"{folder.name}-out"
        out.mkdir()
        (out / "evil.bin").write_bytes(pickled(canary))
        (out / "config.json").write_text(json.dumps({"auto_map": CLASS}))
        (out / "model.safetensors").write_bytes(safetensors(TENSOR))
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target.format(out=f"../{out.name}", folder=folder.name), target_is_directory=directory)

    return change


def pipe(folder: Path, canary: Path) -> None:
    """Reading it would wait for ever."""
    os.mkfifo(folder / "generation_config.json")


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


BAD_WEIGHTS = {  # what the one file of weights may be instead
    "a pickle": lambda canary: pickled(canary),
    "an old pickle": lambda canary: pickled(canary, 0),
    "a torch archive": torch_archive,
    "a packed pickle": lambda canary: gzip.compress(pickled(canary)),
    "nothing": lambda canary: b"",
    "seven bytes": lambda canary: bytes(7),
    "a header longer than the file": lambda canary: safetensors(TENSOR, length=1 << 20),
    "a header of 2^63 bytes": lambda canary: safetensors(TENSOR, length=1 << 63),
    "a header that is a list": lambda canary: safetensors([1]),
    "a header that is a pickle": lambda canary: safetensors(pickled(canary)),
    "a header with a tensor twice": lambda canary: safetensors(b'{"w":{},' + json.dumps(TENSOR).encode()[1:]),
    "a header nested too deeply": lambda canary: safetensors(nested(100_000)),
    "a tensor behind the end": lambda canary: safetensors({"w": TENSOR["w"] | {"shape": [9], "data_offsets": [0, 36]}}),
    "a negative offset": lambda canary: safetensors({"w": TENSOR["w"] | {"data_offsets": [-8, 0]}}),
    "overlapping tensors": lambda canary: safetensors(TENSOR | {"v": TENSOR["w"]}),
    "a gap": lambda canary: safetensors({"w": TENSOR["w"] | {"data_offsets": [8, 16]}}, bytes(16)),
    "a shape that lies": lambda canary: safetensors({"w": TENSOR["w"] | {"shape": [1 << 60, 1 << 60]}}),
    "an unknown type": lambda canary: safetensors({"w": TENSOR["w"] | {"dtype": "OBJECT"}}),
    "true for a size": lambda canary: safetensors({"w": TENSOR["w"] | {"shape": [True, 2]}}),
    "an archive behind the tensors": lambda canary: safetensors(TENSOR, bytes(8) + torch_archive(canary)),
    "metadata that is no text": lambda canary: safetensors(TENSOR | {"__metadata__": {"format": {"auto_map": 1}}}),
}
BAD_FILES = {  # names that have no business in a folder of weights, each with a live payload
    name: (code if name.lower().endswith((".py", ".pyc", ".so", ".sh", "ipynb")) else torch_archive if "pt" in name else pickled)
    for name in (
        "modeling_evil.py", "custom_generate/generate.py", "MODELING.PY", "a/b/c/deep.py", "__init__.py", "evil.pyc", "lib.so",
        "setup.sh", "notebook.ipynb", "pytorch_model.bin", "model.Bin", "weights.pt", "weights.PT", "weights.pth", "model.pt2",
        "a.pte", "model.ckpt", "model.pkl", "model.pickle", "data.joblib", "data.dill", "arrays.npy", "arrays.npz", "tf_model.h5",
        "saved_model.pb", "model.onnx", "model.gguf", "model.msgpack", "model.keras", "archive.zip", "archive.tar", "archive.7z",
        "archive.tar.gz", "archive.whl", "model.safetensors.bin", "model.safetensors ", "model.safetensors.", "config.json.exe",
        "config.yaml", "requirements.cfg", ".json", ".hidden", "no_suffix", "qformer_tokenizer/tokenizer.bin", "x.js\u03bfn",
    )
}  # fmt: skip
CODE_IN_JSON = {
    "a map in config.json": says("config.json", {"auto_map": CLASS}),
    "a map of another repository": says("config.json", {"auto_map": {"AutoConfig": "evil/repo--configuration.EvilConfig"}}),
    "a map in our own kind, of another repository": says(
        "config.json", {"model_type": "mc-llava", "auto_map": {"AutoConfig": "evil/repo--configuration.EvilConfig"}}
    ),
    "a list in our own kind": says("config.json", {"model_type": "mc-llava", "auto_map": ["configuration.EvilConfig"]}),
    "a map below our own kind": says("config.json", {"model_type": "mc-llava", "text_config": {"auto_map": CLASS}}),
    "a map beside our own kind": both(
        says("config.json", {"model_type": "mc-llava"}), says("tokenizer_config.json", {"auto_map": CLASS})
    ),
    "the flag in config.json (CVE-2026-5241)": says("config.json", {"trust_remote_code": True}),
    "flag and map in config.json (CVE-2026-5241)": says("config.json", {"trust_remote_code": True, "auto_map": CLASS}),
    "the flag as a number (CVE-2026-5241)": says("config.json", {"trust_remote_code": 1}),
    "the flag below a section (CVE-2026-5241)": says("config.json", {"text_config": {"trust_remote_code": True}}),
    "map and module (CVE-2026-27893)": both(says("config.json", {"auto_map": CLASS}), put("modeling_evil.py", code)),
    "map below a vision section (CVE-2026-27893)": says("config.json", {"vision_config": {"auto_map": CLASS}}),
    "map and flag where an assertion stood (CVE-2026-41523)": says(
        "config.json", {"auto_map": CLASS, "model_type": None, "trust_remote_code": True}
    ),
    "a map in tokenizer_config.json": says("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Slow", None]}}),
    "a map as a list": says("tokenizer_config.json", {"auto_map": ["evil.Slow", "evil.Fast"]}),
    "a map in processor_config.json": says("processor_config.json", {"auto_map": {"AutoProcessor": "evil.Processor"}}),
    "a map in preprocessor_config.json": says("preprocessor_config.json", {"a": {"auto_map": CLASS}}),
    "a map in video_preprocessor_config.json": says("video_preprocessor_config.json", {"auto_map": CLASS}),
    "code in generation_config.json": says("generation_config.json", {"custom_generate": "evil/repo"}),
    "a pipeline": says("config.json", {"custom_pipelines": {"evil": {"impl": "evil.Pipeline"}}}),
    "a map deep in lists": says("other.json", [[[{"a": [{"b": {"auto_map": CLASS}}]}]]]),
    "a map in an inner folder": says("qformer_tokenizer/tokenizer_config.json", {"auto_map": CLASS}),
    "a map in capitals": says("config.json", {"AUTO_MAP": CLASS}),
    "a map with a dash": says("config.json", {"auto-map": CLASS}),
    "a map spelt with an escape": raw("config.json", b'{"model_type": "llava", "auto\\u005fmap": {"AutoConfig": "a.B"}}'),
    "a map hidden by a second key": raw("config.json", b'{"auto_map": {"AutoConfig": "a.B"}, "auto_map": 0}'),
    "a section hidden by a second key": raw(
        "config.json", b'{"text_config": {"auto_map": {}}, "model_type": "llava", "text_config": {}}'
    ),
    "a byte order mark": raw("config.json", b"\xef\xbb\xbf" + b'{"model_type": "llava"}'),
    "UTF-16": raw("config.json", json.dumps({"auto_map": CLASS}).encode("utf-16")),
    "UTF-16 without a mark": raw("config.json", json.dumps({"auto_map": CLASS}).encode("utf-16-le")),
    "UTF-32": raw("config.json", json.dumps({"auto_map": CLASS}).encode("utf-32")),
    "bytes that are no text": raw("config.json", b'{"model_type": "ll\xffava"}'),
    "JSON with a comment": raw("config.json", b'{"model_type": "llava" /* auto_map */}'),
    "two values": raw("config.json", b'{"model_type": "llava"}{"auto_map": 1}'),
    "nested too deeply": raw("other.json", nested(200_000)),
    "a number of ten thousand digits": raw("other.json", b'{"a": ' + b"9" * 10_000 + b"}"),
    "larger than any vocabulary": raw("other.json", b'"' + b"a" * (1 << 26) + b'"'),
    "a pickle as JSON": put("special_tokens_map.json", pickled),
    "a kernel of the hub": says("config.json", {"attn_implementation": "evil/kernel"}),
    "a kernel with a revision": says("config.json", {"_attn_implementation": "evil/kernel@main:run"}),
    "a kernel below a section": says("config.json", {"text_config": {"_attn_implementation_internal": "evil/kernel"}}),
    "a kernel by section": says("config.json", {"attn_implementation": {"text_config": "evil/kernel"}}),
    "experts of the hub": says("config.json", {"experts_implementation": "evil/kernel"}),
    "an adapter": says("adapter_config.json", {"base_model_name_or_path": "evil/base", "peft_type": "LORA"}),
    "an adapter's library": says("inner/adapter.json", {"auto_mapping": {"parent_library": "evil", "base_model_class": "Evil"}}),
    "weights of another name": both(says("config.json", {"transformers_weights": "notes.txt"}), put("notes.txt", pickled)),
    "a shard that is a text": says("model.safetensors.index.json", {"weight_map": {"w": "merges.txt"}}),
    "a shard elsewhere": says("model.safetensors.index.json", {"weight_map": {"w": "../evil.safetensors"}}),
    "a shard at the root": says("model.safetensors.index.json", {"weight_map": {"w": "/tmp/evil.safetensors"}}),
    "a shard that is a list": says("model.safetensors.index.json", {"weight_map": ["evil.bin"]}),
    "a vocabulary elsewhere": says("tokenizer_config.json", {"vocab_file": "/etc/passwd"}),
    "versions elsewhere": says("tokenizer_config.json", {"fast_tokenizer_files": ["../../tokenizer.4.0.json"]}),
}  # fmt: skip
DRESSED = {
    "a pickle as a SentencePiece model": put("tokenizer.model", pickled),
    "an old pickle as a SentencePiece model": put("tokenizer.model", lambda canary: pickled(canary, 0)),
    "an archive as a SentencePiece model": put("tokenizer.model", torch_archive),
    "a pickle as a text": put("vocab.txt", pickled),
    "an old pickle as a text": put("vocab.txt", lambda canary: pickled(canary, 0)),
    "a tape archive as a text": put("merges.txt", tar_archive),
    "a newer pickle as a note": put("README.md", lambda canary: pickled(canary, 5)),
    "an archive as a template": put("chat_template.jinja", torch_archive),
    "a program as a template": put("additional_chat_templates/tool.jinja", lambda canary: b"\x7fELF\x02\x01\x01" + bytes(32)),
    "a pickle as attributes": put(".gitattributes", pickled),
}
LINKS = {
    "weights elsewhere": linked("model.safetensors", "{out}/model.safetensors"),
    "weights that are a pickle elsewhere": linked("model-00002.safetensors", "{out}/evil.bin"),
    "a configuration elsewhere": linked("config.json", "{out}/config.json"),
    "a folder elsewhere": linked("qformer_tokenizer", "{out}", directory=True),
    "a folder within": linked("inner", "../{folder}", directory=True),
    "a device": linked("generation_config.json", "/dev/zero"),
    "the system": linked("vocab.txt", "/etc/passwd"),
    "nothing": linked("vocab.txt", "nowhere.txt"),
    "itself": linked("vocab.txt", "vocab.txt"),
    "a pipe": pipe,
}
DISGUISES: dict[str, Disguise] = {
    **{f"weights: {name}": put("model.safetensors", content) for name, content in BAD_WEIGHTS.items()},
    **{f"file: {name}": put(name, content) for name, content in BAD_FILES.items()},
    **{f"json: {name}": change for name, change in CODE_IN_JSON.items()},
    **{f"dressed: {name}": change for name, change in DRESSED.items()},
    **{f"link: {name}": change for name, change in LINKS.items()},
}
HARMLESS: dict[str, Disguise] = {  # what looks odd and is published all the same
    "as it is": lambda folder, canary: None,
    "a card, a licence, attributes": both(
        raw("README.md", "# Très bien\nauto_map\n".encode()), raw("LICENSE.txt", b"MIT"), raw(".gitattributes", b"*.bin lfs")
    ),
    "a SentencePiece model": raw("tokenizer.model", b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02\xff\xfe"),
    "a vocabulary of bytes": raw("tokenizer.model", b"IQ== 0\nIg== 1\n"),
    "words that begin as opcodes do": raw("vocab.txt", b"cat\ndog\nRat\n.\n"),
    "kernels by word": says("config.json", {"attn_implementation": "flash_attention_2", "_attn_implementation_autoset": True}),
    "our own kind as published": says("config.json", {"model_type": "mc-llava", "auto_map": CLASS}),
    "shards": both(
        says("model.safetensors.index.json", {"metadata": {}, "weight_map": {"w": "model-00001-of-00001.safetensors"}}),
        raw("model-00001-of-00001.safetensors", safetensors(TENSOR)),
    ),
    "a padded header": raw("model.safetensors", safetensors(json.dumps(TENSOR).encode() + b"    ")),
    "an empty tensor": raw(
        "model.safetensors", safetensors({"e": {"dtype": "I64", "shape": [0, 3], "data_offsets": [0, 0]}}, b"")
    ),
    "a link within": lambda folder, canary: (folder / "again.txt").symlink_to("merges.txt"),
    "a large number": says("tokenizer_config.json", {"model_max_length": 10**30}),
}  # fmt: skip


@dataclass
class Sweep:
    """What became of all disguises: refused with which message, let through, and canaries that were found."""

    refused: dict[str, str] = field(default_factory=dict)
    let_through: list[str] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)


def sweep(root: Path, disguises: dict[str, Disguise]) -> Sweep:
    """Show every folder to the gate."""
    result = Sweep()
    for number, (name, change) in enumerate(disguises.items()):
        folder, canary = harmless(root / f"model{number}"), root / f"canary{number}"
        change(folder, canary)
        try:
            model_folder(str(folder))
            result.let_through.append(name)
        except ModelRefused as refusal:
            result.refused[name] = str(refusal)
        if canary.exists():
            result.executed.append(name)
    return result
