"""What a fault benchmark found: lines of a table, each with the bar it is held to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number. `n` is the number of trials behind it; with no failure in n trials the rate is below 3/n at 95 %."""

    name: str
    value: float
    bar: float
    n: int
    at_most: bool = True  # whether the value shall be at most the bar, or at least
    unit: str = ""

    @property
    def held(self) -> bool:
        """Whether the bar is kept."""
        return self.value <= self.bar if self.at_most else self.value >= self.bar


Figures = list[Figure]


def table(title: str, figures: Figures) -> str:
    """The figures as aligned lines, with n and, where nothing failed, the bound 3/n."""
    lines = [title]
    for one in figures:
        sign, bound = (
            "<=" if one.at_most else ">=",
            f"  rate < {3 / one.n:.2g}" if one.value == 0 and one.bar == 0 and one.n else "",
        )
        verdict = "" if one.held else "  MISSED"
        lines.append(f"  {one.name:<52} {one.value:>10.4g} {one.unit:<6} {sign} {one.bar:<8.4g} n={one.n}{bound}{verdict}")
    return "\n".join(lines)
