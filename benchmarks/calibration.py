"""What calibration is worth: `python -m benchmarks.calibration [--count 250]`.

Made pictures of small, medium and large text, as many each, with questions that read and questions that ask where a text is,
through `fovea calibrate` with the embedded model. On the half of the pictures that nothing was learned from: the expected
calibration error of answers and boxes (10 bins of equal width) and the Attention-IoU regressor's correlation with the truth,
over all candidates (Pearson) and within questions (Spearman). Ends with one line of figures; exit 1 where a bar is missed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from jobs import calibrate
from ray_pipeline.synthesis.archive import Entry, entry_of, write_archive
from ray_pipeline.synthesis.evaluation import BUCKETS, cases
from schemas.profile import Profile

TASKS = ("read", "where_text")
MEGAPIXELS = (0.2, 0.5)  # the model sees 96 x 96 px of a picture, whatever its size
FIRST = 700_000  # where the seeds start within the split
MOST_ERROR, LEAST_PEARSON = 0.05, 0.67


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=250, help="pictures per size and task")
    parser.add_argument("--sample", type=int, default=48, help="rows to try layers and strategies on")
    parser.add_argument("--split", default="evaluation", choices=("evaluation", "validation"))
    options = parser.parse_args(argv)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="calibration-") as name:
        folder = Path(name)
        manifest = write_archive(folder / "archive", entries(options.split, options.count))
        print(f"{options.count * len(BUCKETS) * len(TASKS)} pictures made in {time.monotonic() - started:.0f} s", flush=True)
        asked = ["--manifest", str(manifest), "--output", str(folder / "made"), "--sample", str(options.sample)]
        if code := calibrate.main(asked):
            return code
        profile = Profile.model_validate_json((folder / "made" / "profile.json").read_bytes())
    figures = figures_of(profile) | {"seconds": time.monotonic() - started}
    missed = [name for name, (bar, holds) in bars(figures).items() if not holds]
    for name, (bar, holds) in bars(figures).items():
        print(f"{'ok    ' if holds else 'MISSED'} {name:34s} {figures[name]:.3f}  {bar}")
    print(json.dumps({name: None if value is None else round(value, 4) for name, value in figures.items()}))
    return 1 if missed else 0


def entries(split: str, count: int) -> Iterator[Entry]:
    """Each picture with one question; tasks and sizes have seeds of their own."""
    for number, task in enumerate(TASKS):
        for bucket in BUCKETS:
            yield from map(entry_of, cases(split, bucket, count, MEGAPIXELS, task, FIRST + number * count))


def figures_of(profile: Profile) -> dict[str, float]:
    """Of held-back pictures; what is missing was left out by calibration, and stands at its worst."""
    found: dict[str, float] = {}
    for name in ("answer", "box", "baseline"):
        known = profile.confidences.get(name)
        found |= {f"{name}, error before": known.before if known else 1.0, f"{name}, error after": known.after if known else 1.0}
        found[f"{name}, rows held back"] = known.held_out if known else 0
    regressor = profile.regressor
    found["regressor, Pearson r"] = regressor.pearson if regressor else 0.0
    found["regressor, Spearman within"] = regressor.within_query if regressor else 0.0
    found["regressor, questions held back"] = regressor.held_out if regressor else 0
    if profile.strategy:
        found |= {"strategy, right": profile.strategy.accuracy, "strategy, seconds a row": profile.strategy.row_s}
    return found


def bars(figures: dict[str, float]) -> dict[str, tuple[str, bool]]:
    """What a figure should be, and whether it is."""
    errors = ("answer, error after", "box, error after")
    held = {name: (f"<= {MOST_ERROR}", figures[name] <= MOST_ERROR) for name in errors}
    pearson = figures["regressor, Pearson r"]
    return held | {"regressor, Pearson r": (f">= {LEAST_PEARSON}", pearson >= LEAST_PEARSON)}


if __name__ == "__main__":
    sys.exit(main())
