"""A thousand random changes to a finished output folder, and what the proof of an untouched one costs.

Seconds are those of one core, so that neighbours on the machine do not count.
"""

import random
import time
from pathlib import Path

import pyarrow as pa

from benchmarks.faults.figures import Figure, Figures
from ray_pipeline.delivery.audit import Expected, verify_output
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.formats.parquet import results_bytes
from ray_pipeline.delivery.index import build_index, write_index
from ray_pipeline.delivery.rows import PictureFacts, ok_row
from schemas.manifest import ManifestRow, Part
from schemas.result import Perception, Refinement
from tests.faults.delivery_runs import DIGEST, FACTS, IDS, RUN_FILE, drive, scratch_folder
from tests.faults.tampers import contents, tampered, write

TAMPERS = 1000
SIZES = {"rows of 60 kB": (4, 400, 60_000), "rows of 300 B": (4, 20_000, 300)}  # parts, rows of a part, characters of an answer


def measure() -> Figures:
    """Changes that were not found, false alarms, and seconds per GB of results."""
    with scratch_folder() as name:
        missed, alarms = _missed(Path(name))
    figures = [
        Figure("changes that were not found", missed, 0, TAMPERS),
        Figure("folders changed back that were not proven", alarms, 0, TAMPERS // 50),
    ]
    for what, (parts, rows, characters) in SIZES.items():
        with scratch_folder() as name:
            figures.append(Figure(f"seconds per GB, {what}", _seconds_per_gb(name, parts, rows, characters), 10, parts, unit="s"))
    return figures


def _missed(folder: Path) -> tuple[int, int]:
    drive(folder)
    output, chance = Output(str(folder / "out")), random.Random(2026)
    files, missed, alarms = contents(folder / "out"), 0, 0
    for trial in range(TAMPERS):
        _, changed = tampered(files, chance)
        write(folder / "out", files, changed)
        missed += not verify_output(output, Expected(DIGEST, iter(IDS)))
        write(folder / "out", changed, files)
        if trial % 50 == 0:
            alarms += bool(verify_output(output, Expected(DIGEST, iter(IDS))))
    return missed, alarms


def _seconds_per_gb(folder: str, parts: int, rows: int, characters: int) -> float:
    output, chance = Output(folder), random.Random(1)
    planned = [Part(number, number * rows, rows) for number in range(parts)]
    output.create("run.json", RUN_FILE)
    for part in planned:
        numbers = range(part.first_row, part.first_row + rows)
        output.create(
            f"results/{part.name}", results_bytes([_row(number, characters, chance) for number in numbers], pa.schema([]))
        )
    write_index(output, build_index(output, planned, DIGEST, FACTS))
    size = sum(len(output.read_result(part.name)) for part in planned)
    started = time.process_time()
    found = verify_output(output, Expected(DIGEST, (f"page-{number}" for number in range(parts * rows))))
    seconds = time.process_time() - started
    if found:
        raise RuntimeError(f"a sound folder was not proven: {found[0]}")
    return seconds / size * 1e9


def _row(number: int, characters: int, chance: random.Random) -> dict[str, object]:
    row = ManifestRow(number, f"page-{number}", f"{number}.png", None, "what is written here?")
    refinement = Refinement("rel-att", ((1, 2, 3, 4),), True, "larger")
    answer = chance.randbytes(characters // 2).hex()
    said = Perception(answer, 0.5, (1, 2, 3, 4), 0.25, None, None, refinement, (), 2, 196)
    return ok_row(row, PictureFacts(30, 20, chance.randbytes(32).hex()), said)
