"""A perception or a failure becomes one checked result row, with the columns of `schemas.result.RESULT_COLUMNS`.

Rows are plain dicts: result columns first, then the manifest's pass-through columns.
"""

from dataclasses import dataclass
from math import inf
from typing import Any

from ray_pipeline.delivery.checks import (
    checked_box,
    checked_count,
    checked_flag,
    checked_list,
    checked_number,
    checked_optional,
    checked_record,
    checked_text,
    checked_total,
)
from ray_pipeline.delivery.escapes import one_line
from schemas.manifest import ManifestRow
from schemas.result import RESULT_COLUMNS, SCHEMA_VERSION, CandidateRecord, Perception, Refinement, Region
from schemas.status import RowFailure, Status


@dataclass(frozen=True)
class PictureFacts:
    """Size in pixels of the upright picture, and the hex sha256 of the file's bytes."""

    width: int
    height: int
    sha256: str


def ok_row(row: ManifestRow, picture_facts: PictureFacts, perception: Perception) -> dict[str, Any]:
    """The row of an answer; one of status `invalid_output` if any value of the perception breaks the columns' promises."""
    try:
        checked_record("perception", perception, Perception)
        said = _said(perception, picture_facts.width, picture_facts.height)
        checked_total(said)
    except RowFailure as failure:
        return failed_row(row, failure, picture_facts)
    return _blank(row, picture_facts, Status.OK) | said | row.extra


def failed_row(row: ManifestRow, failure: RowFailure, facts: PictureFacts | None) -> dict[str, Any]:
    """The row of a failure: status and one line; everything a model would have said is null.

    Raises:
        ValueError: the failure carries the status `ok`.
    """
    if failure.status == Status.OK:
        raise ValueError(f"row {row.number} failed with status ok ({one_line(failure.message)}); expected another status")
    error = one_line(failure.message) or failure.status.value
    return _blank(row, facts, failure.status) | {"error": error, "calibrated": False} | row.extra


def _blank(row: ManifestRow, facts: PictureFacts | None, status: Status) -> dict[str, Any]:
    taken = sorted(set(row.extra) & set(RESULT_COLUMNS.names))
    if taken:  # refused at the start of a run; here it would overwrite a result
        raise ValueError(f"pass-through columns {taken} have names of result columns")
    blank: dict[str, Any] = dict.fromkeys(RESULT_COLUMNS.names)
    blank |= {"id": row.id, "image_uri": row.image_uri, "page": row.page, "question": row.question}
    blank |= {"status": status.value, "schema_version": SCHEMA_VERSION}
    if facts:
        blank |= {"image_width": facts.width, "image_height": facts.height, "image_sha256": facts.sha256}
    return blank


def _said(said: Perception, width: int, height: int) -> dict[str, Any]:
    return {
        "answer": checked_text("answer", said.answer),
        "answer_confidence": checked_optional("answer_confidence", said.answer_confidence, 0, 1),
        "box": _optional_box("box", said.box_px, width, height),
        "box_confidence": checked_optional("box_confidence", said.box_confidence, 0, 1),
        "regions": _each("regions", said.regions, _region, width, height),
        "baseline_answer": _optional_text("baseline_answer", said.baseline_answer),
        "baseline_confidence": checked_optional("baseline_confidence", said.baseline_confidence, 0, 1),
        "refinement": _refinement(said.refinement, width, height),
        "candidates": _each("candidates", said.candidates, _candidate, width, height),
        "views": checked_count("views", said.views),
        "visual_tokens": checked_count("visual_tokens", said.visual_tokens),
        "calibrated": checked_flag("calibrated", said.calibrated),
    }


def _each(name: str, values: object, build: Any, width: int, height: int) -> list[dict[str, Any]]:
    return [build(f"{name}[{place}]", value, width, height) for place, value in enumerate(checked_list(name, values))]


def _region(name: str, region: Region, width: int, height: int) -> dict[str, Any]:
    checked_record(name, region, Region)
    return {
        "box": checked_box(f"{name}.box", region.box_px, width, height),
        "label": _optional_text(f"{name}.label", region.label),
        "text": _optional_text(f"{name}.text", region.text),
        "confidence": checked_optional(f"{name}.confidence", region.confidence, 0, 1),
        "kind": checked_text(f"{name}.kind", region.kind),
    }


def _candidate(name: str, candidate: CandidateRecord, width: int, height: int) -> dict[str, Any]:
    checked_record(name, candidate, CandidateRecord)
    return {
        "box": _optional_box(f"{name}.box", candidate.box_px, width, height),
        "text": checked_text(f"{name}.text", candidate.text),
        "logprob": checked_number(f"{name}.logprob", candidate.logprob, -inf, 0),
        "entropy": checked_optional(f"{name}.entropy", candidate.entropy, 0, inf),
        "predicted_iou": checked_optional(f"{name}.predicted_iou", candidate.predicted_iou, 0, 1),
        "chosen": checked_flag(f"{name}.chosen", candidate.chosen),
    }


def _refinement(refinement: Refinement, width: int, height: int) -> dict[str, Any]:
    checked_record("refinement", refinement, Refinement)
    return {
        "method": checked_text("refinement.method", refinement.method),
        "crops": _each("refinement.crops", refinement.crops_px, checked_box, width, height),
        "used": checked_flag("refinement.used", refinement.used),
        "reason": checked_text("refinement.reason", refinement.reason),
    }


def _optional_text(name: str, value: object) -> str | None:
    return None if value is None else checked_text(name, value)


def _optional_box(name: str, value: object, width: int, height: int) -> dict[str, float] | None:
    return None if value is None else checked_box(name, value, width, height)
