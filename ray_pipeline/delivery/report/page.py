"""The page of a run: one file without an outside address, whose policy admits its own style and script and nothing else.

+------------------------------------------------------------+
| title, facts, rows per status                              |
| time per stage | forecast | confidence against references  |
+------------------------------------------------------------+
| search, order, status, method, confidence, layers   n of m |
+--------------------+--------------+------------------------+
| picture, map,      | crops        | first answer, final,   |
| boxes              |              | candidates, provenance |
+--------------------+--------------+------------------------+

The rows are data in the page; its script makes a row's elements when it is about to be seen, and takes them away again
when it is far off. So thousands of rows cost little more than their bytes.
"""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from ray_pipeline.delivery.report.controls import controls
from ray_pipeline.delivery.report.island import data_island, image_island
from ray_pipeline.delivery.report.markup import Markup, element
from ray_pipeline.delivery.report.reliability_plot import reliability_plot
from ray_pipeline.delivery.report.run_times import forecast, pace, stage_table
from ray_pipeline.delivery.report.shown_row import ShownRow, record
from ray_pipeline.scoring.reliability import Reliability

SCRIPTS = ("element.js", "card.js", "filter.js", "list.js")  # in this order, as one
Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Report:
    """A run, and those of its rows that are shown. `statuses` counts all of its rows; `metrics` is what metrics.json holds.

    `reliabilities` has, by what they are confidences of, those that could be compared with references.
    """

    title: str
    rows: Sequence[ShownRow]
    facts: Facts = ()
    statuses: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    reliabilities: Mapping[str, Reliability] = field(default_factory=dict)


def report_page(report: Report) -> str:
    """The whole page as HTML text, to be written as UTF-8.

    Raises:
        ValueError: a number of a row is not finite, or a picture is neither PNG nor JPEG.
    """
    style, script = Markup(_file("page.css")), Markup("\n".join(['"use strict";', "{", *map(_file, SCRIPTS), "}"]))
    images = _Images()
    records = [record(row, images.names(row)) for row in report.rows]
    head = element(
        "head", element("meta", charset="utf-8"), _policy(style, script),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", report.title), element("style", style),
    )  # fmt: skip
    body = element(
        "body", _header(report), _figures(report), controls(), element("noscript", "A script shows the rows; it is off."),
        element("main", id="rows", role="feed", aria_label="Rows"),
        element("p", "No row is like that.", id="nothing", hidden=True),
        data_island("data", records), *images.islands, element("script", script),
    )  # fmt: skip
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


class _Images:
    """The pictures of all rows, each in the page once, however many rows ask about it."""

    def __init__(self) -> None:
        self.islands: list[Markup] = []
        self._known: dict[bytes, str] = {}

    def names(self, row: ShownRow) -> dict[str, Any]:
        """Where the script finds the row's picture, map and crops."""
        if row.images is None:
            return {"picture": None, "map": None, "crops": []}
        found = row.images
        return {
            "picture": self._name(found.picture),
            "map": None if found.map is None else self._name(found.map),
            "crops": [self._name(crop) for crop in found.crops],
        }

    def _name(self, image: bytes) -> str:
        digest = hashlib.sha256(image).digest()
        if digest not in self._known:
            self._known[digest] = f"image-{len(self.islands)}"
            self.islands.append(image_island(self._known[digest], image))
        return self._known[digest]


def _policy(style: str, script: str) -> Markup:
    """Also no string may become markup or code while the page is open, whatever its script does."""
    rules = (
        "default-src 'none'", f"style-src {_digest(style)}", f"script-src {_digest(script)}", "img-src data:", "base-uri 'none'",
        "form-action 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
    )  # fmt: skip
    return Markup(f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(rules)}">')


def _digest(content: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _header(report: Report) -> Markup:
    statuses = ((f"rows: {status}", str(count)) for status, count in sorted(report.statuses.items()))
    facts = [*report.facts, *pace(report.metrics), *statuses]
    return element("header", element("h1", report.title), _listed(facts))


def _figures(report: Report) -> Markup:
    """Time, and confidence against references, as far as the run tells of them."""
    times = [one for one in (stage_table(report.metrics), forecast(report.metrics)) if one is not None]
    figures = [element("div", *times, class_="times")] if times else []
    figures += [reliability_plot(of, found) for of, found in report.reliabilities.items()]
    if not figures:
        return Markup()
    return element("details", element("summary", "Time and confidence"), element("div", *figures, class_="figures"), open=True)


def _listed(facts: Facts) -> Markup:
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in facts), class_="facts")


def _file(name: str) -> str:
    return files("ray_pipeline.delivery.report").joinpath(name).read_text("utf-8")
