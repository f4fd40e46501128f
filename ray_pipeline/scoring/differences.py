"""Two sets of scores of the same rows, compared row by row: before and after refinement, or two runs on one manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ray_pipeline.scoring.bootstrap import Draws, Interval, divided, interval, p_value
from ray_pipeline.scoring.mcnemar import mcnemar
from ray_pipeline.scoring.measures import MEASURES
from ray_pipeline.scoring.share import Share
from ray_pipeline.scoring.tables import arrays


@dataclass(frozen=True)
class Difference:
    """`value` minus `other` over the rows that have both, with the interval and p-value of the same draws on both sides.

    `won` rows are better than in the other set, `lost` worse. `mcnemar` is there for scores of right and wrong.
    """

    rows: int
    value: float
    other: float
    difference: float
    interval: Interval | None
    p: float | None
    won: int
    lost: int
    mcnemar: float | None


def differences(
    rows: Sequence[Mapping[str, Share]], others: Sequence[Mapping[str, Share]], names: Sequence[str], draws: Draws
) -> dict[str, Difference]:
    """By score, those that some row has in both sets.

    Raises:
        ValueError: the sets are not equally long.
    """
    if len(rows) != len(others):
        raise ValueError(f"{len(rows)} and {len(others)} rows, expected the same ones")
    there, parts, wholes = arrays(rows, names)
    there_too, other_parts, other_wholes = arrays(others, names)
    both = there & there_too
    kept = [place for place in range(len(names)) if both[:, place].any()]
    if not kept:
        return {}
    sides = [(p * both)[:, kept] for p in (parts, wholes, other_parts, other_wholes)]
    drawn = draws.ratios(sides[0], sides[1]) - draws.ratios(sides[2], sides[3])
    sums = [side.sum(axis=0) for side in sides]
    values, other_values = divided(sums[0], sums[1]), divided(sums[2], sums[3])
    found = {}
    for column, place in enumerate(kept):
        if np.isnan(values[column] - other_values[column]):
            continue
        gain = divided(sides[0][:, column], sides[1][:, column]) - divided(sides[2][:, column], sides[3][:, column])
        gain = gain if MEASURES[names[place]].higher_is_better else -gain
        won, lost = int((gain > 0).sum()), int((gain < 0).sum())
        test = mcnemar(won, lost) if MEASURES[names[place]].binary else None
        found[names[place]] = Difference(
            rows=int(both[:, place].sum()), value=float(values[column]), other=float(other_values[column]),
            difference=float(values[column] - other_values[column]), interval=interval(drawn[:, column]),
            p=p_value(drawn[:, column]), won=won, lost=lost, mcnemar=test,
        )  # fmt: skip
    return found
