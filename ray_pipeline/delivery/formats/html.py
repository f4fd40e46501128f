"""One self-contained page of a run: no script, no outside address, pictures as data; everything from data is escaped.

+------------------------------------------------------------+
| title, facts, rows per status            [all|zoom|errors] |
+--------------------+--------------+------------------------+
| picture, map,      | the crop     | first answer, bar      |
| crop and answer box|              | -> final answer, bar   |
+--------------------+--------------+------------------------+
| errors: id, question, status, what happened                |
+------------------------------------------------------------+
"""

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from math import isfinite

from ray_pipeline.delivery.escapes import visible
from ray_pipeline.delivery.formats.html_style import STYLE
from schemas.picture import Box
from schemas.status import Status

SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
CHOICES = (("all", "All"), ("changed", "Changed by zoom"), ("errors", "Errors"))


@dataclass(frozen=True)
class ReportEntry:
    """One result row as the page shows it.

    Boxes are x0, y0, x1, y1 in fractions of the picture (0..1). Pictures are PNG or JPEG bytes; `picture_png` is a
    thumbnail of the upright picture and `picture_size` its width and height in pixels; `map_png` covers all of it.
    """

    id: str
    question: str | None
    status: str
    error: str | None = None
    truth: str | None = None
    baseline_answer: str | None = None
    baseline_confidence: float | None = None
    answer: str | None = None
    answer_confidence: float | None = None
    refinement_method: str | None = None
    refinement_used: bool = False
    refinement_reason: str | None = None
    picture_png: bytes | None = None
    picture_size: tuple[int, int] | None = None
    map_png: bytes | None = None
    crop_png: bytes | None = None
    crop_boxes: tuple[Box, ...] = ()
    answer_box: Box | None = None

    @property
    def changed(self) -> bool:
        """Whether zooming in gave another answer than the first look."""
        return self.refinement_used and self.answer != self.baseline_answer


def report_page(title: str, facts: list[tuple[str, str]], entries: list[ReportEntry]) -> str:
    """The whole page as HTML text, to be written as UTF-8.

    Raises:
        ValueError: a picture is neither PNG nor JPEG, or a box or confidence is not finite.
    """
    good = [entry for entry in entries if entry.status == Status.OK]
    bad = [entry for entry in entries if entry.status != Status.OK]
    return "\n".join(
        (
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8">{_policy()}',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">',
            f"<title>{_text(title)}</title><style>{STYLE}</style></head><body>",
            _header(title, facts, entries),
            _filters(),
            "<main>",
            *(_card(entry) for entry in good),
            "</main>",
            _errors(bad),
            "</body></html>\n",
        )
    )


def _policy() -> str:
    digest = b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'


def _header(title: str, facts: list[tuple[str, str]], entries: list[ReportEntry]) -> str:
    counts = Counter(entry.status for entry in entries)
    shown = [*facts, *((f"rows shown: {status}", str(count)) for status, count in sorted(counts.items()))]
    items = "\n".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in shown)
    return f'<header><h1>{_text(title)}</h1><dl class="facts">{items}</dl></header>'


def _filters() -> str:
    buttons = "".join(
        f'<input class="choice" type="radio" name="show" id="show-{key}"{" checked" if key == "all" else ""}>'
        for key, _ in CHOICES
    )
    labels = "".join(f'<label class="for-{key}" for="show-{key}">{name}</label>' for key, name in CHOICES)
    return f'{buttons}<nav aria-label="Filter">{labels}</nav>'


def _card(entry: ReportEntry) -> str:
    kind = "changed" if entry.changed else "same"
    question = f"<h3>{_text(entry.question)}</h3>" if entry.question else ""
    title = f'<div class="title">{question}<p class="soft">{_text(entry.id)}</p></div>'
    return f'<article class="card {kind}">{title}{_picture(entry)}{_crop(entry)}{_answers(entry)}</article>'


