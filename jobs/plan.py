"""Foretell a run: the same checks, then a few rows for real, and what all of them will take. Results are not written.

Example:
  fovea plan --manifest archive/manifest.parquet --output results --actors 4 --price 2.50 --to plan.json

A run with `--set run.plan=plan.json` notes in its metrics.json what became of the forecast.
Exit codes: 0 foretold, 2 refused, as the run would be, 3 the sampled rows could not be worked on.
"""

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.options import RunParser, SettingsRefused, add_run_options, resolve
from jobs.row_command import needs
from jobs.stopping import stoppable

if TYPE_CHECKING:
    from jobs.run import Prepared
    from ray_pipeline.forecast import Forecast
    from schemas.manifest import ManifestRow

FORETOLD, REFUSED, FAILED = 0, 2, 3
MOST_WORKERS = 8  # tried out side by side; more would not tell more about how workers slow each other down
FEWEST_BLOCKS = 4  # of which the first only warms up


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return stoppable(lambda: _plan(argv), ends_process=argv is None)


def _plan(argv: list[str] | None) -> int:
    options = _parser().parse_args(argv)
    from jobs.run import RunRefused, prepare  # takes seconds, in which signals must be heard already
    from ray_pipeline.pipeline import RunBroken

    try:
        price, sample, target = _price(options.price), _sample(options.sample), _target(options.to)
        settings = resolve(options, os.environ, options.task)
        prepared = prepare(settings, needs(settings), retry_failed=options.retry_failed)
    except (SettingsRefused, RunRefused) as refusal:
        print(f"fovea plan: {refusal}", file=sys.stderr)
        return REFUSED
    todo = sum(part.rows for part in prepared.missing + prepared.again)
    print(
        f"{prepared.manifest.rows} rows in {len(prepared.parts)} parts, {todo} rows to do, model {prepared.settings.model.name}"
    )
    if not todo:
        return FORETOLD
    try:
        found = _foretold(prepared, todo, sample, price)
    except RunBroken as broken:
        print(f"fovea plan: the sampled rows could not be worked on: {broken}", file=sys.stderr)
        return FAILED
    _print(found)
    if target is not None:
        planned = found.as_json() | {"manifest_sha256": prepared.manifest.digest}
        target.write_text(json.dumps(planned, indent=1, sort_keys=True) + "\n")
    return FORETOLD


def _parser() -> RunParser:
    parser = RunParser(prog="fovea plan", description=__doc__)
    add_run_options(parser)
    parser.add_argument(
        "--task", choices=("answer", "ocr", "label"), default="answer", help="the command to foretell (default answer)"
    )
    parser.add_argument("--sample", metavar="N", default="48", help="rows each worker tries out (default 48)")
    parser.add_argument("--price", metavar="X", help="price of one worker's hour, in any currency")
    parser.add_argument("--to", metavar="FILE", help="write the forecast as JSON")
    return parser


def _price(text: str | None) -> float | None:
    try:
        price = None if text is None else float(text)
    except ValueError:
        price = -1.0
    if price is not None and not 0 <= price < float("inf"):
        raise SettingsRefused(f"--price {text}: expected a number, 0 or more, for one worker's hour")
    return price


def _sample(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise SettingsRefused(f"--sample {text}: expected a whole number of rows, 1 or more")
    return int(text)


def _target(name: str | None) -> Path | None:
    if name is None:
        return None
    target = Path(name)
    if target.exists() or not target.absolute().parent.is_dir():
        raise SettingsRefused(f"--to {name}: expected a new file in a folder that is there")
    return target


def _foretold(prepared: "Prepared", todo: int, sample: int, price: float | None) -> "Forecast":
    from jobs.run import ray_session
    from ray_pipeline.forecast import Work, forecast, warming_s
    from ray_pipeline.pipeline import run_nothing, run_trials

    settings = prepared.settings
    parts = len(prepared.missing) + len(prepared.again)
    workers = min(settings.run.actors, parts, MOST_WORKERS)
    samples = [_blocks(prepared, sample, settings.run.seed + k) for k in range(workers)]
    began_s = time.monotonic()
    with ray_session(settings):
        opened_s = time.monotonic()
        pass_s = run_nothing(prepared.manifest, prepared.order, workers)  # first, as in the run: no process is there yet
        trials = run_trials(prepared.order, samples)
        closing_s = time.monotonic()
    session_s = opened_s - began_s + time.monotonic() - closing_s
    start_s = session_s + pass_s + warming_s(trials)
    return forecast(trials, start_s, Work(todo, settings.run.part_rows, min(settings.run.actors, parts)), price)


def _blocks(prepared: "Prepared", sample: int, seed: int) -> "list[list[ManifestRow]]":
    """Rows drawn from all of the manifest, in blocks as the model gets them; smaller ones where there are few rows."""
    from ray_pipeline.intake.manifest import read_rows

    total = prepared.manifest.rows
    numbers = sorted(random.Random(seed).sample(range(total), min(sample, total)))
    rows = [row for number in numbers for row in read_rows(prepared.manifest, number, 1)]
    random.Random(seed).shuffle(rows)  # neighbours in a manifest are often alike; blocks shall not be
    size = max(1, min(prepared.settings.run.batch, len(rows) // FEWEST_BLOCKS))
    blocks = [rows[start : start + size] for start in range(0, len(rows), size)]
    return blocks if len(blocks) > 1 else blocks * 2  # a single row warms up and is timed


def _print(found: "Forecast") -> None:
    statuses = ", ".join(f"{name} {count}" for name, count in found.statuses.items())
    print(f"sampled {found.sampled} pages: {statuses}; {found.pages:.2f} pages a row")
    print(f"pictures: {found.median_megapixels:.2f} megapixels in the middle, {found.largest_megapixels:.2f} the largest")
    views, tokens = found.views * found.pages * found.rows, found.visual_tokens * found.pages * found.rows
    print(f"views: {found.views:.2f} a page, {views:,.0f} in all; visual tokens: {found.visual_tokens:.0f} a page, {tokens:,.0f}")
    row, hours = found.row_s.times(1000), found.wall_s.times(1 / 3600)
    print(f"a row takes a worker {row.likely:.0f} ms ({row.low:.0f} to {row.high:.0f}), the start {found.start_s:.0f} s")
    money = ""
    if found.money is not None:
        money = f", costs {found.money.likely:.2f} ({found.money.low:.2f} to {found.money.high:.2f})"
    print(f"{found.rows} rows take {hours.likely:.3g} h ({hours.low:.3g} to {hours.high:.3g}){money}")


if __name__ == "__main__":
    sys.exit(main())
