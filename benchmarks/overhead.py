"""What safety costs: `python -m benchmarks.overhead [--rows 500] [--rounds 5]`.

The same pictures and questions with the embedded model: through the whole pipeline with one worker (fetching, decoding in a
child, the model in a process of its own, journal, commit), and in a bare loop in one process that opens each picture with
Pillow and keeps the answers. Both in blocks by turns; starting Ray and loading the model count on neither side. Bar: the
pipeline has at least 0.95 of the bare loop's throughput. Stage shares are printed, and a last line of figures.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.pipeline_run import Ran, run
from ray_pipeline.synthesis.archive import entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases

BAR = 0.95


def bare(manifest: Path) -> float:
    """Rows a second of the loop without any of it."""
    import numpy as np
    import pyarrow.parquet as pq
    from PIL import Image

    from ray_pipeline.actor import Actor, Asked
    from schemas.job import JobSettings
    from schemas.picture import Picture

    settings = JobSettings.model_validate({"manifest": str(manifest), "output": "nowhere"})
    actor, rows, size = Actor(settings), pq.read_table(manifest).to_pylist(), settings.run.batch
    answers, started = [], time.perf_counter()
    for start in range(0, len(rows), size):
        batch = {}
        for k, row in enumerate(rows[start : start + size]):
            with Image.open(manifest.parent / row["image_uri"]) as image:
                batch[k] = Asked(Picture(np.asarray(image.convert("RGB")), ""), row["question"])
        answers += list(actor.answer(batch).values())
    return len(answers) / (time.perf_counter() - started)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500, help="rows on either side, all blocks together")
    parser.add_argument("--rounds", type=int, default=5, help="blocks on either side")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.bare:
        print(bare(options.bare))
        return 0
    with tempfile.TemporaryDirectory() as name:
        pairs = [_round(Path(name) / str(k), k, options.rows // options.rounds) for k in range(options.rounds)]
    ratio = median(ran.rows_per_s / loop for ran, loop in pairs)
    _print_stages([ran for ran, _ in pairs])
    figures = {
        "rows": sum(ran.rows for ran, _ in pairs), "pipeline_rows_per_s": round(median(ran.rows_per_s for ran, _ in pairs), 3),
        "bare_rows_per_s": round(median(loop for _, loop in pairs), 3), "ratio": round(ratio, 3), "bar": BAR,
    }  # fmt: skip
    print(json.dumps(figures))
    return 0 if ratio >= BAR else 1


def _round(folder: Path, number: int, rows: int) -> tuple[Ran, float]:
    """One block on both sides, the first one by turns."""
    manifest = write_archive(folder, map(entry_of, cases("evaluation", "small", rows, first=number * rows)))
    sides = {}
    for side in ("pipeline", "bare") if number % 2 else ("bare", "pipeline"):
        if side == "bare":
            command = [sys.executable, "-m", "benchmarks.overhead", "--bare", str(manifest)]
            sides[side] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        else:
            ran = run("jobs.answer", manifest, folder / "out", [], [])
    print(f"block {number}: pipeline {ran.rows_per_s:.3f} rows/s, bare loop {sides['bare']:.3f} rows/s", flush=True)
    return ran, sides["bare"]


def _print_stages(runs: list[Ran]) -> None:
    parts = [part for ran in runs for part in ran.parts]
    whole = sum(part["seconds"] for part in parts)
    for stage in ("model", "waiting", "journal", "commit"):
        print(f"  {stage:8} {sum(part[f'{stage}_seconds'] for part in parts) / whole:6.1%} of the parts' time")
    print(f"  between parts {sum(ran.work_s for ran in runs) - whole:.2f} s of {sum(ran.work_s for ran in runs):.2f} s")


if __name__ == "__main__":
    sys.exit(main())
