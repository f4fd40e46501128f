"""Score a finished run against `references` and `reference_boxes` in its manifest: by object size, method and status.

Example:
  fovea evaluate --run results --against results_without_zoom --table scores.md --json scores.json
  fovea evaluate --run results --study occlusion --rows 300

Failed rows count as wrong. Brackets are 95 % intervals from resampling pictures; where a score does not vary there is none.
A study asks the run's model again about rows with boxes, under several conditions: zooming, attention, occlusion or several.
Exit codes: 0 scored, 2 refused, 3 scored, but rows of the manifest have no result yet.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.model_study import study_report
from jobs.options import RunParser
from jobs.scored_run import EvaluationRefused, ScoredRun, read_run, setting
from ray_pipeline.delivery.escapes import one_line, visible
from ray_pipeline.delivery.finished_run import RunUnreadable
from ray_pipeline.intake.manifest import ManifestRefused
from ray_pipeline.scoring.conditions import LAYOUTS
from ray_pipeline.scoring.evaluation import Comparison, Evaluation, compared, evaluated
from ray_pipeline.scoring.markdown import comparison_text, evaluation_text, meanings, shown_score
from ray_pipeline.scoring.measures import MEASURES, TABLES

SCORED, REFUSED, INCOMPLETE = 0, 2, 3
DRAWS, MOST_DRAWS = 2000, 100_000
ROWS = 200  # of a study, where each takes a second or more on a GPU
SHOWN = 10  # failed rows listed; the file has them all
MAIN = {"answer": ("anls", "exact_match", "acc_50"), "ocr": ("word_f1", "cer", "line_f1"), "label": ("phrase_acc_50", "label_f1")}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        _refuse_places(options)
        if options.study is not None:
            return _study(options)
        run = read_run(options.run, options.manifest)
        other = read_run(options.against, options.manifest) if options.against is not None else None
        found = _evaluated(run, options)
        comparison = _compared(run, other, options) if other is not None else None
        text = visible(_text(run, other, found, comparison), keep="\n")
        if options.table is not None:
            options.table.write_text(text + "\n", encoding="utf-8")
        if options.json is not None:
            report = _report(run, other, found, comparison, options)
            options.json.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except (EvaluationRefused, ManifestRefused, RunUnreadable, OSError) as refusal:
        print(f"fovea evaluate: {one_line(str(refusal))}", file=sys.stderr)
        return REFUSED
    print(f"{text}\n{_last_line(run, found)}")
    return SCORED if run.complete and (other is None or other.complete) else INCOMPLETE


def _study(options: argparse.Namespace) -> int:
    if options.against is not None:
        raise EvaluationRefused(f"--study {options.study} with --against, expected one of them")
    found = study_report(options.study, options.run, options.manifest, options.rows, options.bootstrap, options.seed)
    text = visible(found.text, keep="\n")
    if options.table is not None:
        options.table.write_text(text + "\n", encoding="utf-8")
    if options.json is not None:
        options.json.write_text(json.dumps(found.figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{text}\n{found.last_line}")
    return SCORED


def _parser() -> RunParser:
    parser = RunParser(prog="fovea evaluate", description=__doc__)
    parser.usage = "fovea evaluate --run OUTPUT [--against OUTPUT | --study NAME] ..."
    parser.add_argument("--run", required=True, metavar="OUTPUT", help="output folder of the run")
    parser.add_argument("--manifest", metavar="URI", help="the same rows with their truth (the run's own)")
    parser.add_argument("--against", metavar="OUTPUT", help="another run on the same manifest, compared row by row")
    parser.add_argument(
        "--study", metavar="NAME", choices=tuple(LAYOUTS), help="ask the run's model again, under several conditions"
    )
    parser.add_argument("--rows", type=_count(1, 10**9), default=ROWS, metavar="N", help=f"most rows of a study ({ROWS})")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="write the tables")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, and every row's scores")
    parser.add_argument("--seed", type=_count(0, 2**63), default=0, metavar="N", help="seed of the resampling (0)")
    parser.add_argument(
        "--bootstrap", type=_count(100, MOST_DRAWS), default=DRAWS, metavar="N", help=f"draws of pictures ({DRAWS})"
    )
    return parser


def _count(low: int, high: int) -> Any:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number from {low} to {high}")
        return int(text)

    return number


def _refuse_places(options: argparse.Namespace) -> None:
    """Files are written last: what would then fail is said before the work."""
    for name in ("table", "json"):
        place: Path | None = getattr(options, name)
        if place is None:
            continue
        if not place.absolute().parent.is_dir() or place.is_dir():
            raise EvaluationRefused(f"--{name} {str(place)!r}: expected a file in a folder that is there")
        runs = [Path(run.removeprefix("file://")).resolve() for run in (options.run, options.against) if run]
        if any(place.resolve().is_relative_to(run / "results") for run in runs):
            raise EvaluationRefused(f"--{name} {str(place)!r} is among the results of a run; expected another folder")


def _evaluated(run: ScoredRun, options: argparse.Namespace) -> Evaluation:
    found = evaluated(run.rows, run.task, options.bootstrap, options.seed)
    if not found.labelled:
        raise EvaluationRefused(
            f"0 of {found.rows} rows in {run.output!r} have references or reference boxes, expected at least one"
        )
    return found


def _compared(run: ScoredRun, other: ScoredRun, options: argparse.Namespace) -> Comparison:
    if other.digest != run.digest:
        raise EvaluationRefused(
            f"--against {other.output!r} answers a manifest with digest {other.digest[:12]}…, expected {run.digest[:12]}…"
        )
    if other.task != run.task:
        raise EvaluationRefused(f"--against {other.output!r} is of task {other.task!r}, expected {run.task!r}")
    return compared(run.rows, other.rows, run.task, options.bootstrap, options.seed)


def _text(run: ScoredRun, other: ScoredRun | None, found: Evaluation, comparison: Comparison | None) -> str:
    facts = [
        f"# {run.task}: {run.output}",
        "",
        f"{found.labelled} of {found.rows} rows have a truth, on {found.pictures} pictures; {found.failed} of them failed "
        f"and count as wrong. {_methods(run)}",
    ]
    facts += [_incomplete(one) for one in (run, other) if one is not None and not one.complete]
    if run.unpaged:
        facts.append(f"Boxes of {run.unpaged} documents are left out: they name no page. Give one row per page.")
    sections = ["\n".join(facts), evaluation_text(found)]
    if comparison is not None and other is not None:
        sections.append(f"{comparison_text(comparison)} The other run: {one_line(other.output)}.")
    sections += [_failures(run), meanings(_named(found))]
    return "\n\n".join(section for section in sections if section)


def _incomplete(run: ScoredRun) -> str:
    total = run.missing + len({row.id for row in run.rows})
    lacking = f"{run.missing} of {total} rows of the manifest have no result yet and count in no score"
    return f"INCOMPLETE: {one_line(run.output)} has no index.json; {lacking}."


def _named(found: Evaluation) -> list[str]:
    groups = [group for members in (*found.tables.values(), *found.studies.values()) for group in members]
    return [name for name in MEASURES if any(name in group.scores for group in groups)]


def _methods(run: ScoredRun) -> str:
    named = " ".join(f"{name} {one_line(str(value))}," for name, value in _recorded(run).items())
    return f"Recorded: {named.rstrip(',')}."


def _recorded(run: ScoredRun) -> dict[str, Any]:
    """What the whole run was made with, as far as tables are read by it."""
    return {
        "model": setting(run.settings, "model", "name"),
        "refinement": setting(run.settings, "refine", "method"),
        "selection": setting(run.settings, "select", "method"),
    }


def _failures(run: ScoredRun) -> str:
    """How rows failed, and the first of them."""
    failed = [row for row in run.rows if row.status != "ok"]
    if not failed:
        return ""
    counts = ", ".join(f"{status} {count}" for status, count in sorted(Counter(row.status for row in failed).items()))
    lines = [f"- {one_line(f'{place}: {error}', 200)}" for place, error in list(run.errors.items())[:SHOWN]]
    more = [f"- and {len(run.errors) - SHOWN} more"] if len(run.errors) > SHOWN else []
    return "\n".join([f"## Failed rows: {counts}", "", *lines, *more])


def _last_line(run: ScoredRun, found: Evaluation) -> str:
    overall = found.tables["overall"][0].scores
    scores = [f"{MEASURES[name].title} {shown_score(name, overall[name])}" for name in MAIN[run.task] if name in overall]
    return f"{run.task}: {found.labelled} rows, {', '.join(scores)}"


def _report(
    run: ScoredRun, other: ScoredRun | None, found: Evaluation, comparison: Comparison | None, options: argparse.Namespace
) -> dict[str, Any]:
    """Everything as plain JSON; scores are fractions, whatever the tables show."""
    return {
        "version": 1,
        "task": run.task,
        "run": _facts(run),
        "against": _facts(other) if other is not None else None,
        "bootstrap": {"draws": options.bootstrap, "seed": options.seed, "unit": "picture", "coverage": 0.95},
        "measures": {name: asdict(MEASURES[name]) for name in TABLES[run.task]} | {n: asdict(MEASURES[n]) for n in _named(found)},
        **asdict(found),
        "comparison": asdict(comparison) if comparison is not None else None,
        "failures": run.errors,
        "row_scores": [_row(run, place) for place in range(len(run.rows))],
    }


def _facts(run: ScoredRun) -> dict[str, Any]:
    return {
        "output": run.output, "manifest": run.manifest, "manifest_digest": run.digest, **_recorded(run),
        "rows": len(run.rows), "missing": run.missing, "complete": run.complete,
    }  # fmt: skip


def _row(run: ScoredRun, place: int) -> dict[str, Any]:
    row = run.rows[place]
    scores: Mapping[str, Any] = {name: share.value for name, share in row.scores.items()}
    before = {name: share.value for name, share in row.before.items()}
    return {
        "id": row.id, "page": row.page, "status": row.status,
        "size": row.groups.size, "method": row.groups.method, "refined": row.groups.refined,
        "scores": scores, "before": before,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
