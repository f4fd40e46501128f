"""Forecasts against what came: `python -m benchmarks.plan [--runs 10]`.

Runs of the embedded model over synthetic pictures, which differ in rows, picture sizes, method, batch and workers. Each is
foretold by `fovea plan` and then done with `run.plan`; its metrics.json says whether the time lay in the interval. Bars: in
at least 8 of 10, and the middle of the errors of the likely value, for runs of 20 s and more, at most 15 %. Last line: the
figures; `middle_off` below 0 is foretold too short.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from ray_pipeline.synthesis.archive import entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases

BAR = 0.8
OFF_BAR, LONG_S = 0.15, 20.0
MEGAPIXELS = ((0.3, 0.6), (0.5, 2.0))
KINDS = (  # rows, which sizes, workers, settings
    (150, 0, 1, ("refine.method=none",)),
    (100, 0, 1, ("refine.method=rel_att",)),
    (100, 1, 2, ("refine.method=rel_att", "refine.gate=1.0")),
    (60, 0, 1, ("refine.method=grad_att", "run.batch=8")),
    (120, 1, 2, ("refine.method=none", "run.batch=1", "run.part_rows=16")),
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args(argv).runs
    found = []
    with tempfile.TemporaryDirectory() as name:
        for k in range(runs):
            found.append(_one(Path(name) / str(k), k))
            print(_line(found[-1]), flush=True)
    inside = sum(bool(one["inside"]) for one in found)
    offs = [_off(one) for one in found if one["actual_wall_s"] >= LONG_S]
    middle = median(map(abs, offs)) if offs else None
    figures = {"runs": runs, "inside": inside, "worst": max(map(_off, found), key=abs), "long": len(offs)}
    figures |= {"middle_off": median(offs) if offs else None, "middle_abs_off": middle}
    print(json.dumps({name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}))
    return 0 if inside >= BAR * runs and (middle is None or middle <= OFF_BAR) else 1


def _one(folder: Path, number: int) -> dict[str, Any]:
    rows, sizes, workers, settings = KINDS[number % len(KINDS)]
    scenes = cases("evaluation", "small", rows + number, MEGAPIXELS[sizes])
    manifest = write_archive(folder, map(entry_of, scenes))
    common = ["--manifest", str(manifest), "--output", str(folder / "out"), "--actors", str(workers)]
    common += [part for one in settings for part in ("--set", one)]
    _run("jobs.plan", *common, "--to", str(folder / "plan.json"))
    _run("jobs.answer", *common, "--set", f"run.plan={folder / 'plan.json'}")
    became: dict[str, Any] = json.loads((folder / "out" / "metrics.json").read_text())["plan"]
    if not became["comparable"]:
        raise RuntimeError(f"planned {became['planned_rows']} rows, done {became['actual_rows']}")
    return became | {"settings": ", ".join(settings), "workers": workers}


def _run(module: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stderr[-1000:]}")


def _off(one: dict[str, Any]) -> float:
    """How far the likely value lies from what came, as a share of that."""
    return float(one["planned_wall_s"]["likely"]) / float(one["actual_wall_s"]) - 1


def _line(one: dict[str, Any]) -> str:
    planned = one["planned_wall_s"]
    told = f"{planned['likely']:6.1f} s ({planned['low']:.1f} to {planned['high']:.1f})"
    took = f"took {one['actual_wall_s']:6.1f} s, {'inside' if one['inside'] else 'OUTSIDE'}"
    return f"{one['actual_rows']:4d} rows, {one['workers']} workers: foretold {told}, {took}; {one['settings']}"


if __name__ == "__main__":
    sys.exit(main())
