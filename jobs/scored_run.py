"""A run's results joined with the truth in its manifest and scored, row by row.

Results and manifest are in the same order, so both are read side by side, a part at a time.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.delivery.finished_run import finished_run
from ray_pipeline.delivery.formats.parquet import results_rows
from ray_pipeline.intake.manifest import Manifest, open_manifest
from ray_pipeline.intake.references import read_truths
from ray_pipeline.scoring.answers import score_answer
from ray_pipeline.scoring.labels import score_labels
from ray_pipeline.scoring.measures import TABLES
from ray_pipeline.scoring.pages import score_page
from ray_pipeline.scoring.scored_row import ScoredRow
from schemas.result import RESULT_COLUMNS
from schemas.status import Status
from schemas.truth import Truth


class EvaluationRefused(ValueError):
    """There is nothing that could be scored; one line says what was found and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@dataclass(frozen=True)
class ScoredRun:
    """A run, every row scored. `missing` rows of the manifest have no result yet; `unpaged` rows' boxes name no page."""

    output: str
    manifest: str
    digest: str
    task: str
    settings: Mapping[str, Any]
    rows: tuple[ScoredRow, ...]
    indexed: bool
    errors: Mapping[str, str]
    missing: int
    unpaged: int

    @property
    def complete(self) -> bool:
        """Whether it has ended: it has an index.json, and so a result for each row of the manifest."""
        return self.indexed


def read_run(uri: str, manifest_uri: str | None) -> ScoredRun:
    """Read and score the run in the folder `uri` against its own manifest, or a labelled copy of it.

    Raises:
        EvaluationRefused: no run, or one of other rows than the manifest's.
        RunUnreadable: its files are not those that it was completed with.
        ManifestRefused: the manifest cannot be read, or holds no truth.
    """
    output, run = _opened(uri)
    finished = finished_run(uri) if output.exists("index.json") else None
    settings, digest = _settings(run, uri)
    truths = read_truths(same_manifest(settings, digest, manifest_uri))
    reader = _Reader(settings, finished is not None)
    rows = tuple(reader.scored(finished.rows() if finished else _committed(output), truths))
    return ScoredRun(
        output=uri,
        manifest=manifest_uri or settings["manifest"],
        digest=digest,
        task=reader.task,
        settings=settings,
        rows=rows,
        indexed=finished is not None,
        errors=reader.errors,
        missing=reader.missing,
        unpaged=reader.unpaged,
    )


def run_settings(uri: str) -> tuple[dict[str, Any], str]:
    """The settings a run was made with, as recorded, and the digest of the manifest it was made from.

    Raises:
        EvaluationRefused: there is no run, or it records neither.
    """
    _, run = _opened(uri)
    return _settings(run, uri)


def same_manifest(settings: Mapping[str, Any], digest: str, manifest_uri: str | None) -> Manifest:
    """The run's manifest or a labelled copy of it, opened as the run did: limit and pass-through columns count for its digest.

    Raises:
        EvaluationRefused: it has other rows than the run's.
        ManifestRefused: it cannot be read.
    """
    uri = manifest_uri if manifest_uri is not None else settings["manifest"]
    limit, passed = setting(settings, "run", "limit"), settings.get("passthrough")
    names = tuple(map(str, passed)) if isinstance(passed, list) else ()
    manifest = open_manifest(uri, limit if isinstance(limit, int) else None, (), names)
    if manifest.digest != digest:
        found, expected = manifest.digest[:12], digest[:12]
        raise EvaluationRefused(
            f"manifest {uri!r} has digest {found}…, expected {expected}… as in run.json: ids, pictures or questions differ"
        )
    return manifest


def setting(settings: Mapping[str, Any], group: str, name: str) -> Any:
    """One recorded setting; None where the file has no such group or name."""
    inner = settings.get(group)
    return inner.get(name) if isinstance(inner, dict) else None


def _opened(uri: str) -> tuple[Output, dict[str, Any]]:
    """The folder, and its run.json."""
    try:
        output = Output(uri)
        data = output.read("run.json")
    except FileNotFoundError:
        raise EvaluationRefused(f"output {uri!r} has no run.json, expected the output folder of a run") from None
    except (OSError, ValueError, ImportError) as error:
        raise EvaluationRefused(f"output {uri!r}: {error}") from None
    try:
        run = json.loads(data)
    except (ValueError, RecursionError):
        run = None
    if not isinstance(run, dict):
        raise EvaluationRefused(f"output {uri!r}: run.json is unreadable, expected the file of a run")
    return output, run


