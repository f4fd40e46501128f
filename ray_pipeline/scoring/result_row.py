"""What scoring reads of a result row: boxes as tuples, reference boxes checked against the picture, the row's groups."""

from collections.abc import Mapping, Sequence
from typing import Any

from ray_pipeline.scoring.scored_row import Groups
from ray_pipeline.scoring.sizes import relative_area, size_of
from schemas.picture import Box
from schemas.status import Status
from schemas.truth import TrueBox

SLACK_PX = 1.0  # annotators count edges as pixels, and a box may end one further


def box_of(value: Mapping[str, float] | None) -> Box | None:
    """A result's box as a tuple."""
    return None if value is None else (value["x0"], value["y0"], value["x1"], value["y1"])


def checked_boxes(row: Mapping[str, Any], boxes: Sequence[TrueBox]) -> tuple[TrueBox, ...]:
    """The reference boxes, once they are known to lie inside the picture; its size is unknown where it could not be read.

    Raises:
        ValueError: a box lies outside, by more than rounding.
    """
    right, below = row["image_width"] or float("inf"), row["image_height"] or float("inf")
    for true in boxes:
        x0, y0, x1, y1 = true.box_px
        if min(x0, y0) < -SLACK_PX or x1 > right + SLACK_PX or y1 > below + SLACK_PX:
            box, size = f"{x0:g}, {y0:g}, {x1:g}, {y1:g}", f"{right:g} x {below:g}"
            raise ValueError(f"row {row['id']!r}: reference box {box}, expected one inside the picture of {size} px")
    return tuple(boxes)


def groups_of(row: Mapping[str, Any], boxes: Sequence[TrueBox]) -> Groups:
    """Its size, the method and fate of its refinement, its picture: the file's digest, its address where that is unknown."""
    refinement = row["refinement"] or {"method": "none", "crops": [], "used": False}
    failed = row["status"] != Status.OK
    if failed:
        refined = "failed"
    elif not refinement["crops"]:
        refined = "no crop"
    else:
        refined = "used" if refinement["used"] else "not used"
    return Groups(
        picture=row["image_sha256"] or row["image_uri"],
        size=size_of(area_shares(row, boxes)),
        method="failed" if failed else refinement["method"],
        refined=refined,
    )


def area_shares(row: Mapping[str, Any], boxes: Sequence[TrueBox]) -> list[float]:
    """Each box's share of the picture's area; none where the picture's size is unknown."""
    if not row["image_width"] or not row["image_height"]:
        return []
    return [relative_area(true.box_px, row["image_width"], row["image_height"]) for true in boxes]
