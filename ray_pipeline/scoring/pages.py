"""A row of `ocr` against its truth: the page's text against the references, its lines against the reference boxes.

A page that failed has no text and no lines: everything on it is missed. Here an empty reference counts: an empty page.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ray_pipeline.scoring.average_precision import Found, Page
from ray_pipeline.scoring.edits import character_edits, word_edits
from ray_pipeline.scoring.matching import found_boxes, matches
from ray_pipeline.scoring.result_row import box_of, checked_boxes, groups_of
from ray_pipeline.scoring.scored_row import ScoredRow, Sureness
from ray_pipeline.scoring.share import Share
from ray_pipeline.scoring.words import found_words
from schemas.picture import Box
from schemas.truth import TrueBox

LINE = "line"  # the one label lines are found under: what a reference box is labelled with is its text


def score_page(row: Mapping[str, Any], references: Sequence[str], true: Sequence[TrueBox]) -> ScoredRow:
    """The scored page; several references are accepted texts of the same page.

    Raises:
        ValueError: a reference box lies outside the picture.
    """
    boxes = checked_boxes(row, true)
    regions = [(box_of(region["box"]), region["confidence"]) for region in row["regions"] or ()]
    found = [(box_px, confidence) for box_px, confidence in regions if box_px is not None]
    partner = matches([box_px for box_px, _ in found], [one.box_px for one in boxes])
    return ScoredRow(
        id=row["id"],
        page=row["page"],
        status=row["status"],
        groups=groups_of(row, boxes),
        scores=_texts(row["answer"] or "", references) | (_lines(partner, len(boxes)) if boxes else {}),
        sureness=tuple(
            Sureness("line", confidence, place is not None)
            for (_, confidence), place in zip(found, partner, strict=True)
            if boxes and confidence is not None
        ),
        boxes=_page(row, found, boxes) if boxes else None,
    )


def _texts(said: str, references: Sequence[str]) -> dict[str, Share]:
    if not references:
        return {}
    best = max((found_words(said, reference) for reference in references), key=lambda shares: shares[2].value or 0.0)
    precision, recall, f1 = best
    edits = {"cer": character_edits(said, references), "wer": word_edits(said, references)}
    return {"word_f1": f1, "word_precision": precision, "word_recall": recall} | edits


def _lines(partner: Sequence[int | None], true: int) -> dict[str, Share]:
    precision, recall, f1 = found_boxes(partner, true)
    return {"line_f1": f1, "line_precision": precision, "line_recall": recall}


def _page(row: Mapping[str, Any], found: Sequence[tuple[Box, float | None]], boxes: Sequence[TrueBox]) -> Page:
    area_px = float(row["image_width"] * row["image_height"]) if row["image_width"] and row["image_height"] else None
    lines = tuple(Found(box_px, LINE, confidence) for box_px, confidence in found)
    return Page(area_px, lines, tuple((one.box_px, LINE) for one in boxes))
