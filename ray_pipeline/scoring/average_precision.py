"""Average precision and recall of boxes over a whole run, as COCO defines them, with sizes by share of the picture's area.

Counted by faster-coco-eval, whose area ranges compare whatever stands under `area`: here it is the share of the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from ray_pipeline.scoring.overlap import area_of
from ray_pipeline.scoring.sizes import SIZES
from schemas.picture import Box

MOST_FOUND = 10_000  # boxes of one page, the surest first: pages have more lines than COCO's pictures have things
THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class Found:
    """A predicted box. `confidence` orders them; boxes without one come last, in the order given."""

    box_px: Box
    label: str
    confidence: float | None


@dataclass(frozen=True)
class Page:
    """One picture: predicted boxes, and the true ones with their labels.

    `area_px` is the picture's; where it is unknown (the file could not be read) its boxes count among `all` sizes only.
    """

    area_px: float | None
    found: tuple[Found, ...]
    true: tuple[tuple[Box, str], ...]


def average_precision(pages: Sequence[Page]) -> dict[str, dict[str, float | None]]:
    """`ap` (mean over overlaps 0.5 to 0.95), `ap_50` and `ar` by size (`all` and those of SIZES), means over labels.

    None where there is no true box of the size.
    """
    labels = sorted({label for page in pages for _, label in page.true})
    if not labels:
        return {size: dict.fromkeys(("ap", "ap_50", "ar")) for size in ("all", *SIZES)}
    evaluation = _evaluated(pages, {label: place for place, label in enumerate(labels, 1)})
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]  # (T, R, K, A, M), (T, K, A, M); -1 = none
    return {
        size: {
            "ap": _mean(precision[:, :, :, place, 0]),
            "ap_50": _mean(precision[0, :, :, place, 0]),
            "ar": _mean(recall[:, :, place, 0]),
        }
        for place, size in enumerate(("all", *SIZES))
    }


def _evaluated(pages: Sequence[Page], numbers: dict[str, int]) -> Any:
    images = [{"id": place, "width": 1, "height": 1} for place in range(1, len(pages) + 1)]
    categories = [{"id": number, "name": label} for label, number in numbers.items()]
    true = [
        _annotation(image, page, box_px, numbers[label]) for image, page in enumerate(pages, 1) for box_px, label in page.true
    ]
    found = [
        _annotation(image, page, one.box_px, numbers[one.label]) | {"score": -1.0 if one.confidence is None else one.confidence}
        for image, page in enumerate(pages, 1)
        for one in page.found
        if one.label in numbers  # a label that is nowhere true has no average precision
    ]
    evaluation = COCOeval_faster(_dataset(images, categories, true), _dataset(images, categories, found), iouType="bbox")
    evaluation.params.maxDets = [MOST_FOUND]
    evaluation.params.iouThrs = THRESHOLDS
    evaluation.params.areaRng = [[-1.0, 1e10], *_ranges()]
    evaluation.params.areaRngLbl = ["all", *SIZES]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _ranges() -> list[list[float]]:
    """Both bounds count for COCO: the upper one is moved just below, as in `sizes`."""
    return [[low, 1e10 if stop == 1 else float(np.nextafter(stop, 0))] for low, stop in SIZES.values()]


def _annotation(image: int, page: Page, box_px: Box, number: int) -> dict[str, Any]:
    x0, y0, x1, y1 = map(float, box_px)
    share = area_of(box_px) / page.area_px if page.area_px else -1.0
    return {"image_id": image, "category_id": number, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": share, "iscrowd": 0}


def _dataset(images: list[dict[str, Any]], categories: list[dict[str, Any]], boxes: list[dict[str, Any]]) -> Any:
    numbered = [{"id": number, **box} for number, box in enumerate(boxes, 1)]
    return COCO({"images": images, "categories": categories, "annotations": numbered})


def _mean(values: Any) -> float | None:
    """Over what is there: -1 marks what is not."""
    there = values[values > -1]
    return float(there.mean()) if there.size else None
