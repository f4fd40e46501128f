"""Forecasts from trials made by hand: the arithmetic, what widens the interval, and what became of a forecast."""

import json
import math
from typing import Any

import pytest

from ray_pipeline.forecast import Interval, Work, compared, forecast, warming_s
from ray_pipeline.trial import Block, Trial


def row(number: int, status: str = "ok", views: int = 2) -> dict[str, Any]:
    size = {"image_width": 2000, "image_height": 1000} if status == "ok" else {"image_width": None, "image_height": None}
    return {
        "id": f"r{number}", "status": status, "views": views, "visual_tokens": 100 * views,
        "ok": status == "ok", **size,
    }  # fmt: skip


def trial(paces: list[float], rows_a_block: int = 4, results: tuple[dict[str, Any], ...] = (row(0), row(1))) -> Trial:
    blocks = tuple(Block(rows_a_block, rows_a_block, pace * rows_a_block) for pace in paces)
    return Trial(5.0, 1.0, 2, sum(block.model_s for block in blocks), blocks, results)


@pytest.mark.parametrize(
    ("rows", "part_rows", "actors", "busiest"),
    [(1000, 10, 4, 250), (1001, 10, 4, 260), (5, 10, 4, 5), (100, 64, 2, 64), (129, 64, 2, 128), (64, 64, 8, 64)],
)
def test_the_busiest_worker_has_whole_parts(rows: int, part_rows: int, actors: int, busiest: int) -> None:
    assert Work(rows, part_rows, actors).busiest_rows == busiest


def test_time_is_the_start_and_the_busiest_worker_at_the_pace_of_the_trials() -> None:
    found = forecast([trial([0.5] * 5), trial([0.7] * 5)], 10.0, Work(1000, 10, 2), price_per_hour=3.6)
    assert found.row_s.likely == pytest.approx(0.6)
    assert found.wall_s.likely == pytest.approx(10 + 500 * 0.6)
    assert found.wall_s.low == pytest.approx(6 + 500 * 0.6 * 0.85) and found.wall_s.high == pytest.approx(19 + 500 * 0.6 * 1.15)
    assert found.money is not None and found.money.likely == pytest.approx(0.62)  # 310 s of two workers at 0.001 a second


def test_a_worker_is_warm_once_it_is_loaded_and_at_its_pace() -> None:
    """The first block of two rows took 1 s; at 0.3 s a row it would have been 0.6 s, at 0.6 s it is no slower than others."""
    assert warming_s([trial([0.3] * 3)]) == pytest.approx(5.4)
    assert warming_s([trial([0.6] * 3)]) == pytest.approx(5.0)
    slow = Trial(7.0, 4.0, 4, 3.6, (Block(4, 4, 1.2),) * 3, ())
    assert warming_s([trial([0.3] * 3), slow]) == pytest.approx(7.0 + 4.0 - 4 * 0.3)


@pytest.mark.parametrize(
    ("paces", "share"),
    [
        ([0.5, 0.5], 0.5),  # two blocks say nothing about each other
        ([0.5, 0.5, 0.5], 0.15),
        ([0.2, 0.5, 0.8], 2.92 * 0.3 / math.sqrt(3) / 0.5),  # Student's t with two degrees of freedom
    ],
)
def test_what_the_sample_leaves_open_widens_the_interval(paces: list[float], share: float) -> None:
    found = forecast([trial(paces)], 0.0, Work(100, 10, 1)).row_s
    assert found.high == pytest.approx(0.5 * (1 + share)) and found.low == pytest.approx(0.5 * max(0.0, 1 - share))


def test_pages_statuses_and_views_are_those_of_the_sample() -> None:
    results = (row(0), row(0), row(0), row(1, "fetch_not_found"), row(2, views=4))
    found = forecast([trial([0.1] * 3, results=results)], 1.0, Work(10, 5, 1))
    assert found.pages == pytest.approx(5 / 3) and found.sampled == 5
    assert found.statuses == {"fetch_not_found": 1, "ok": 4}
    assert found.views == pytest.approx(10 / 4) and found.visual_tokens == pytest.approx(250)
    assert found.median_megapixels == 2.0 and found.money is None


@pytest.mark.parametrize("trials", [[], [Trial(1.0, 1.0, 1, 1.0, (), ())]])
def test_nothing_is_foretold_from_nothing(trials: list[Trial]) -> None:
    with pytest.raises(ValueError, match="expected at least one"):
        forecast(trials, 0.0, Work(1, 1, 1))


@pytest.mark.parametrize(
    ("wall_s", "rows", "comparable", "inside"),
    [(310.0, 1000, True, True), (100.0, 1000, True, False), (9000.0, 1000, True, False), (310.0, 990, False, False)],
)
def test_what_became_of_it(wall_s: float, rows: int, comparable: bool, inside: bool) -> None:
    planned = json.loads(json.dumps(forecast([trial([0.6] * 5)], 10.0, Work(1000, 10, 2)).as_json()))
    found = compared(planned, wall_s, rows)
    assert (found["comparable"], found["inside"]) == (comparable, inside)
    assert found["actual_wall_s"] == wall_s and Interval(**found["planned_wall_s"]).likely == pytest.approx(310)
