"""Tampering with a finished output folder: one random change by somebody who can write there, and how to take it back."""

import random
from collections.abc import Callable
from pathlib import Path

Files = dict[str, bytes]


def contents(folder: Path) -> Files:
    """What counts as evidence: the results, index.json and run.json, by path relative to the folder."""
    paths = [folder / "index.json", folder / "run.json", *sorted((folder / "results").iterdir())]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def tampered(files: Files, chance: random.Random) -> tuple[str, Files]:
    """One change, in words, and the files after it; they differ in at least one byte or name."""
    kind = chance.choice(sorted(KINDS))
    changed = dict(files)
    said = KINDS[kind](changed, chance)
    if changed == files:  # two files of the same bytes were swapped
        return tampered(files, chance)
    return f"{kind} {said}", changed


def write(folder: Path, before: Files, after: Files) -> None:
    """Bring the folder from one state to the other, touching only what differs."""
    for name in before.keys() - after.keys():
        (folder / name).unlink()
    for name, data in after.items():
        if before.get(name) != data:
            (folder / name).write_bytes(data)


def _flip(files: Files, chance: random.Random) -> str:
    name = chance.choice(sorted(files))
    bit = chance.randrange(8 * len(files[name]))
    data = bytearray(files[name])
    data[bit // 8] ^= 1 << bit % 8
    files[name] = bytes(data)
    return f"bit {bit} of {name}"


def _delete(files: Files, chance: random.Random) -> str:
    name = chance.choice(sorted(files))
    del files[name]
    return name


def _add(files: Files, chance: random.Random) -> str:
    number = len(files) + chance.randrange(1000)
    name = chance.choice([f"part-{number:05d}.parquet", f"part-{number}.parquet.bak", f".hidden-{number}", f"{number}"])
    files[f"results/{name}"] = chance.choice([b"", chance.randbytes(100), *files.values()])
    return name


def _swap(files: Files, chance: random.Random) -> str:
    one, other = chance.sample(sorted(files), 2)
    files[one], files[other] = files[other], files[one]
    return f"{one} and {other}"


def _truncate(files: Files, chance: random.Random) -> str:
    name = chance.choice(sorted(files))
    kept = chance.randrange(len(files[name]))
    files[name] = files[name][:kept]
    return f"{name} to {kept} bytes"


def _grow(files: Files, chance: random.Random) -> str:
    name = chance.choice(sorted(files))
    files[name] += chance.randbytes(chance.randrange(1, 50))
    return name


def _rename(files: Files, chance: random.Random) -> str:
    name = chance.choice(sorted(files))
    new = chance.choice([f"{name}.old", name.replace(".", "_."), f"results/part-{chance.randrange(10**5):05d}.parquet"])
    files[new] = files.pop(name)
    return f"{name} to {new}"


KINDS: dict[str, Callable[[Files, random.Random], str]] = {
    "flip": _flip,
    "delete": _delete,
    "add": _add,
    "swap": _swap,
    "truncate": _truncate,
    "grow": _grow,
    "rename": _rename,
}
