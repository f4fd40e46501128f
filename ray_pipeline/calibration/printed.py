"""What calibration found, as tables that read well on a terminal."""

from collections.abc import Sequence

from ray_pipeline.calibration.isotonic import Calibrated
from ray_pipeline.calibration.strategies import Measured, pareto
from ray_pipeline.scoring.reliability import Reliability
from schemas.profile import FocusLayer, HeadProfile, Strategy


def layers_text(found: FocusLayer, table: Sequence[FocusLayer]) -> str:
    """Every layer's concentration, the chosen one marked."""
    rows = [
        [str(one.layer), f"{one.ratio:.2f}", f"{100 * one.hit:.1f}", "chosen" if one.layer == found.layer else ""]
        for one in table
    ]
    head = ["layer", "times chance in the box", "largest cell in it, %", ""]
    return _table(f"Layer to look at ({found.rows} questions)", head, rows)


def heads_text(heads: HeadProfile) -> str:
    """The heads by kind, and what the joint score weighs."""
    named = [
        f"{kind}: " + " ".join(f"{one.coordinate}:{one.layer}.{one.head} {one.auroc:.2f}" for one in members)
        for kind, members in (("heads (AUROC)", heads.heads), ("pointing heads (AUROC)", heads.pointing))
    ]
    weights = [f"{name} {value:g}" for name, value in heads.joint] if heads.joint else []
    return "\n".join([*named, *([f"joint score: {', '.join(weights)}"] if weights else [])])


def strategies_text(found: Sequence[Measured], chosen: Strategy | None, seed: int) -> str:
    """Accuracy against time, the surest first; a star where nothing else is better and no slower."""
    starred = sorted(zip(found, pareto(found), strict=True), key=lambda one: (-one[0].accuracy, one[0].row_s))
    rows = []
    for one, efficient in starred:
        low, high = one.bracket(seed) if one.worths else (0.0, 1.0)
        marks = "*" * efficient + (" chosen" if chosen is not None and dict(one.keys) == chosen.settings else "")
        rows.append(
            [named(one), f"{100 * one.accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}]", f"{one.row_s:.3f}", marks]
        )  # fmt: skip
    return _table(f"Strategies ({len(found[0].worths)} rows each)", ["settings", "right, %", "s a row", ""], rows)


def named(one: Measured) -> str:
    """A strategy in one line."""
    return ", ".join(f"{key}={value}" for key, value in one.keys.items()) or "settings as they are"


def confidence_text(name: str, found: Calibrated) -> str:
    """The reliability of held-back rows before and after the map."""
    title = f"Confidence of {name} ({found.map.rows} rows fitted, {found.map.held_out} held back)"
    rows = [[when, *cells] for when, curve in (("before", found.before), ("after", found.after)) for cells in _bins(curve)]
    errors = f"Expected calibration error on held-back rows: {100 * found.map.before:.1f} % before, {100 * found.map.after:.1f} %"
    return f"{_table(title, ['', 'confidence', 'rows', 'mean', 'right'], rows)}\n\n{errors} after."


def _bins(curve: Reliability) -> list[list[str]]:
    return [
        [f"{one.low:.1f}-{one.high:.1f}", str(one.rows), f"{100 * one.confidence:.1f}", f"{100 * one.right:.1f}"]
        for one in curve.width_bins
    ]


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]
    return "\n".join([f"## {title}", "", *lines])
