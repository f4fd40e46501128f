"""The figures above a report's rows: time per stage, forecast, reliability diagram; and the controls."""

import re
from typing import Any

import pytest

from ray_pipeline.delivery.report.controls import LAYERS, controls
from ray_pipeline.delivery.report.page import Report, report_page
from ray_pipeline.delivery.report.reliability_plot import MARGIN, SIDE, reliability_plot
from ray_pipeline.delivery.report.run_times import duration, forecast, number, pace, stage_table
from ray_pipeline.scoring.reliability import reliability
from tests.faults.page_elements import FULL, Elements


def part(rows: int, seconds: float, **stages: float) -> dict[str, Any]:
    return {"rows": rows, "seconds": seconds} | {f"{name}_seconds": value for name, value in stages.items()}


PARTS = [part(6, 7.0, model=4.0, waiting=1.5, journal=0.25, commit=0.25), part(4, 3.0, model=2.0, waiting=0.5)]
PLAN = {
    "planned_wall_s": {"likely": 90.0, "low": 60.0, "high": 120.0}, "actual_wall_s": 100.0, "comparable": True, "inside": True,
    "planned_rows": 10, "actual_rows": 10,
}  # fmt: skip


def test_stages_add_up_to_the_parts() -> None:
    table = stage_table({"parts": PARTS})
    assert table
    cells = [re.findall("<t[hd][^>]*>([^<]*)<", row) for row in re.findall("<tr>(.*?)</tr>", table)[1:]]
    assert [row[:3] for row in cells] == [
        ["waiting for pictures", "2.0", "200.0"], ["model", "6.0", "600.0"], ["journal", "0.2", "25.0"],
        ["commit", "0.2", "25.0"], ["everything else", "1.5", "150.0"],
    ]  # fmt: skip
    assert re.findall(r'value="([\d.]+)"', table) == ["0.2000", "0.6000", "0.0250", "0.0250", "0.1500"]
    assert "10 rows in 2 parts, 10 s together" in table


@pytest.mark.parametrize(
    "metrics",
    [{}, {"parts": []}, {"parts": None}, {"parts": "x"}, {"parts": [1, None]}, {"parts": [{"rows": 3, "seconds": float("nan")}]}],
)
def test_without_times_there_is_no_table(metrics: dict[str, Any]) -> None:
    assert stage_table(metrics) is None and pace(metrics) == [] and forecast(metrics) is None


def test_pace() -> None:
    metrics = {"wall_s": 200.4, "rows_this_run": 10, "rows_per_s": 0.0499, "actors": 2}
    assert [value for _, value in pace(metrics)] == ["3 min 20 s", "10", "0.0499 rows/s", "2"]
    assert [value for _, value in pace({"wall_s": "<b>", "rows_per_s": None, "rows_this_run": True, "actors": -1})] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "planned 1 min 30 s (1 min 00 s to 2 min 00 s), took 1 min 40 s: inside the interval"),
        ({"inside": False}, "outside the interval"),
        ({"comparable": False, "actual_rows": 7}, "not comparable, 10 rows planned and 7 done"),
        ({"comparable": False, "actual_rows": None}, "took 1 min 40 s: not comparable<"),
    ],
)
def test_forecast(changes: dict[str, Any], said: str) -> None:
    shown = forecast({"plan": PLAN | changes})
    assert shown and said in shown


def test_the_drawing_of_a_forecast_is_to_scale() -> None:
    shown = forecast({"plan": PLAN})
    assert shown
    assert '<rect class="bar" x="50" y="4" width="46" height="6"/>' in shown, "60 and 120 s of 120 s, from 4 to 96"
    assert 'class="likely" x1="73"' in shown and re.search(r'cx="80\.6666\d"', shown)


@pytest.mark.parametrize("changes", [{"actual_wall_s": None}, {"planned_wall_s": 3}, {"planned_wall_s": {"likely": 1, "low": 1}}])
def test_half_a_forecast_is_none(changes: dict[str, Any]) -> None:
    assert forecast({"plan": PLAN | changes}) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (60, "1 min 00 s"), (3599.4, "59 min 59 s"), (3600, "1 h 00 min"),
     (7500, "2 h 05 min"), (360_000, "100 h 00 min")],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "found"), [(1, 1.0), (0, 0.0), (2.5, 2.5), (True, None), ("1", None), (-1, None), (1e400, None)]
)
def test_numbers(value: object, found: float | None) -> None:
    assert number(value) == found


def test_a_diagram_has_a_bar_per_bin_as_high_as_its_share_of_right_ones() -> None:
    found = reliability([0.25, 0.25, 0.25, 0.25, 0.85, 0.85], [True, False, False, False, True, True])
    assert found
    shown = reliability_plot("answer", found)
    bars = re.findall(r'<rect class="bar" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', shown)
    assert [tuple(map(float, bar)) for bar in bars] == [
        pytest.approx((MARGIN + 20.5, MARGIN + 75, 9, 25)), pytest.approx((MARGIN + 80.5, MARGIN, 9, 100)),
    ]  # fmt: skip
    points = [tuple(map(float, one)) for one in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', shown)]
    assert points == [pytest.approx((MARGIN + 25, MARGIN + 75)), pytest.approx((MARGIN + 85, MARGIN))]
    assert f'viewBox="0 0 {SIDE + 2 * MARGIN:g} {SIDE + 2 * MARGIN:g}"' in shown
    assert "6 answers: 45.0% sure on average, 50.0% right; expected calibration error 0.050" in shown
    assert "<td>20% to 30%</td><td>4</td><td>25.0%</td><td>25.0%</td>" in shown


def test_figures_stand_on_the_page_where_there_are_any() -> None:
    found = reliability([0.5], [True])
    assert found
    assert "Time and confidence" not in report_page(Report("t", [FULL]))
    page = report_page(Report("t", [FULL], metrics={"parts": PARTS, "plan": PLAN}, reliabilities={"box": found}))
    assert page.index("Time and confidence") < page.index("inside the interval") < page.index("Confidence of the box")


def test_every_control_has_a_label_and_every_layer_a_rule() -> None:
    form = controls()
    named = re.findall("<label.*?</label>", form)
    assert len(re.findall("<(?:input|select)", form)) == sum(len(re.findall("<(?:input|select)", label)) for label in named)
    page = report_page(Report("t", []))
    for layer, _ in LAYERS:
        assert f'value="{layer}"' in form and f".without-{layer} " in page and f".key-{layer} " in page
    assert len(Elements(page).data[0]) == 0
