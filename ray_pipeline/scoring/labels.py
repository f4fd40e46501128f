"""A row of `label` against its truth: the boxes of each phrase against the reference boxes that carry it as their label.

Case and white space of a phrase do not count. What was said of a box, its attributes, are no boxes. A row that failed has
none: every phrase on it is missed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ray_pipeline.scoring.matching import found_boxes, matches
from ray_pipeline.scoring.result_row import box_of, checked_boxes, groups_of
from ray_pipeline.scoring.scored_row import ScoredRow, Sureness
from ray_pipeline.scoring.share import Share
from ray_pipeline.scoring.spelling import folded
from schemas.labelling import ATTRIBUTE
from schemas.picture import Box
from schemas.truth import TrueBox

_Found = tuple[Box, float | None]


def score_labels(row: Mapping[str, Any], true: Sequence[TrueBox]) -> ScoredRow:
    """The scored row; without reference boxes there is nothing to compare with.

    Raises:
        ValueError: a reference box lies outside the picture, or has no label.
    """
    boxes = checked_boxes(row, true)
    if any(not folded(one.label) for one in boxes):
        raise ValueError(f"row {row['id']!r}: a reference box has no label, expected the phrase that it belongs to")
    found, wanted = _found(row), _wanted(boxes)
    pairs = {phrase: _partners(found.get(phrase, []), wanted.get(phrase, [])) for phrase in found.keys() | wanted.keys()}
    return ScoredRow(
        id=row["id"],
        page=row["page"],
        status=row["status"],
        groups=groups_of(row, boxes),
        scores=_scores(found, wanted, pairs) if boxes else {},
        sureness=tuple(
            Sureness("label", confidence, place is not None)
            for phrase in found
            for (_, confidence), place in zip(found[phrase], pairs[phrase], strict=True)
            if boxes and confidence is not None
        ),
    )


def _found(row: Mapping[str, Any]) -> dict[str, list[_Found]]:
    """A row's boxes by phrase, the surest first."""
    found: dict[str, list[_Found]] = {}
    for region in row["regions"] or ():
        box_px = box_of(region["box"])
        if box_px is not None and region["kind"] != ATTRIBUTE:
            found.setdefault(folded(region["label"] or ""), []).append((box_px, region["confidence"]))
    return {phrase: sorted(own, key=lambda one: -(one[1] or 0.0)) for phrase, own in found.items()}


def _wanted(boxes: Sequence[TrueBox]) -> dict[str, list[Box]]:
    wanted: dict[str, list[Box]] = {}
    for one in boxes:
        wanted.setdefault(folded(one.label), []).append(one.box_px)
    return wanted


def _partners(found: Sequence[_Found], true: Sequence[Box]) -> list[int | None]:
    return matches([box_px for box_px, _ in found], true)


def _scores(
    found: Mapping[str, Sequence[_Found]], wanted: Mapping[str, Sequence[Box]], pairs: Mapping[str, Sequence[int | None]]
) -> dict[str, Share]:
    everywhere = [place for phrase in sorted(pairs) for place in pairs[phrase]]
    precision, recall, f1 = found_boxes(everywhere, sum(len(true) for true in wanted.values()))
    surest = sum(_partners(found.get(phrase, ())[:1], true) not in ([], [None]) for phrase, true in wanted.items())
    return {
        "phrase_acc_50": Share(surest, len(wanted)), "label_f1": f1, "label_precision": precision, "label_recall": recall,
    }  # fmt: skip
