"""Ids and addresses that would like to be names of files, a manifest that says them in every column, and what is written."""

import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ray_pipeline.intake.manifest import cut_parts, open_manifest, read_rows
from ray_pipeline.worker import Worker, WorkOrder
from schemas.job import JobSettings
from tests.faults.naughty_strings import FAMILIES
from tests.stand_ins.planted_model import load_planted

PART_ROWS, COPIED = 64, "n\u202e../x"
OWN = re.compile(r"out/(results/part-\d{5}\.parquet|run\.json|index\.json|metrics\.json)")
LOOK_ALIKE = [
    "\xe9.jpg", "e\u0301.jpg", "\u212a", "K", "k", "\uff2b", "\u0430bc", "abc", "ABC", "a\u200db", "ab", "stra\xdfe", "STRASSE",
    "\u0131", "i", "\ufb01le", "file",
]  # fmt: skip
IDS = [
    *FAMILIES["paths"], *FAMILIES["reserved"], *FAMILIES["formats"], *FAMILIES["templates"], *LOOK_ALIKE, "x" * 4096,
    "../" * 1365, "results/part-00000.parquet", "run.json", "index.json", ".staging/probe", "part-00001", "0", "00000", "/",
    "//", "\U0001f600" * 300,
]  # fmt: skip
ADDRESSES = [
    "../../../etc/hostname", "/etc/hostname", "..", ".", "out/run.json", "out/results/part-00000.parquet", "a.jpg/../../b",
    "./a.jpg", "a\x00.jpg", "s3://bucket//a/../b", "s3://bucket/../../a", "s3://bucket/a//b//c.png", "s3://bucket/..",
    "s3://../a", "file:///../../a", "file:///%2e%2e/%2e%2e/a", "https://h.example/../../a", "memory://../a", "CON", "NUL.jpg",
    "a:b.jpg", "~/a.jpg", "$HOME/a.jpg", "`id`.jpg", "x" * 4096, "\u202egpj.a", "a.jpg\n",
]  # fmt: skip


def files_below(root: Path) -> dict[str, tuple[int, int]]:
    """Every file, folder and link by relative name, with its size and time."""
    found = {}
    for place, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(place, name)
            state = path.lstat()
            found[str(path.relative_to(root))] = (
                state.st_size if path.is_file() else 0,
                state.st_mtime_ns if path.is_file() else 0,
            )
    return found


def usable_ids() -> list[str]:
    """Those that a manifest may hold; it refuses control characters, which is tested by itself."""
    return [name for name in dict.fromkeys(IDS) if name and not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", name)]


def written(folder: Path, ids: list[str], addresses: list[str]) -> JobSettings:
    """A manifest that says all of it in every column, and the settings of a run of it."""
    pixels = np.full((60, 80, 3), 70, np.uint8)
    pixels[20:40, 30:50] = (255, 0, 255)
    Image.fromarray(pixels).save(folder / "a.jpg")
    columns = {"id": ids, "image_uri": addresses, "question": [f"{name}?" for name in ids], COPIED: ids}
    pq.write_table(pa.table(columns), folder / "manifest.parquet")
    return JobSettings.model_validate(
        {
            "manifest": str(folder / "manifest.parquet"),
            "output": str(folder / "out"),
            "run": {"part_rows": PART_ROWS, "batch": 16},
            "passthrough": [COPIED],
            "fetch": {"schemes": ["file", "s3", "https", "memory"], "attempts": 1, "timeout_s": 5},
            "refine": {"method": "none"},
        }
    )


def parts_alone(settings: JobSettings) -> int:
    """What a worker does, here; how many files it must have made."""
    manifest = open_manifest(settings.manifest, None, ("question",), settings.passthrough)
    worker = Worker(WorkOrder(settings, manifest.base, manifest.remote, manifest.passthrough, load=load_planted))
    try:
        parts = cut_parts(manifest.rows, PART_ROWS)
        assert all(worker.run(part, read_rows(manifest, part.first_row, part.rows)).committed for part in parts)
    finally:
        worker.close()
    return len(parts)


def foreign_files(folder: Path, before: dict[str, tuple[int, int]]) -> list[str]:
    """What has changed or come into being below a folder and is none of a run's own files."""
    after = files_below(folder)
    changed = [name for name, state in before.items() if after.get(name) != state]
    made = [name for name in after if name not in before and not (folder / name).is_dir() and "/.staging/" not in name]
    return changed + [name for name in made if not OWN.fullmatch(name)]
