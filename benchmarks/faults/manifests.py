"""Hostile and damaged manifests: what gets through, what it costs, and how long a sound one of a million rows takes.

python -m benchmarks.faults.manifests
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.faults.figures import Figure, Figures, table
from tests.faults.hostile_manifests import damaged_manifests, hostile_manifests
from tests.faults.manifest_probe import opened_apart

DAMAGED, SEED, ROWS, GROUP_ROWS = 3000, 20261121, 1_000_000, 100_000
TIMEOUT_S = 900
SECONDS_OF_REFUSAL, SECONDS_OF_A_MILLION, GIB = 10.0, 60.0, 1 << 30


def measure() -> Figures:
    """Each kind in a process of its own, so that a death is counted and its memory is its own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        return [*_hostile(home), *_damaged(home), *_large(home)]


def _hostile(home: Path) -> Figures:
    folder, canary = home / "hostile", home / "canary"
    made = list(hostile_manifests(canary))
    expected = _written(folder, [one.data for one in made])
    verdicts = opened_apart(folder, TIMEOUT_S)
    given = {name: refusal for name, refusal, _, _ in verdicts[1:]}
    undetected = sum(one.refused and given.get(name) is None for name, one in zip(expected, made, strict=True))
    accused = sum(not one.refused and given.get(name, "") is not None for name, one in zip(expected, made, strict=True))
    return [
        Figure("canaries made by hostile manifests", canary.exists(), 0, len(made)),
        Figure("hostile manifests not refused", undetected, 0, sum(one.refused for one in made)),
        Figure("odd but sound manifests refused", accused, 0, sum(not one.refused for one in made)),
        Figure("hostile manifests that ended the process", len(made) + 1 - len(verdicts), 0, len(made)),
        Figure("slowest refusal", max(verdict[2] for verdict in verdicts), SECONDS_OF_REFUSAL, len(made), unit="s"),
        Figure("memory over the start", (verdicts[-1][3] - verdicts[0][3]) / GIB, 0.5, len(made), unit="GiB"),
    ]


def _damaged(home: Path) -> Figures:
    folder = home / "damaged"
    expected = _written(folder, damaged_manifests(SEED, DAMAGED))
    verdicts = opened_apart(folder, TIMEOUT_S)
    return [
        Figure("damaged manifests without a verdict", len(expected) + 1 - len(verdicts), 0, DAMAGED),
        Figure("damaged manifests refused", sum(verdict[1] is not None for verdict in verdicts) / DAMAGED, 0.5, DAMAGED, False),
    ]


def _large(home: Path) -> Figures:
    folder = home / "large"
    folder.mkdir()
    schema = pa.schema([(name, pa.string()) for name in ("id", "image_uri", "question")] + [("extra", pa.int32())])
    with pq.ParquetWriter(folder / "large.parquet", schema) as writer:
        for first in range(0, ROWS, GROUP_ROWS):
            numbers = range(first, first + GROUP_ROWS)
            ids, addresses = [f"row-{number:08d}" for number in numbers], [f"scans/{number}.png" for number in numbers]
            columns = [ids, addresses, ["what does the sign say?"] * GROUP_ROWS, list(numbers)]
            writer.write_table(pa.table(columns, schema=schema))
    start, verdict = opened_apart(folder, TIMEOUT_S)
    return [
        Figure("a million sound rows refused", verdict[1] is not None, 0, 1),
        Figure("verdict on a million rows", verdict[2], SECONDS_OF_A_MILLION, ROWS, unit="s"),
        Figure("memory for a million rows", (verdict[3] - start[3]) / GIB, 0.5, ROWS, unit="GiB"),
    ]


def _written(folder: Path, files: Iterable[bytes]) -> list[str]:
    """Names without ending, in order."""
    folder.mkdir()
    names = []
    for number, data in enumerate(files):
        names.append(f"{number:05d}")
        (folder / f"{names[-1]}.parquet").write_bytes(data)
    return names


if __name__ == "__main__":
    print(table("Hostile and damaged manifests", measure()))
