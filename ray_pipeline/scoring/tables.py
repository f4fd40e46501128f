"""Scores of all rows and of groups of rows, each with its number of rows and its bootstrap interval.

Legend: N rows, C columns (a score of a group), B draws.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ray_pipeline.scoring.bootstrap import Draws, Floats, Interval, divided, interval, p_value
from ray_pipeline.scoring.scored_row import ScoredRow
from ray_pipeline.scoring.share import Share


@dataclass(frozen=True)
class Score:
    """The sum of parts over the sum of wholes of these many rows; None where nothing could be scored."""

    rows: int
    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Group:
    """Rows that are counted together."""

    name: str
    rows: int
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Contrast:
    """How much higher a score is in one group of rows than in another; the same draws on both sides."""

    difference: float
    interval: Interval | None
    p: float | None


Shares = Callable[[ScoredRow], Mapping[str, Share]]


def scores_of(row: ScoredRow) -> Mapping[str, Share]:
    """The row's own scores: what tables show unless told otherwise."""
    return row.scores


def groups(
    rows: Sequence[ScoredRow], names: Sequence[str], draws: Draws, key: Callable[[ScoredRow], str], shares: Shares = scores_of
) -> list[Group]:
    """One group for each value of `key`, in alphabetical order, with the scores `names` that any of its rows has."""
    keys = np.array([key(row) for row in rows])
    members = {name: keys == name for name in sorted(set(keys.tolist()))}
    there, parts, wholes = arrays(map(shares, rows), names)
    columns = [(group, place) for group in members for place in range(len(names)) if there[members[group], place].any()]
    if not columns:
        return [Group(name, int(mask.sum()), {}) for name, mask in members.items()]
    masks = np.stack([members[group] & there[:, place] for group, place in columns], axis=1)
    places = [place for _, place in columns]
    drawn = draws.ratios(parts[:, places] * masks, wholes[:, places] * masks)
    values = divided((parts[:, places] * masks).sum(axis=0), (wholes[:, places] * masks).sum(axis=0))
    scores: dict[str, dict[str, Score]] = {name: {} for name in members}
    for column, (group, place) in enumerate(columns):
        value = None if np.isnan(values[column]) else float(values[column])
        scores[group][names[place]] = Score(int(masks[:, column].sum()), value, interval(drawn[:, column]))
    return [Group(name, int(mask.sum()), scores[name]) for name, mask in members.items()]


def contrasts(
    rows: Sequence[ScoredRow],
    names: Sequence[str],
    draws: Draws,
    high: Callable[[ScoredRow], bool],
    low: Callable[[ScoredRow], bool],
) -> dict[str, Contrast]:
    """Each score of the rows `high` minus that of the rows `low`, where both have it."""
    there, parts, wholes = arrays(map(scores_of, rows), names)
    sides = [np.array([side(row) for row in rows], dtype=bool)[:, None] & there for side in (high, low)]
    both = [place for place in range(len(names)) if all(side[:, place].any() for side in sides)]
    if not both:
        return {}
    drawn = [draws.ratios((parts * side)[:, both], (wholes * side)[:, both]) for side in sides]
    values = [divided((parts * side)[:, both].sum(axis=0), (wholes * side)[:, both].sum(axis=0)) for side in sides]
    difference, difference_BC = values[0] - values[1], drawn[0] - drawn[1]
    return {
        names[place]: Contrast(float(difference[column]), interval(difference_BC[:, column]), p_value(difference_BC[:, column]))
        for column, place in enumerate(both)
        if not np.isnan(difference[column])
    }


def arrays(
    rows: Iterable[Mapping[str, Share]], names: Sequence[str]
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.bool_]], Floats, Floats]:
    """Which rows have which score, and parts and wholes (0 where not), each (N, C)."""
    listed = list(rows)
    there = np.array([[name in row for name in names] for row in listed], dtype=bool).reshape(len(listed), len(names))
    nothing = Share(0, 0)
    shares = np.array([[row.get(name, nothing) for name in names] for row in listed], dtype=np.float64)
    shares = shares.reshape(len(listed), len(names), 2)
    return there, shares[..., 0], shares[..., 1]
