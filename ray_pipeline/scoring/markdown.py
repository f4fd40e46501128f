"""An evaluation as Markdown that reads as well on a terminal: tables with aligned columns, shares in percent."""

from collections.abc import Mapping, Sequence

from ray_pipeline.scoring.bootstrap import Interval
from ray_pipeline.scoring.differences import Difference
from ray_pipeline.scoring.evaluation import Comparison, Evaluation
from ray_pipeline.scoring.measures import MEASURES
from ray_pipeline.scoring.reliability import Reliability
from ray_pipeline.scoring.sizes import SHOWN, SIZES, UNKNOWN
from ray_pipeline.scoring.tables import Contrast, Group, Score

STUDY_TITLES = {
    "looking": "Did the crop hold the true box",
    "choosing": "What choosing among candidates brought (Acc@0.5)",
}
_SIZE_ORDER = {name: place for place, name in enumerate((*SIZES, UNKNOWN))}


def evaluation_text(found: Evaluation) -> str:
    """All tables of one run; a grouping that puts all rows in one group is left out."""
    tables = {name: members for name, members in found.tables.items() if name == "overall" or len(members) > 1}
    sections = [groups_text("Overall" if name == "overall" else f"By {name}", members) for name, members in tables.items()]
    if found.size_sensitivity:
        sections.append(contrasts_text("Size sensitivity: large minus small", found.size_sensitivity))
    if found.refinement:
        sections.append(differences_text("Refinement: after against before", ("after", "before"), found.refinement))
    sections += [groups_text(STUDY_TITLES[name], members) for name, members in found.studies.items() if members]
    sections += [_reliability(name, curve) for name, curve in found.reliability.items()]
    if found.average_precision:
        sections.append(_precision(found.average_precision))
    return "\n\n".join(section for section in sections if section)


def comparison_text(found: Comparison) -> str:
    """The tables of two runs compared."""
    apart = f"; {found.only_here} rows are in this run alone, {found.only_there} in the other alone"
    note = f"{found.rows} rows in both runs{apart if found.only_here or found.only_there else ''}."
    return f"{differences_text('Against the other run', ('this', 'other'), found.sizes)}\n\n{note}"


def meanings(names: Sequence[str]) -> str:
    """What the scores mean, one line each."""
    return "\n".join(f"- {MEASURES[name].title}: {MEASURES[name].meaning}" for name in names)


def shown_score(name: str, score: Score) -> str:
    """`81.2 [79.0, 83.3]`, in the measure's unit; without brackets where the draws cannot tell."""
    return _number(score.value, name) + _interval(score.interval, name)


def groups_text(title: str, members: Sequence[Group], shown: Mapping[str, str] = SHOWN) -> str:
    """One table of groups, a column for each score that any of them has; "" where none has any. `shown` names them."""
    names = [name for name in MEASURES if any(name in group.scores for group in members)]
    if not names:
        return ""
    ordered = sorted(members, key=lambda group: _SIZE_ORDER.get(group.name, -1))
    rows = [[shown.get(group.name, group.name), str(group.rows), *(_cell(name, group) for name in names)] for group in ordered]
    return _table(title, ["", "n", *(MEASURES[name].title for name in names)], rows)


def _cell(name: str, group: Group) -> str:
    score = group.scores.get(name)
    if score is None:
        return ""
    return shown_score(name, score) + (f" n={score.rows}" if score.rows != group.rows else "")


def contrasts_text(title: str, found: Mapping[str, Contrast]) -> str:
    """One table of contrasts, a row for each score."""
    rows = [
        [MEASURES[name].title, _signed(one.difference, name) + _interval(one.interval, name), _p(one.p)]
        for name, one in found.items()
    ]
    return _table(title, ["", "difference", "p"], rows)


def differences_text(
    title: str, sides: tuple[str, str], sizes: Mapping[str, Mapping[str, Difference]], shown: Mapping[str, str] = SHOWN
) -> str:
    """One table of two sets of scores, a row for each size and score; `sides` heads their columns."""
    rows = [
        [
            shown.get(size, size), MEASURES[name].title, str(one.rows), _number(one.value, name), _number(one.other, name),
            _signed(one.difference, name) + _interval(one.interval, name), _p(one.p),
            str(one.won), str(one.lost), _p(one.mcnemar),
        ]
        for size, found in sizes.items()
        for name, one in found.items()
    ]  # fmt: skip
    return _table(title, ["", "score", "n", *sides, "difference", "p", "won", "lost", "McNemar p"], rows)


def _reliability(name: str, curve: Reliability) -> str:
    rows = [
        [f"{one.low:.2f}-{one.high:.2f}", str(one.rows), _percent(one.confidence), _percent(one.right)]
        for one in curve.width_bins
    ]
    rows.append(["all", str(curve.rows), _percent(curve.confidence), _percent(curve.right)])
    table = _table(f"Confidence of {name} rows", ["confidence", "n", "mean", "right"], rows)
    errors = f"{_percent(curve.width_error)} (equal widths), {_percent(curve.mass_error)} (equal masses)"
    return f"{table}\n\nExpected calibration error {errors}; Brier score {curve.brier:.4f}."


def _precision(found: Mapping[str, Mapping[str, float | None]]) -> str:
    rows = [[SHOWN.get(size, size), *(_percent(one[name]) for name in ("ap", "ap_50", "ar"))] for size, one in found.items()]
    return _table("Regions against reference boxes (COCO, all rows together)", ["", "AP", "AP@0.5", "AR"], rows)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([f"## {title}", "", lines[0], rule, *lines[1:]])


def _number(value: float | None, name: str) -> str:
    return "-" if value is None else f"{value * MEASURES[name].unit:{_digits(name)}}"


def _signed(value: float, name: str) -> str:
    return f"{value * MEASURES[name].unit:+{_digits(name)}}"


def _interval(found: Interval | None, name: str) -> str:
    unit, digits = MEASURES[name].unit, _digits(name)
    return "" if found is None else f" [{found.low * unit:{digits}}, {found.high * unit:{digits}}]"


def _digits(name: str) -> str:
    return ".1f" if MEASURES[name].unit == 100 else ".2f"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if value >= 0.0001 else "< 0.0001"
