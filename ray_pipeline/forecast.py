"""How long a run will take and what it will cost, from trials of a few rows; and what became of the forecast.

Time is a start and the rows of the busiest worker at the pace of the trials. The start is what a run does once, each measured:
opening and closing Ray, a pass of Ray Data over nothing, loading the model, and what the first rows take longer than others.
The interval covers both what the sample leaves open (Student's t over the timed blocks, 90 %) and how much a machine's pace
drifts in an hour, at least 15 %; with fewer than three blocks nothing is known about the first, and it is 50 %.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median, stdev
from typing import Any

from ray_pipeline.trial import Trial
from schemas.status import Status

DRIFT, UNKNOWN = 0.15, 0.5
START_LOW, START_HIGH, START_MORE_S = 0.6, 1.6, 3.0
# Two-sided 90 % quantiles of Student's t by degrees of freedom; beyond the table the normal one.
_T90 = {2: 2.92, 3: 2.35, 4: 2.13, 5: 2.02, 6: 1.94, 7: 1.89, 8: 1.86, 9: 1.83, 10: 1.81, 15: 1.75, 20: 1.72, 30: 1.70}


@dataclass(frozen=True)
class Work:
    """What a run has to do: manifest rows, cut into parts of `part_rows`, for so many workers."""

    rows: int
    part_rows: int
    actors: int

    @property
    def busiest_rows(self) -> int:
        """Rows of the worker that has most to do: parts are not divided."""
        parts = math.ceil(self.rows / self.part_rows)
        return min(self.rows, math.ceil(parts / self.actors) * self.part_rows)


@dataclass(frozen=True)
class Interval:
    """The likeliest value and a 90 % interval around it."""

    likely: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies inside."""
        return self.low <= value <= self.high

    def times(self, factor: float) -> "Interval":
        """The same in another unit."""
        return Interval(self.likely * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Forecast:
    """What is expected of a run. `pages` per manifest row, views and tokens per page that can be read."""

    rows: int
    wall_s: Interval
    row_s: Interval
    start_s: float
    pages: float
    views: float
    visual_tokens: float
    statuses: dict[str, int]
    sampled: int
    median_megapixels: float
    largest_megapixels: float
    money: Interval | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def forecast(trials: Sequence[Trial], start_s: float, work: Work, price_per_hour: float | None = None) -> Forecast:
    """What `work` will take; `price_per_hour` is for one worker's hour, in any currency.

    Raises:
        ValueError: no trial, or one without a timed block.
    """
    if not trials or not all(trial.blocks for trial in trials):
        raise ValueError(f"{len(trials)} trials, expected at least one, each with a timed block")
    row_s, rows = _row_s(trials), work.busiest_rows
    wall = Interval(
        start_s + rows * row_s.likely,
        START_LOW * start_s + rows * row_s.low,
        START_HIGH * start_s + START_MORE_S + rows * row_s.high,
    )
    results = [row for trial in trials for row in trial.results]
    read = [row for row in results if row["ok"]]
    sizes = [row["image_width"] * row["image_height"] / 1e6 for row in results if row["image_width"]]
    return Forecast(
        rows=work.rows,
        wall_s=wall,
        row_s=row_s,
        start_s=start_s,
        pages=len(results) / max(len({row["id"] for row in results}), 1),
        views=fmean(row["views"] or 0 for row in read) if read else 0.0,
        visual_tokens=fmean(row["visual_tokens"] or 0 for row in read) if read else 0.0,
        statuses=dict(sorted(Counter(str(Status(row["status"])) for row in results).items())),
        sampled=len(results),
        median_megapixels=median(sizes) if sizes else 0.0,
        largest_megapixels=max(sizes, default=0.0),
        money=None if price_per_hour is None else wall.times(work.actors * price_per_hour / 3600),
    )


def warming_s(trials: Sequence[Trial]) -> float:
    """Seconds of the slowest worker until it is at its pace: loading, and what its first block took longer than others."""
    pace_s = _row_s(trials).likely
    return max(trial.load_s + max(0.0, trial.warm_s - pace_s * trial.warm_rows) for trial in trials)


def _row_s(trials: Sequence[Trial]) -> Interval:
    """Seconds of one worker per manifest row."""
    likely = fmean(trial.work_s / sum(block.rows for block in trial.blocks) for trial in trials)
    paces = [block.model_s / block.rows for trial in trials for block in trial.blocks]
    share = UNKNOWN
    if len(paces) >= 3 and fmean(paces) > 0:
        share = max(DRIFT, _t90(len(paces) - 1) * stdev(paces) / math.sqrt(len(paces)) / fmean(paces))
    return Interval(likely, likely * max(0.0, 1 - share), likely * (1 + share))


def _t90(freedom: int) -> float:
    return _T90[max(known for known in _T90 if known <= freedom)]


def compared(planned: Mapping[str, Any], wall_s: float, rows: int) -> dict[str, Any]:
    """What became of a forecast (as `as_json` gave it); `comparable` only where the run did exactly what was planned."""
    wall = Interval(**planned["wall_s"])
    found = {"planned_wall_s": planned["wall_s"], "actual_wall_s": wall_s, "planned_rows": planned["rows"], "actual_rows": rows}
    same = planned["rows"] == rows
    return found | {"comparable": same, "inside": same and wall.holds(wall_s)}
