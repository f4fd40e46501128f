"""Two studies on a finished run's own columns: did the crop hold what was asked about, and did the choice pay?

`looking` follows the attention ratio of the ViCrop paper (section 4, figure 3) with the crop in the place of the map: the
share of the true box inside the crop, over the mean of that share over every place a box of that size could have. 1 is chance.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ray_pipeline.scoring.matching import SAME_BOX
from ray_pipeline.scoring.overlap import area_of, covered, overlaps
from ray_pipeline.scoring.result_row import box_of
from ray_pipeline.scoring.share import Share
from schemas.picture import Box

WHOLE = 0.95  # share of a box from which a crop holds it


def looking(row: Mapping[str, Any], true_px: Sequence[Box]) -> dict[str, Share]:
    """How well the best crop holds the best held true box; {} where there was no crop."""
    crops = [crop for crop in map(box_of, (row["refinement"] or {}).get("crops") or ()) if crop]
    if not crops or not true_px:
        return {}
    width, height = float(row["image_width"]), float(row["image_height"])
    inside, chance, crop = max(
        (covered(true, crop), _chance(true, crop, width, height), crop) for crop in crops for true in true_px
    )
    return {
        "crop_inside": Share(inside),
        "crop_holds": Share(float(inside >= WHOLE)),
        "crop_chance": Share(chance),
        "crop_ratio": Share(inside, chance),
        "crop_area": Share(area_of(crop), width * height),
    }


def choosing(row: Mapping[str, Any], true_px: Sequence[Box]) -> dict[str, Share]:
    """Acc@0.5 of the chosen candidate, of one drawn at random, of the likeliest and of the best; {} without a choice."""
    boxed = [candidate for candidate in row["candidates"] or () if candidate["box"]]
    chosen = [place for place, candidate in enumerate(boxed) if candidate["chosen"]]
    if len(boxed) < 2 or len(chosen) != 1 or not true_px:
        return {}
    hits = overlaps([box_of(candidate["box"]) or (0, 0, 0, 0) for candidate in boxed], true_px).max(axis=1) >= SAME_BOX
    likeliest = max(range(len(boxed)), key=lambda place: boxed[place]["logprob"])
    return {
        "chosen_acc_50": Share(float(hits[chosen[0]])),
        "random_acc_50": Share(float(hits.mean())),
        "likeliest_acc_50": Share(float(hits[likeliest])),
        "best_acc_50": Share(float(hits.any())),
    }


def _chance(true: Box, crop: Box, width: float, height: float) -> float:
    """The mean share of a box of this size inside the crop, over all places it could have in the picture."""
    x0, y0, x1, y1 = true
    return mean_cover(x1 - x0, crop[0], crop[2], width) * mean_cover(y1 - y0, crop[1], crop[3], height)


def mean_cover(side: float, low: float, high: float, length: float) -> float:
    """One direction: a stretch of `side` slides from 0 to `length`; the mean share of it between `low` and `high`.

    A point t is covered in a share (min(t, room) - max(t - side, 0)) / room of all places, which is integrated over t.
    """
    room = length - side
    if room <= 0:
        return (high - low) / length

    def until(t: float) -> float:
        rising = t * t / 2 if t <= room else room * room / 2 + room * (t - room)
        return rising - max(t - side, 0.0) ** 2 / 2

    return (until(high) - until(low)) / (room * side)
