"""A manifest of many rows over few small pictures, for runs in which only the machinery matters."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PICTURES = 64
# No zoom, greedy: the digest model answers and is not asked where it looked.
SETTINGS = ("refine.method=none", "fetch.decode_timeout_s=20")


def write_small_archive(folder: Path, rows: int, poison: dict[int, str] | None = None) -> Path:
    """The manifest: row k asks question `row k` of picture k modulo 64; a poisoned row's question names its poison too."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(5)
    for k in range(PICTURES):
        Image.fromarray(noise.integers(0, 255, (12 + k % 7, 16 + k % 5, 3), np.uint8)).save(folder / f"p{k}.png")
    poison = poison or {}
    table = pa.table(
        {
            "id": [f"r{k}" for k in range(rows)],
            "image_uri": [f"p{k % PICTURES}.png" for k in range(rows)],
            "question": [f"row {k} {poison.get(k, '')}".strip() for k in range(rows)],
        }
    )
    manifest = folder / "manifest.parquet"
    pq.write_table(table, manifest)
    return manifest
