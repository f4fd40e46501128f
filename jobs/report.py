"""One self-contained HTML page of a run: pictures, where the model looked, answers before and after, filters and figures.

Example:
  fovea report --output results --html report.html --rows 5000
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.row_pictures import RowPictures
from jobs.scored_run import EvaluationRefused, read_run
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.delivery.finished_run import FinishedRun, finished_run
from ray_pipeline.delivery.report.page import Report, report_page
from ray_pipeline.delivery.report.shown_row import NO_ROOM, ShownRow
from ray_pipeline.intake.manifest import Manifest, ManifestRefused, open_manifest
from ray_pipeline.intake.redaction import redacted
from ray_pipeline.intake.references import TEXTS, read_truths
from ray_pipeline.scoring.reliability import Reliability, reliability
from ray_pipeline.scoring.scored_row import ScoredRow
from schemas.job import JobSettings
from schemas.reading import Task
from schemas.status import Status
from schemas.truth import Truth

REFUSED = 2
MEGABYTE = 1e6


def main(argv: list[str] | None = None) -> int:
    """Write the page; returns 0, or 2 where there is no run to report on."""
    options = _parser().parse_args(argv)
    try:
        page = report_page(build_report(options.output, options.rows, options.maps, options.megabytes, options.manifest))
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(page, encoding="utf-8")
    except (OSError, ValueError, ManifestRefused) as refusal:
        print(f"fovea report: {one_line(str(refusal))}", file=sys.stderr)
        return REFUSED
    print(f"{options.html}: {options.html.stat().st_size / MEGABYTE:.1f} MB")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fovea report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", "--run", required=True, metavar="URI", help="the run's output folder")
    parser.add_argument("--html", type=Path, required=True, metavar="FILE", help="where to write the page")
    parser.add_argument(
        "--rows", type=int, default=60, metavar="N", help="most rows shown; of the failed ones at most half of it"
    )
    parser.add_argument(
        "--maps", type=int, default=60, metavar="N", help="most importance maps: the model is asked once more for each"
    )
    parser.add_argument(
        "--megabytes", type=float, default=100.0, metavar="F", help="room for pictures, about 20 kB a row; 0 opens none"
    )
    parser.add_argument("--manifest", metavar="URI", help="the run's manifest, if it has moved, or a labelled copy of it")
    return parser


def build_report(output_uri: str, most_rows: int, most_maps: int, megabytes: float, manifest_uri: str | None = None) -> Report:
    """What the page of a finished run shows. Importance maps are computed again: results do not carry them.

    Raises:
        ValueError: no complete run there, or one of another version.
        ManifestRefused: the manifest cannot be read, relative to which the pictures' addresses are meant.
    """
    if most_rows < 1:
        raise ValueError(f"--rows is {most_rows}, expected at least 1")
    run = finished_run(output_uri)
    settings = JobSettings.model_validate(run.run["settings"])
    if manifest_uri is not None:
        settings = settings.model_copy(update={"manifest": manifest_uri})
    scored = _scored(output_uri, manifest_uri)
    rows = _chosen(run, most_rows)
    with ExitStack() as opened:
        manifest = _manifest(settings, needed=megabytes > 0)
        pictures = opened.enter_context(RowPictures(settings, manifest, megabytes * MEGABYTE, most_maps)) if manifest else None
        truths = _truths(manifest, {row.columns["id"] for row in rows}) if manifest and scored else {}
        rows = [_completed(row, pictures, truths.get(row.columns["id"]), scored, settings.task) for row in rows]
    return Report(
        title=f"Fovea: {run.total} rows",
        rows=rows,
        facts=_facts(run, settings, rows),
        statuses=run.index["statuses"],
        metrics=_metrics(run.output),
        reliabilities=_reliabilities(scored),
    )


def _chosen(run: FinishedRun, most_rows: int) -> list[ShownRow]:
    """In the run's order; failed rows are at most half of them, unless there are too few others."""
    failed: list[ShownRow] = []
    fine: list[ShownRow] = []
    for number, columns in enumerate(run.rows()):
        kept = fine if columns["status"] == Status.OK else failed
        if len(kept) < most_rows:
            kept.append(ShownRow(number, columns, redacted(columns["image_uri"])))
    failed = failed[: max(most_rows // 2, most_rows - len(fine))]
    return sorted(failed + fine[: most_rows - len(failed)], key=lambda row: row.number)


def _manifest(settings: JobSettings, needed: bool) -> Manifest | None:
    """The manifest as the run opened it; one that is gone is missed only where pictures are wanted."""
    try:
        return open_manifest(settings.manifest, settings.run.limit, (), settings.passthrough)
    except (ManifestRefused, OSError) as refusal:
        if needed:
            raise ManifestRefused(f"{refusal}; --manifest names it where it has moved, --megabytes 0 does without") from None
        return None


def _scored(output_uri: str, manifest_uri: str | None) -> Sequence[ScoredRow]:
    """Every row of the run against its references; empty where the manifest has none that fit."""
    try:
        return read_run(output_uri, manifest_uri).rows
    except (EvaluationRefused, ManifestRefused, OSError) as refusal:
        if f"no column {TEXTS!r}" not in str(refusal):  # most manifests have no truth, which is nothing to tell of
            print(f"fovea report: without references: {one_line(str(refusal))}", file=sys.stderr)
        return ()


def _truths(manifest: Manifest, wanted: set[str]) -> dict[str, Truth]:
    return {truth.id: truth for truth in read_truths(manifest) if truth.id in wanted}


def _completed(
    row: ShownRow, pictures: RowPictures | None, truth: Truth | None, scored: Sequence[ScoredRow], task: Task
) -> ShownRow:
    """The row with its pictures, its truth, and what it is worth against that."""
    images, lacking = pictures.of(row.columns) if pictures else (None, NO_ROOM)
    if not scored:
        return replace(row, images=images, lacking=lacking)
    worth = scored[row.number]
    scores = {name: value for name, share in worth.scores.items() if (value := share.value) is not None}
    right = next((scores[name] > 0 for name in ("exact_match", "acc_50") if name in scores), None)
    if truth and task == "ocr":  # its text is as long as the page's; its boxes are of this page only if they were compared
        truth = replace(truth, references=(), boxes=truth.boxes if worth.boxes else ())
    return replace(row, images=images, lacking=lacking, truth=truth, right=right, scores=scores)


def _reliabilities(scored: Iterable[ScoredRow]) -> dict[str, Reliability]:
    """By what the confidences are of."""
    found: defaultdict[str, list[tuple[float, bool]]] = defaultdict(list)
    for row in scored:
        for one in row.sureness:
            found[one.of].append((one.confidence, one.right))
    made = {of: reliability([sure for sure, _ in pairs], [right for _, right in pairs]) for of, pairs in sorted(found.items())}
    return {of: one for of, one in made.items() if one is not None}


def _metrics(output: Output) -> dict[str, Any]:
    """Nothing where metrics.json is missing or no longer what a run wrote: it is not part of what is proven."""
    try:
        metrics = json.loads(output.read("metrics.json"))
    except (OSError, ValueError, RecursionError):
        return {}
    return metrics if isinstance(metrics, dict) else {}


def _facts(run: FinishedRun, settings: JobSettings, rows: Sequence[ShownRow]) -> list[tuple[str, str]]:
    facts = [
        ("manifest", redacted(settings.manifest)),
        ("task", settings.task),
        (
            "model",
            settings.model.name if settings.model.revision is None else f"{settings.model.name} at {settings.model.revision}",
        ),
        *(_methods(settings) if settings.task == "answer" else ()),
        ("seed", str(settings.run.seed)),
        ("version", str((run.run.get("versions") or {}).get("fovea", "unknown"))),
        ("rows", str(run.total)),
        ("rows shown", str(len(rows))),
    ]
    without = sum(row.lacking == NO_ROOM for row in rows)
    return [*facts, ("shown without a picture, for lack of room (--megabytes)", str(without))] if without else facts


def _methods(settings: JobSettings) -> Iterator[tuple[str, str]]:
    yield "looking closer", settings.refine.method
    yield "choosing", settings.select.method
    yield "crops at first", str(settings.views.max_crops)


if __name__ == "__main__":
    sys.exit(main())
