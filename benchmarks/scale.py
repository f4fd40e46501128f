"""How it grows: `python -m benchmarks.scale [--rows 1000000] [--planned 10000000] [--actors 1 --actors 2 ...]`.

Tiny rows with a model that takes no time: rows a second, and the driver's memory from a tenth of the run to its end (bar:
less than 200 MB more, and flat). A manifest of many rows, opened and cut into parts (bar: 60 s). Workers with a model that
sleeps 50 ms a row, side by side, in the middle of the run (bar: 0.95 of the single worker's pace times their number; each
takes some 2 ms of processor time a row besides, so it holds as long as there are cores). Last line: the figures.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.pipeline_run import run
from ray_pipeline.intake.manifest import cut_parts, open_manifest
from tests.faults.small_archive import SETTINGS, write_small_archive

JOB = "tests.faults.hash_job"
SLEEP_S, ROWS_A_WORKER = 0.05, 800
MB = 2**20


def many_rows(folder: Path, rows: int) -> dict[str, float]:
    """Throughput and the driver's memory."""
    manifest = write_small_archive(folder, rows)
    settings = [*SETTINGS, "run.batch=256", f"run.part_rows={max(256, min(10_000, rows // 100))}"]
    ran = run(JOB, manifest, folder / "out", ["--actors", "2"], settings)
    late = ran.driver_bytes[len(ran.driver_bytes) // 10 :]
    growth = (max(late) - late[0]) / MB
    half = len(late) // 2
    drift = (median(late[half:]) - median(late[:half])) / MB if half else 0.0
    print(f"{rows} rows: {ran.rows_per_s:.0f} rows/s, driver {late[0] / MB:.0f} MB and {growth:+.0f} MB after that", flush=True)
    return {"rows": rows, "rows_per_s": ran.rows_per_s, "driver_growth_mb": growth, "driver_drift_mb": drift}


def planned(folder: Path, rows: int) -> float:
    """Seconds to check a manifest of so many rows and to cut it into parts."""
    folder.mkdir(parents=True)
    with pq.ParquetWriter(
        folder / "m.parquet", pa.schema([(name, pa.string()) for name in ("id", "image_uri", "question")])
    ) as out:
        for start in range(0, rows, 500_000):
            ids = np.char.mod("row-%d", np.arange(start, min(start + 500_000, rows)))
            same = pa.array(["q"] * len(ids))
            out.write_table(pa.table({"id": ids.astype(object), "image_uri": ids.astype(object), "question": same}))
    started = time.perf_counter()
    opened = open_manifest(str(folder / "m.parquet"), None, ("question",), ())
    parts = cut_parts(opened.rows, 1000)
    seconds = time.perf_counter() - started
    print(f"{opened.rows} rows planned as {len(parts)} parts in {seconds:.1f} s", flush=True)
    return seconds


def scaling(folder: Path, actors: list[int]) -> dict[int, float]:
    """Share of the single worker's pace that each of so many workers keeps."""
    rates = {}
    for count in actors:
        manifest = write_small_archive(folder / str(count), ROWS_A_WORKER * count)
        settings = [*SETTINGS, "run.batch=16", "run.part_rows=32"]
        ran = run(JOB, manifest, folder / str(count) / "out", ["--actors", str(count)], settings, HASH_MODEL_DELAY_S=str(SLEEP_S))
        rates[count] = ran.steady_rows_per_s() / count
        share = rates[count] / rates[actors[0]]
        print(f"{count} workers: {count * rates[count]:.2f} rows/s, {share:.3f} of one's pace each", flush=True)
    return {count: rate / rates[actors[0]] for count, rate in rates.items()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="tiny rows with a model of 0 ms")
    parser.add_argument("--planned", type=int, default=10_000_000, help="rows of the manifest that is only planned")
    parser.add_argument("--actors", type=int, action="append", help="numbers of workers; 1, 2, 4 and 8 by default")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        plan_s = planned(Path(name) / "planned", options.planned)
        pace = scaling(Path(name) / "scaling", options.actors or [1, 2, 4, 8])
        many = many_rows(Path(name) / "many", options.rows)
    worst = min(pace.values())
    held = plan_s < 60 and worst >= 0.95 and many["driver_growth_mb"] < 200
    print(json.dumps({"plan_s": round(plan_s, 1), "worst_pace": round(worst, 3)} | {k: round(v, 1) for k, v in many.items()}))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
