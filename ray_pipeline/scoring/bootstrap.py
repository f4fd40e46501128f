"""How far a score would move with other pictures: percentile intervals from seeded resampling of whole pictures.

Rows of one picture rise and fall together, so pictures are drawn, with replacement, each with all of its rows. Every score
is a sum of parts over a sum of wholes; the same draws serve all scores of a report, and so a difference of two of them is
taken draw by draw: it is paired. Legend: N rows, K pictures, C scores, B draws.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COVERAGE = 0.95
_CHUNK_VALUES = 1 << 20


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of the draws."""

    low: float
    high: float


class Draws:
    """The same `count` draws of pictures every time they are used.

    `pictures_N` names each row's picture.
    """

    def __init__(self, pictures_N: Sequence[Hashable], count: int, seed: int) -> None:
        if count < 1:
            raise ValueError(f"{count} draws, expected at least 1")
        places: dict[Hashable, int] = {}
        self._picture_N = np.array([places.setdefault(picture, len(places)) for picture in pictures_N], dtype=np.intp)
        self.pictures, self.count, self.seed = len(places), count, seed

    def ratios(self, parts_NC: Floats, wholes_NC: Floats) -> Floats:
        """Sum of parts over sum of wholes in every draw, (B, C); NaN where a draw has nothing of a score."""
        parts_KC, wholes_KC = self._by_picture(parts_NC), self._by_picture(wholes_NC)
        columns = parts_KC.shape[1]
        both = np.concatenate([parts_KC, wholes_KC], axis=1)
        sums = np.empty((self.count, 2 * columns))
        generator = np.random.default_rng(self.seed)
        chunk = max(1, _CHUNK_VALUES // max(1, self.pictures))
        for start in range(0, self.count, chunk):
            stop = min(start + chunk, self.count)
            sums[start:stop] = self._draw(generator, stop - start) @ both
        return divided(sums[:, :columns], sums[:, columns:])

    def _draw(self, generator: np.random.Generator, count: int) -> Floats:
        """How often each picture is drawn in so many draws, (count, K)."""
        drawn = generator.integers(self.pictures, size=(count, self.pictures)) if self.pictures else np.empty((count, 0), np.intp)
        places = drawn + self.pictures * np.arange(count)[:, None]
        times = np.bincount(places.ravel(), minlength=count * self.pictures)
        return times.reshape(count, self.pictures).astype(np.float64)

    def _by_picture(self, values_NC: Floats) -> Floats:
        sums_KC = np.zeros((self.pictures, values_NC.shape[1]))
        np.add.at(sums_KC, self._picture_N, values_NC)
        return sums_KC


def divided(parts: Floats, wholes: Floats) -> Floats:
    """Element by element; NaN where the whole is 0."""
    return np.divide(parts, wholes, out=np.full_like(parts, np.nan), where=wholes > 0)


def interval(values_B: Floats) -> Interval | None:
    """None where the draws cannot tell: fewer than half of them have the score, or all agree."""
    there = values_B[~np.isnan(values_B)]
    if 2 * there.size < values_B.size or not there.size or np.ptp(there) < 1e-12:
        return None
    low, high = np.quantile(there, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(float(low), float(high))


def p_value(differences_B: Floats) -> float | None:
    """Two-sided: twice the share of draws on the rarer side of no difference, at most 1. None where no draw has it."""
    there = differences_B[~np.isnan(differences_B)]
    if not there.size:
        return None
    rarer = min(int((there <= 0).sum()), int((there >= 0).sum()))
    return float(min(1.0, 2 * (rarer + 1) / (there.size + 1)))
