"""Whether confidences mean what they say: expected calibration error, Brier score, and the rows of a reliability diagram."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Answers with confidences in [low, high): how many, their mean confidence, and the share of right ones.

    The last bin includes its upper bound.
    """

    low: float
    high: float
    rows: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """`error` weighs each bin's gap by its rows: with bins of equal width, and with bins of about equally many rows."""

    rows: int
    confidence: float
    right: float
    brier: float
    width_error: float
    mass_error: float
    width_bins: tuple[Bin, ...]
    mass_bins: tuple[Bin, ...]


def reliability(confidences: Sequence[float], right: Sequence[bool]) -> Reliability | None:
    """None where there is no confidence. Equal confidences always share a bin.

    Raises:
        ValueError: the two are not equally long, or a confidence is outside 0..1.
    """
    if len(confidences) != len(right):
        raise ValueError(f"{len(confidences)} confidences and {len(right)} outcomes, expected equally many")
    sure, hit = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not sure.size:
        return None
    if not (sure.min() >= 0 and sure.max() <= 1):
        raise ValueError(f"confidences from {sure.min()} to {sure.max()}, expected 0..1")
    width_bins = _bins(sure, hit, np.linspace(0, 1, BINS + 1))
    mass_bins = _bins(sure, hit, np.unique(np.quantile(sure, np.linspace(0, 1, BINS + 1))))
    return Reliability(
        rows=sure.size,
        confidence=float(sure.mean()),
        right=float(hit.mean()),
        brier=float(((sure - hit) ** 2).mean()),
        width_error=_error(width_bins),
        mass_error=_error(mass_bins),
        width_bins=width_bins,
        mass_bins=mass_bins,
    )


def _bins(sure: NDArray[np.float64], hit: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[Bin, ...]:
    """Those with rows in them; one edge alone is a bin of one value."""
    inner = edges[1:-1]
    place = np.searchsorted(inner, sure, side="right")
    return tuple(
        Bin(
            float(edges[number]), float(edges[min(number + 1, edges.size - 1)]), int(members.sum()),
            float(sure[members].mean()), float(hit[members].mean()),
        )
        for number in range(max(1, edges.size - 1))
        if (members := place == number).any()
    )  # fmt: skip


def _error(bins: tuple[Bin, ...]) -> float:
    return sum(one.rows * abs(one.confidence - one.right) for one in bins) / sum(one.rows for one in bins)
