"""Write the results of a finished run in a format that other programs read.

Example:
  fovea export --run results --format alto --to pages --min-confidence 0.5

A file: coco, csv, jsonl. A folder: alto, hocr, searchable-pdf (one file per row and pages.jsonl), label-studio (tasks and
interface); coco with --images copy, too. Boxes are pixels of the upright picture, or what a format makes of them.
Exit codes: 0 exported, 2 refused, nothing written, 3 the run is not as its index says, or pictures could not be copied,
4 stopped, nothing written.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.options import RunParser
from jobs.picture_copies import PictureCopies
from jobs.stopping import stoppable
from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.delivery.export_place import MARK, PlaceRefused, checked_place, staged
from ray_pipeline.delivery.exported_row import ExportedRow, Origin, Writer, Written, exported_row
from ray_pipeline.delivery.finished_run import FinishedRun, RunUnreadable, finished_run
from ray_pipeline.delivery.formats.alto import write_alto
from ray_pipeline.delivery.formats.coco import write_coco
from ray_pipeline.delivery.formats.csv import write_csv
from ray_pipeline.delivery.formats.hocr import write_hocr
from ray_pipeline.delivery.formats.json_text import json_text
from ray_pipeline.delivery.formats.jsonl import write_jsonl
from ray_pipeline.delivery.formats.label_studio import write_label_studio
from ray_pipeline.delivery.formats.searchable_pdf import write_searchable_pdf
from ray_pipeline.intake.manifest import ManifestRefused
from schemas.job import JobSettings
from schemas.status import Status

EXPORTED, REFUSED, NOT_PROVEN = 0, 2, 3


@dataclass(frozen=True)
class Format:
    """How a format is written; whether it is a folder, has a place for rows that failed, and for pictures, or even holds them;
    whether it has one for attributes of regions."""

    write: Writer
    folder: bool = False
    failed: bool = False
    pictures: bool = False
    holds_pictures: bool = False
    attributes: bool = False


FORMATS = {
    "alto": Format(write_alto, folder=True, pictures=True),
    "coco": Format(write_coco, pictures=True, attributes=True),
    "csv": Format(write_csv, failed=True, attributes=True),
    "hocr": Format(write_hocr, folder=True, pictures=True),
    "jsonl": Format(write_jsonl, failed=True, attributes=True),
    "label-studio": Format(write_label_studio, folder=True, pictures=True, attributes=True),
    "searchable-pdf": Format(write_searchable_pdf, folder=True, pictures=True, holds_pictures=True),
}


class _Refused(ValueError):
    """The command cannot start; one line says why."""


class _Unbalanced(ValueError):
    """What was written is not what the index says there is."""


@dataclass
class _Tally:
    """What has been read so far, and what of it was handed to the format."""

    ok: int = 0
    failed: int = 0
    rows: int = 0
    regions: int = 0
    unsure: int = 0
    attributes: int = 0
    unsure_attributes: int = 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return stoppable(lambda: _export(argv), ends_process=argv is None)


def _export(argv: list[str] | None) -> int:
    options = _parser().parse_args(argv)
    try:
        _refuse_contradictions(options)
        run = finished_run(options.run)
        in_folder = FORMATS[options.format].folder or options.images == "copy"
        place = checked_place(options.to, _local(options.run), in_folder, options.overwrite)
    except (_Refused, RunUnreadable, PlaceRefused, OSError, ValueError) as refusal:
        return _said(refusal, REFUSED)
    try:
        return _exported(run, options, place, in_folder)
    except (RunUnreadable, _Unbalanced) as broken:
        return _said(broken, NOT_PROVEN)
    except (ManifestRefused, PlaceRefused, OSError, ValueError) as refusal:
        return _said(refusal, REFUSED)


def _parser() -> RunParser:
    parser = RunParser(prog="fovea export", description=__doc__)
    parser.add_argument("--run", required=True, metavar="URI", help="folder with the results of a finished run")
    parser.add_argument("--format", required=True, choices=sorted(FORMATS), help="what to write")
    parser.add_argument("--to", required=True, metavar="PATH", help="local file or folder to write; must not be there yet")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.add_argument("--min-confidence", type=float, metavar="X", help="leave out regions not known to be that sure (0 to 1)")
    parser.add_argument("--include-failed", action="store_true", help="failed rows, too (csv, jsonl)")
    parser.add_argument(
        "--images", choices=("link", "copy"), default="link", help="name pictures by the manifest's address, or by a PNG copy"
    )
    return parser


def _refuse_contradictions(options: argparse.Namespace) -> None:
    chosen = FORMATS[options.format]
    if options.include_failed and not chosen.failed:
        raise _Refused(f"--include-failed: {options.format} has no place for a row that failed; expected csv or jsonl")
    if options.images == "copy" and not chosen.pictures:
        raise _Refused(f"--images copy: {options.format} has no pictures; expected one of the others")
    if options.min_confidence is not None and not 0 <= options.min_confidence <= 1:
        raise _Refused(f"--min-confidence {options.min_confidence}; expected a number from 0 to 1")


def _local(uri: str) -> str | None:
    local = uri.removeprefix("file://")
    return None if "://" in local else local


def _exported(run: FinishedRun, options: argparse.Namespace, place: Path, in_folder: bool) -> int:
    chosen, tally = FORMATS[options.format], _Tally()
    origin = _origin(run)
    with ExitStack() as stack:
        work = stack.enter_context(staged(place, in_folder, options.overwrite))
        copied = options.images == "copy" or chosen.holds_pictures
        copies = stack.enter_context(PictureCopies(_settings(run), work)) if copied else None
        rows = _offered(run, options, tally, copies.name_of if copies else _address)
        target = work / "annotations.json" if in_folder and not chosen.folder else work
        written = chosen.write(target, rows, origin)
        _refuse_imbalance(run, options.format, tally, written)
        if in_folder:
            facts = {"format": options.format, "run": run.index["fingerprint_sha256"], "version": origin.version}
            facts |= {"rows": written.rows, "regions": written.regions}
            (work / MARK).write_text(json_text(facts) + "\n", encoding="utf-8")
    print(place)
    missed = copies.missed if copies else 0
    print(_summary(tally, written, missed, options))
    return NOT_PROVEN if missed else EXPORTED


def _offered(
    run: FinishedRun, options: argparse.Namespace, tally: _Tally, image_of: Callable[[int, dict[str, Any]], str]
) -> Iterator[ExportedRow]:
    for number, columns in enumerate(run.rows()):
        if columns["status"] == Status.OK:
            tally.ok += 1
        else:
            tally.failed += 1
            if not options.include_failed:
                continue
        row = exported_row(number, columns, options.min_confidence, image_of(number, columns))
        tally.rows += 1
        tally.regions += len(row.regions)
        tally.attributes += row.answered
        if options.min_confidence is not None:
            whole = exported_row(number, columns, None, row.image)
            tally.unsure += len(whole.regions) - len(row.regions)
            tally.unsure_attributes += whole.answered - row.answered
        yield row


def _address(number: int, columns: dict[str, Any]) -> str:
    return str(columns["image_uri"])


def _origin(run: FinishedRun) -> Origin:
    versions, model = run.run.get("versions", {}), run.run["settings"]["model"]["name"]
    name = str(model).rstrip("/").rpartition("/")[2]  # of a folder only its own name
    label = f"{name}@{str(run.index['fingerprint_sha256'])[:12]}"
    return Origin(label, str(versions.get("fovea", "unknown")), tuple(run.column_names()))


def _settings(run: FinishedRun) -> JobSettings:
    return JobSettings.model_validate(run.run["settings"])


def _refuse_imbalance(run: FinishedRun, chosen: str, tally: _Tally, written: Written) -> None:
    counted = {"ok": tally.ok, "all": tally.ok + tally.failed, "written": written.rows, "regions": written.regions}
    expected = {"ok": run.index["statuses"].get("ok", 0), "all": run.total, "written": tally.rows, "regions": tally.regions}
    if FORMATS[chosen].attributes:
        counted, expected = counted | {"attributes": written.attributes}, expected | {"attributes": tally.attributes}
    if counted != expected:
        raise _Unbalanced(f"counted {counted}; expected {expected}, by index.json and by what was read")


def _summary(tally: _Tally, written: Written, missed: int, options: argparse.Namespace) -> str:
    left = 0 if options.include_failed else tally.failed
    parts = [f"exported {written.rows} rows", f"{written.regions} regions"]
    parts += [f"{written.attributes} attributes"] * (written.attributes > 0) + [f"{left} failed rows left out"]
    if options.min_confidence is not None:
        parts.append(f"{tally.unsure} regions below {options.min_confidence:g} left out")
        parts += [f"{tally.unsure_attributes} attributes with them or below it"] * (tally.unsure_attributes > 0)
    if tally.attributes and not FORMATS[options.format].attributes:
        parts.append(f"{tally.attributes} attributes left out, for which {options.format} has no place")
    return ", ".join(parts + [f"{missed} pictures could not be copied"] * (missed > 0))


def _said(reason: Exception, code: int) -> int:
    print(f"fovea export: {one_line(str(reason))}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