def _settings(run: dict[str, Any], uri: str) -> tuple[dict[str, Any], str]:
    """The settings, and the digest of the manifest the run was made from."""
    settings, facts = run.get("settings"), run.get("fingerprint")
    digest = facts.get("manifest.digest") if isinstance(facts, dict) else None
    if not (isinstance(settings, dict) and isinstance(settings.get("manifest"), str) and isinstance(digest, str)):
        raise EvaluationRefused(f"output {uri!r}: run.json names no manifest and its digest, expected the file of a run")
    task = settings.get("task", "answer")
    if not isinstance(task, str) or task not in TABLES:
        raise EvaluationRefused(f"output {uri!r} is of task {task!r}, expected one of {', '.join(TABLES)}")
    return settings, digest


def _committed(output: Output) -> Iterator[dict[str, Any]]:
    """The rows that are there of a run that is not complete, in manifest order."""
    for name in output.list_results():
        try:
            yield from results_rows(output.read_result(name))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise EvaluationRefused(f"results/{name} is unreadable: {error}") from None


class _Reader:
    """Goes through results and truths once; what it counts on the way is whole when the last row has come."""

    def __init__(self, settings: Mapping[str, Any], complete: bool) -> None:
        self.complete = complete
        self.task: str = settings.get("task", "answer")
        self.boxes_asked = setting(settings, "prompt", "template") == "locate"
        self.errors: dict[str, str] = {}
        self.missing = self.unpaged = 0

    def scored(self, results: Iterator[dict[str, Any]], truths: Iterator[Truth]) -> Iterator[ScoredRow]:
        """Every result row, scored.

        Raises:
            EvaluationRefused: a result is unreadable or not of this manifest, or a truth cannot be one of its row.
        """
        for identifier, of_id in groupby(map(_whole, results), key=lambda row: row["id"]):
            rows = list(of_id)
            truth = self._find(truths, identifier)
            try:
                yield from self._score(rows, truth)
            except ValueError as error:
                raise EvaluationRefused(str(error)) from None
            self.errors |= {_place(row): row["error"] for row in rows if row["error"] is not None}
        self._skip(sum(1 for _ in truths))

    def _find(self, truths: Iterator[Truth], identifier: str) -> Truth:
        """The truth of the next result row; those passed over have no result."""
        for passed, truth in enumerate(truths):
            if truth.id == identifier:
                self._skip(passed)
                return truth
        raise EvaluationRefused(
            f"result row {identifier!r} is not in the manifest, or not in its order; `fovea verify` says more"
        )

    def _skip(self, rows: int) -> None:
        if rows and self.complete:
            raise EvaluationRefused(
                f"{rows} rows of the manifest have no result in a complete run, expected 0; see `fovea verify`"
            )
        self.missing += rows

    def _score(self, rows: Sequence[Mapping[str, Any]], truth: Truth) -> Iterator[ScoredRow]:
        """Several references of a page are accepted texts; of a document that failed as a whole they are its lost pages."""
        if self.task == "answer":
            yield from (score_answer(row, truth, self.boxes_asked) for row in rows)
        elif self.task == "label":
            yield from (score_labels(row, truth.boxes) for row in rows)
        elif len(rows) == 1 and truth.page is None and rows[0]["status"] != Status.OK:
            yield score_page(rows[0], ["\n".join(truth.references)] if truth.references else [], truth.boxes)
        elif len(rows) == 1 and (truth.page is not None or not rows[0]["page"]):
            yield score_page(rows[0], truth.references, truth.boxes)
        else:
            yield from self._score_document(rows, truth)

    def _score_document(self, rows: Sequence[Mapping[str, Any]], truth: Truth) -> Iterator[ScoredRow]:
        """One manifest row exploded into its pages: one reference per page, and no boxes, as they name no page."""
        pages = len(truth.references)
        if pages and (pages < len(rows) or (pages > len(rows) and self.complete)):
            raise ValueError(f"row {truth.id!r} has {pages} references for {len(rows)} pages, expected one per page")
        self.unpaged += bool(truth.boxes)
        for place, row in enumerate(rows):
            page = place if row["page"] is None else row["page"]
            yield score_page(row, truth.references[page : page + 1], ())


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    """The row, if it has all columns of a result."""
    for name in RESULT_COLUMNS.names:
        if name not in row:
            raise EvaluationRefused(f"result row {row.get('id')!r} has no column {name!r}, expected the columns of a result")
    return row


def _place(row: Mapping[str, Any]) -> str:
    return row["id"] if row["page"] is None else f"{row['id']} page {row['page']}"
