"""One result row as the page's script gets it: texts, shares of 1, and boxes in fractions of the picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from ray_pipeline.delivery.exported_row import with_attributes
from ray_pipeline.delivery.report.images import Images
from schemas.status import Status
from schemas.truth import Truth

GONE, NO_ROOM, NONE = "gone", "room", "none"  # why a row has no picture: the page's script has the words


@dataclass(frozen=True)
class ShownRow:
    """`columns` is the result row, `number` its 0-based place in the run; `address` is where the picture is, without secrets.

    `right` and `scores` compare the row with its truth, where the manifest has one; `lacking` is GONE, NO_ROOM or NONE.
    """

    number: int
    columns: Mapping[str, Any]
    address: str = ""
    truth: Truth | None = None
    right: bool | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    images: Images | None = None
    lacking: str = NONE


def record(row: ShownRow, images: Mapping[str, Any]) -> dict[str, Any]:
    """What the script knows of a row; `images` are the names of its picture, map and crops in the page.

    Raises:
        ValueError: a number is not finite.
    """
    columns, boxes = row.columns, _Fractions(row.columns["image_width"], row.columns["image_height"])
    refinement = columns["refinement"] or {"method": "", "crops": [], "used": False, "reason": ""}
    return {
        "number": row.number, "id": columns["id"], "page": columns["page"], "question": columns["question"],
        "status": columns["status"], "error": columns["error"],
        "answer": columns["answer"], "sure": _short(columns["answer_confidence"]), "box": boxes.of(columns["box"]),
        "box_sure": _short(columns["box_confidence"]),
        "before": columns["baseline_answer"], "before_sure": _short(columns["baseline_confidence"]), "changed": changed(columns),
        "method": refinement["method"] or "", "used": bool(refinement["used"]), "reason": refinement["reason"] or "",
        "crops": [boxes.of(crop) for crop in refinement["crops"] or []],
        "candidates": [_candidate(one, boxes) for one in columns["candidates"] or []],
        "regions": [_region(*one, boxes) for one in with_attributes(columns["regions"] or [])],
        "truth": list(row.truth.references) if row.truth else [], "truth_boxes": _true_boxes(row.truth, boxes),
        "right": row.right, "scores": {name: _short(value) for name, value in row.scores.items()},
        "images": images, "lacking": row.lacking, "failed": columns["status"] != Status.OK,
        "address": row.address, "sha256": columns["image_sha256"], "size": [columns["image_width"], columns["image_height"]],
        "views": columns["views"], "tokens": columns["visual_tokens"], "calibrated": columns["calibrated"],
    }  # fmt: skip


def changed(columns: Mapping[str, Any]) -> bool:
    """Whether looking closer gave another answer than the first look."""
    return columns["baseline_answer"] is not None and columns["answer"] != columns["baseline_answer"]


@dataclass(frozen=True)
class _Fractions:
    """Turns boxes in pixels of a picture into fractions of it; there are none where its size is not known."""

    width: int | None
    height: int | None

    def of(self, box: Mapping[str, float] | None) -> list[float] | None:
        return None if box is None else self.corners([box[name] for name in ("x0", "y0", "x1", "y1")])

    def corners(self, box_px: Sequence[float]) -> list[float] | None:
        if not self.width or not self.height:
            return None
        sides = (self.width, self.height, self.width, self.height)
        return [round(min(max(_finite(edge) / side, 0.0), 1.0), 5) for edge, side in zip(box_px, sides, strict=True)]


def _candidate(one: Mapping[str, Any], boxes: _Fractions) -> dict[str, Any]:
    numbers = {"logprob": one["logprob"], "entropy": one["entropy"], "iou": one["predicted_iou"]}
    said = {"text": one["text"], "box": boxes.of(one["box"]), "chosen": bool(one["chosen"])}
    return said | {name: _short(value) for name, value in numbers.items()}


def _region(one: Mapping[str, Any], attributes: Sequence[Mapping[str, Any]], boxes: _Fractions) -> dict[str, Any]:
    said = {"text": one["text"], "label": one["label"], "kind": one["kind"]}
    of_it = [{"name": own["label"], "text": own["text"], "sure": _short(own["confidence"])} for own in attributes]
    return said | {"box": boxes.of(one["box"]), "sure": _short(one["confidence"]), "attributes": of_it}


def _true_boxes(truth: Truth | None, boxes: _Fractions) -> list[dict[str, Any]]:
    return [{"box": boxes.corners(one.box_px), "label": one.label} for one in truth.boxes] if truth else []


def _short(value: float | None) -> float | None:
    return None if value is None else round(_finite(value), 4)


def _finite(value: float) -> float:
    if not isfinite(value):
        raise ValueError(f"a result holds the number {value}; expected a finite one")
    return float(value)
