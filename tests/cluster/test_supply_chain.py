"""What is installed beside the project: nothing that is not locked, under licences that let anybody use the whole."""

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parents[2] / "requirements.lock"
PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-0",
    "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip
OLD_NAMES = {  # as classifiers and free texts call them
    "3-Clause BSD License": "BSD-3-Clause", "Apache 2.0": "Apache-2.0", "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0", "BSD License": "BSD-3-Clause", "ISC License (ISCL)": "ISC", "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "Python Software Foundation License": "PSF-2.0",
}  # fmt: skip
# Whose metadata have no short name: what their licence files say, read by a person, and words by which a change would show.
IN_FILES = {
    "faster-coco-eval": ("Apache-2.0", ["Apache License"]),
    # PDFium's own parts (AGG, FreeType, ICU, libjpeg-turbo, ...) have permissive ones each, which come with it.
    "pypdfium2": ("BSD-3-Clause OR Apache-2.0", ["Apache License", "Redistribution and use in source and binary forms"]),
}
CUDA = re.compile(
    r"nvidia-|cuda-|triton$"
)  # come with GPU builds of torch, under terms of NVIDIA's own; not part of a CPU install


def needed() -> dict[str, metadata.Distribution]:
    """The project's installed dependencies and theirs, without what is for development."""
    found: dict[str, metadata.Distribution] = {}
    asked: set[tuple[str, str]] = set()
    waiting = [("fovea", "")]
    while waiting:
        one = waiting.pop()
        if one in asked:
            continue
        asked.add(one)
        name, extra = one
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another kind of machine
            continue
        for line in found[name].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(requirement.name), more) for more in ("", *requirement.extras)]
    return {name: one for name, one in found.items() if name != "fovea" and not CUDA.match(name)}


def licences(one: metadata.Distribution) -> Iterator[str]:
    """By their short names, as far as they have one."""
    known = one.metadata.get("License-Expression")
    read, words = IN_FILES.get(canonicalize_name(one.name), (None, []))
    if read and all(any(word in text for text in licence_files(one)) for word in words):
        known = read
    classifiers = [line.split("::")[-1].strip() for line in one.metadata.get_all("Classifier", []) if line.startswith("License")]
    for text in [known] if known else classifiers or [one.metadata.get("License") or "none"]:
        for part in re.split(r" AND | OR ", text):
            short = part.strip("()").split(" WITH ")[0] if known else part
            yield OLD_NAMES.get(short, short)


def licence_files(one: metadata.Distribution) -> list[str]:
    """Their texts, as installed."""
    return [
        file.read_binary().decode(errors="replace")
        for file in one.files or ()
        if ".dist-info" in file.parts[0] and "licen" in str(file).lower()
    ]


def test_all_that_is_needed_is_locked_at_its_version() -> None:
    locked = {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", LOCK.read_text(), re.MULTILINE)
    }
    found = {name: one.version.split("+")[0] for name, one in needed().items()}
    assert len(found) > 60 and {name: version for name, version in found.items() if locked.get(name) != version} == {}


def test_licences_are_permissive() -> None:
    other = {name: left for name, one in needed().items() if (left := set(licences(one)) - PERMISSIVE)}
    assert other == {}
