"""What a confidence is worth, from rows whose answers are known to be right or wrong: isotonic regression, measured elsewhere.

The curve only rises: no answer overtakes a surer one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sklearn.isotonic import IsotonicRegression

from ray_pipeline.scoring.reliability import Reliability, reliability
from ray_pipeline.scoring.scored_row import Sureness
from schemas.profile import ConfidenceMap

LEAST_ROWS = 50  # to fit on; fewer make a curve of chance
LEAST_OF_EACH = 5  # right and wrong answers among them
LEAST_HELD_OUT = 20  # rows to measure on


class TooFew(ValueError):
    """Something could not be learned from so few rows; the message says what was found and what was expected."""


@dataclass(frozen=True)
class Calibrated:
    """A map, and how it did on held-back rows: the same answers before and after it."""

    map: ConfidenceMap
    before: Reliability
    after: Reliability


def calibrated(fit: Sequence[Sureness], held_out: Sequence[Sureness]) -> Calibrated:
    """The map fitted on some rows and measured on others.

    Raises:
        TooFew: of `LEAST_ROWS`, `LEAST_OF_EACH` or `LEAST_HELD_OUT`.
    """
    right = sum(one.right for one in fit)
    if len(fit) < LEAST_ROWS:
        raise TooFew(f"{len(fit)} rows to fit on, expected at least {LEAST_ROWS}")
    if min(right, len(fit) - right) < LEAST_OF_EACH:
        raise TooFew(f"{right} of {len(fit)} rows are right, expected at least {LEAST_OF_EACH} right and as many wrong ones")
    if len(held_out) < LEAST_HELD_OUT:
        raise TooFew(f"{len(held_out)} held-back rows, expected at least {LEAST_HELD_OUT}")
    knots, shares = fitted([one.confidence for one in fit], [one.right for one in fit])
    known = dict(knots=knots, shares=shares, rows=len(fit), held_out=len(held_out))
    bare = ConfidenceMap.model_validate(known | {"before": 0.0, "after": 0.0})
    hits = [one.right for one in held_out]
    before = reliability([one.confidence for one in held_out], hits)
    after = reliability([bare.of(one.confidence) for one in held_out], hits)
    if before is None or after is None:
        raise TooFew("0 held-back rows, expected some")
    errors = {"before": before.width_error, "after": after.width_error}
    return Calibrated(ConfidenceMap.model_validate(known | errors), before, after)


def fitted(confidences: Sequence[float], right: Sequence[bool]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots, rising, and the share of right answers at each, never falling; both in 0..1.

    One wrong answer beside the surest and one right beside the least sure are thought added: however many rows agree, the
    next one may not, and no share becomes 0 or 1.
    """
    said = [*confidences, max(confidences), min(confidences)]
    hits = [*map(float, right), 0.0, 1.0]
    curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(said, hits)
    shares = {float(x): float(min(1.0, max(0.0, y))) for x, y in zip(curve.X_thresholds_, curve.y_thresholds_, strict=True)}
    return tuple(shares), tuple(shares.values())
