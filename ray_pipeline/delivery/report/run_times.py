"""What metrics.json says of a run's time: its pace, the seconds of each stage, and what became of the forecast."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from ray_pipeline.delivery.report.markup import Markup, element

STAGES = (  # what a worker measures of each part, and what that is
    ("waiting_seconds", "waiting for pictures"),
    ("model_seconds", "model"),
    ("journal_seconds", "journal"),
    ("commit_seconds", "commit"),
)
REST = "everything else"
WIDTH, HEIGHT, EDGE = 100.0, 14.0, 4.0  # of the forecast's drawing


def pace(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The run's figures as names and values; those that metrics.json lacks are left out."""
    wall, rows, rate = (number(metrics.get(name)) for name in ("wall_s", "rows_this_run", "rows_per_s"))
    figures = [
        ("wall time", None if wall is None else duration(wall)),
        ("rows of the last command", None if rows is None else f"{rows:.0f}"),
        ("throughput", None if rate is None else f"{rate:.3g} rows/s"),
        ("model processes", None if (actors := number(metrics.get("actors"))) is None else f"{actors:.0f}"),
    ]
    return [(name, value) for name, value in figures if value is not None]


def stage_table(metrics: Mapping[str, Any]) -> Markup | None:
    """Seconds of all parts by stage, per row and as shares. Parts run side by side, so they add up to more than the wall time."""
    parts = [part for part in _listed(metrics.get("parts")) if isinstance(part, dict)]
    rows = sum(number(part.get("rows")) or 0 for part in parts)
    whole = sum(number(part.get("seconds")) or 0 for part in parts)
    if not rows or not whole:
        return None
    spent = [(name, sum(number(part.get(key)) or 0 for part in parts)) for key, name in STAGES]
    spent.append((REST, max(0.0, whole - sum(seconds for _, seconds in spent))))
    columns = ("stage", "seconds", "ms per row", "share of the parts' time")
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in columns)))
    body = element("tbody", *(_stage(name, seconds, whole, rows) for name, seconds in spent))
    said = f"{rows:.0f} rows in {len(parts)} part{'s' * (len(parts) != 1)}, {duration(whole)} together"
    return element("figure", element("figcaption", element("b", "Time"), element("br"), said), element("table", head, body))


def forecast(metrics: Mapping[str, Any]) -> Markup | None:
    """The forecast's interval and the time the run took, on one line; None where the run was not compared with one."""
    plan = metrics.get("plan")
    if not isinstance(plan, dict) or not isinstance(plan.get("planned_wall_s"), dict):
        return None
    likely, low, high = (number(plan["planned_wall_s"].get(name)) for name in ("likely", "low", "high"))
    actual = number(plan.get("actual_wall_s"))
    if likely is None or low is None or high is None or actual is None:
        return None
    said = f"planned {duration(likely)} ({duration(low)} to {duration(high)}), took {duration(actual)}: {_verdict(plan)}"
    return element(
        "figure",
        _line(likely, low, high, actual, said),
        element("figcaption", element("b", "Forecast"), element("br"), said),
        class_="forecast",
    )


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def number(value: object) -> float | None:
    """A finite number of at least 0, or None: metrics.json is outside what the index vouches for."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
        return None
    return float(value)


def _verdict(plan: Mapping[str, Any]) -> str:
    if not plan.get("comparable"):
        planned, actual = number(plan.get("planned_rows")), number(plan.get("actual_rows"))
        counts = "" if planned is None or actual is None else f", {planned:.0f} rows planned and {actual:.0f} done"
        return f"not comparable{counts}"
    return "inside the interval" if plan.get("inside") else "outside the interval"


def _line(likely: float, low: float, high: float, actual: float, said: str) -> Markup:
    longest = max(high, actual, likely, 1e-9)

    def at(seconds: float) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * seconds / longest

    middle = HEIGHT / 2
    return element(
        "svg",
        element("line", class_="even", x1=at(0.0), y1=middle, x2=at(longest), y2=middle),
        element("rect", class_="bar", x=at(low), y=middle - 3, width=max(at(high) - at(low), 0.5), height=6.0),
        element("line", class_="likely", x1=at(likely), y1=middle - 4, x2=at(likely), y2=middle + 4),
        element("circle", class_="point", cx=at(actual), cy=middle, r=2.0),
        class_="plot", role="img", viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", aria_label=said,
    )  # fmt: skip


def _stage(name: str, seconds: float, whole: float, rows: float) -> Markup:
    numbers = (element("td", f"{seconds:.1f}"), element("td", f"{1000 * seconds / rows:.1f}"))
    share = element("td", _bar(seconds / whole), f" {seconds / whole:.0%}")
    return element("tr", element("th", name, scope="row"), *numbers, share)


def _bar(share: float) -> Markup:
    return element("meter", f"{share:.0%}", min="0", max="1", value=f"{share:.4f}", aria_label="share")


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []
