"""A reliability diagram as inline SVG: the share of right ones over the confidence, bin by bin, beside the diagonal."""

from ray_pipeline.delivery.report.markup import Markup, element
from ray_pipeline.scoring.reliability import Bin, Reliability

SIDE, MARGIN = 100.0, 14.0  # of the square, and of what stands around it, in units of the drawing
PLURALS = {"answer": "answers", "box": "boxes", "line": "lines"}
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def reliability_plot(of: str, found: Reliability) -> Markup:
    """The diagram of all confidences of an `answer`, a `box` or a `line`; the numbers behind it in a table."""
    said = (
        f"{found.rows} {PLURALS.get(of, 'rows')}: {found.confidence:.1%} sure on average, {found.right:.1%} right; "
        f"expected calibration error {found.width_error:.3f}, Brier score {found.brier:.3f}"
    )
    size = f"0 0 {SIDE + 2 * MARGIN:g} {SIDE + 2 * MARGIN:g}"
    drawing = element(
        "svg", *_axes(), *(_bar(one) for one in found.width_bins),
        element("line", class_="even", x1=_x(0.0), y1=_y(0.0), x2=_x(1.0), y2=_y(1.0)),
        *(_point(one, found.rows) for one in found.width_bins),
        class_="plot", role="img", viewBox=size, aria_label=f"Confidence of the {of}: {said}",
    )  # fmt: skip
    caption = element("figcaption", element("b", f"Confidence of the {of}"), element("br"), said)
    return element("figure", drawing, caption, _table(found.width_bins), class_="reliability")


def _axes() -> list[Markup]:
    frame = element("rect", class_="frame", x=_x(0.0), y=_y(1.0), width=SIDE, height=SIDE)
    below = [element("text", f"{at:.0%}", x=_x(at), y=_y(0.0) + 6, text_anchor="middle") for at in TICKS]
    beside = [element("text", f"{at:.0%}", x=_x(0.0) - 1.5, y=_y(at) + 1.5, text_anchor="end") for at in TICKS]
    names = [
        element("text", "how sure", x=_x(0.5), y=_y(0.0) + 12, text_anchor="middle"),
        element("text", "how often right", x=_x(0.0), y=_y(1.0) - 8, text_anchor="start"),
    ]
    return [frame, *below, *beside, *names]


def _bar(one: Bin) -> Markup:
    said = element("title", f"{one.low:.0%} to {one.high:.0%}: {one.rows} rows, {one.right:.1%} right")
    left, top = _x(one.low) + 0.5, _y(one.right)
    return element("g", said, element("rect", class_="bar", x=left, y=top, width=_x(one.high) - left - 0.5, height=_y(0.0) - top))


def _point(one: Bin, rows: int) -> Markup:
    """At the bin's mean confidence; its area grows with the bin's share of the rows."""
    radius = 1.0 + 4.0 * (one.rows / rows) ** 0.5
    return element("circle", class_="point", cx=_x(one.confidence), cy=_y(one.right), r=radius)


def _table(bins: tuple[Bin, ...]) -> Markup:
    head = element("tr", *(element("th", name, scope="col") for name in ("sure", "rows", "mean", "right")))
    rows = [
        element("tr", *(element("td", cell) for cell in _cells(one)))
        for one in bins
    ]  # fmt: skip
    return element(
        "details", element("summary", "The numbers"), element("table", element("thead", head), element("tbody", *rows))
    )


def _cells(one: Bin) -> tuple[str, ...]:
    return f"{one.low:.0%} to {one.high:.0%}", str(one.rows), f"{one.confidence:.1%}", f"{one.right:.1%}"


def _x(share: float) -> float:
    return MARGIN + share * SIDE


def _y(share: float) -> float:
    return MARGIN + (1 - share) * SIDE
