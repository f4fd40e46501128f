"""A row of `answer` against its truth: the text against the references, the box against the reference boxes.

A row that failed said nothing and gave no box: it is wrong. Where a box is all that is asked, a row without one is a miss;
where the references ask for a text, a box counts if there is one. References without a letter say nothing about the text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ray_pipeline.scoring.anls import anls, exact_match
from ray_pipeline.scoring.edits import character_edits
from ray_pipeline.scoring.matching import SAME_BOX
from ray_pipeline.scoring.overlap import overlaps
from ray_pipeline.scoring.result_row import box_of, checked_boxes, groups_of
from ray_pipeline.scoring.scored_row import ScoredRow, Sureness
from ray_pipeline.scoring.share import Share
from ray_pipeline.scoring.studies import choosing, looking
from ray_pipeline.scoring.vqa_accuracy import vqa_accuracy
from schemas.picture import Box
from schemas.truth import Truth


def score_answer(row: Mapping[str, Any], truth: Truth, boxes_asked: bool = False) -> ScoredRow:
    """The scored row. `boxes_asked`: the prompt asks for a box, whatever the references say.

    Raises:
        ValueError: a reference box lies outside the picture.
    """
    texts = [reference for reference in truth.references if reference.strip()]
    boxes = checked_boxes(row, truth.boxes)
    true_px = [true.box_px for true in boxes]
    box_px, scores = box_of(row["box"]), _texts(row["answer"], texts)
    iou = float(overlaps([box_px], true_px).max()) if box_px and true_px else 0.0
    if true_px and (boxes_asked or not texts):
        scores["box_given"] = Share(float(box_px is not None))
    if true_px and (box_px or "box_given" in scores):
        scores |= {"acc_50": Share(float(iou >= SAME_BOX)), "mean_iou": Share(iou)}
    return ScoredRow(
        id=row["id"],
        page=row["page"],
        status=row["status"],
        groups=groups_of(row, boxes),
        scores=scores,
        before=_texts(row["baseline_answer"], texts) if row["baseline_answer"] is not None else {},
        studies=looking(row, true_px) | choosing(row, true_px) if true_px else {},
        sureness=tuple(_sureness(row, scores, box_px, iou, true_px)),
    )


def _texts(said: str | None, texts: Sequence[str]) -> dict[str, Share]:
    if not texts:
        return {}
    return {
        "anls": Share(anls(said or "", texts)),
        "vqa_accuracy": Share(vqa_accuracy(said or "", texts)),
        "exact_match": Share(exact_match(said or "", texts)),
        "cer": character_edits(said or "", texts),
    }


def _sureness(
    row: Mapping[str, Any], scores: Mapping[str, Share], box_px: Box | None, iou: float, true_px: Sequence[Box]
) -> list[Sureness]:
    found = []
    if row["answer_confidence"] is not None and "exact_match" in scores:
        found.append(Sureness("answer", row["answer_confidence"], bool(scores["exact_match"].part)))
    if row["box_confidence"] is not None and box_px and true_px:
        found.append(Sureness("box", row["box_confidence"], iou >= SAME_BOX))
    return found