def _picture(entry: ReportEntry) -> str:
    if entry.picture_png is None:
        return '<p class="soft">no picture</p>'
    size = f' width="{entry.picture_size[0]:d}" height="{entry.picture_size[1]:d}"' if entry.picture_size else ""
    picture = f'<img src="{_data(entry.picture_png)}" alt="{_text(f"picture of row {entry.id}")}" loading="lazy"{size}>'
    heat = f'<img class="map" src="{_data(entry.map_png)}" alt="importance map over the picture">' if entry.map_png else ""
    caption = "dashed: zoomed in, solid: answer" if entry.crop_boxes or entry.answer_box else "whole picture"
    return f'<figure><div class="stack">{picture}{heat}{_boxes(entry)}</div><figcaption>{caption}</figcaption></figure>'


def _boxes(entry: ReportEntry) -> str:
    rectangles = [_rectangle(box, "crop-box", "zoomed in here") for box in entry.crop_boxes]
    if entry.answer_box:
        rectangles.append(_rectangle(entry.answer_box, "answer-box", "the answer"))
    if not rectangles:
        return ""
    return f'<svg viewBox="0 0 1 1" preserveAspectRatio="none" role="img" aria-label="boxes">{"".join(rectangles)}</svg>'


def _rectangle(box: Box, kind: str, name: str) -> str:
    x0, y0, x1, y1 = (min(max(_finite("box", edge), 0.0), 1.0) for edge in box)
    place = f'x="{x0:.5f}" y="{y0:.5f}" width="{max(x1 - x0, 0):.5f}" height="{max(y1 - y0, 0):.5f}"'
    return f'<rect class="{kind}" {place}><title>{name}</title></rect>'


def _crop(entry: ReportEntry) -> str:
    if entry.crop_png is None:
        return '<p class="soft">no crop</p>'
    image = f'<img class="crop" src="{_data(entry.crop_png)}" alt="{_text(f"crop of row {entry.id}")}" loading="lazy">'
    return f"<figure>{image}<figcaption>what the second look saw</figcaption></figure>"


def _answers(entry: ReportEntry) -> str:
    parts = []
    if entry.baseline_answer is not None:
        parts.append(_answer("first look", "", entry.baseline_answer, entry.baseline_confidence))
    parts.append(_answer("answer", " final", entry.answer or "", entry.answer_confidence))
    if entry.truth is not None:
        parts.append(f'<p class="soft">reference: {_text(entry.truth)}</p>')
    if entry.refinement_method is not None:
        used = "used" if entry.refinement_used else "not used"
        parts.append(f'<p class="soft">{_text(entry.refinement_method)}, {used}: {_text(entry.refinement_reason or "")}</p>')
    return f"<div>{''.join(parts)}</div>"


def _answer(name: str, kind: str, answer: str, confidence: float | None) -> str:
    return f'<div class="answer{kind}"><span class="soft">{name} {_bar(confidence)}</span><p>{_text(answer)}</p></div>'


def _bar(confidence: float | None) -> str:
    if confidence is None:
        return "(confidence unknown)"
    share = min(max(_finite("confidence", confidence), 0.0), 1.0)
    return f'<meter min="0" max="1" value="{share:.4f}">{share:.0%}</meter> {share:.0%} sure'


def _errors(entries: Iterable[ReportEntry]) -> str:
    rows = "".join(
        f'<tr><td>{_text(entry.id)}</td><td>{_text(entry.question or "")}</td><td class="status">{_text(entry.status)}</td>'
        f"<td>{_text(entry.error or '')}</td></tr>"
        for entry in entries
    )
    head = "<thead><tr><th>row</th><th>question</th><th>status</th><th>what happened</th></tr></thead>"
    table = f"<table>{head}<tbody>{rows}</tbody></table>" if rows else '<p class="soft">none</p>'
    return f'<section class="errors"><h2>Errors</h2>{table}</section>'


def _text(text: str) -> str:
    return escape(visible(text, keep="\n"), quote=True)


def _data(image: bytes) -> str:
    for signature, kind in SIGNATURES.items():
        if image.startswith(signature):
            return f"data:{kind};base64,{b64encode(image).decode()}"
    raise ValueError(f"picture starts with {image[:8]!r}; expected PNG or JPEG")


def _finite(name: str, value: float) -> float:
    if not isfinite(value):
        raise ValueError(f"{name} has the value {value}; expected a finite number")
    return value
