"""What one row adds to a score: a score is the sum of parts over the sum of wholes, over any set of rows.

A mean is the case of wholes of 1. So one bootstrap serves means, error rates and F1 alike.
"""

from typing import NamedTuple


class Share(NamedTuple):
    """`part` of `whole`; neither is negative. Where `whole` is 0 the row adds errors only, or nothing."""

    part: float
    whole: float = 1.0

    @property
    def value(self) -> float | None:
        """The row's own score; None where it has none."""
        return self.part / self.whole if self.whole else None
