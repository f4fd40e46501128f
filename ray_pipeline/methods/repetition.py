"""A model that writes may get caught in a loop: the same words, or the same lines, until its room is used up.

    within a line    a stretch that follows itself many times is cut to two times; dotted leaders and rules are left alone
    across lines     a cycle of lines that begins anew again and again is cut to one, where nothing says they are others:
                     their boxes are the same again, or are no boxes of their own

Equal lines with boxes of their own are what a table's column of equal amounts is, and stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray_pipeline.models.contract import TextLine
from schemas.picture import Box

LONGEST = 80  # characters of a stretch
TIMES = 8  # a stretch that follows itself so often is a loop
COVERED = 32  # characters that it covers then at least: `haha` and `000000` are words
CYCLE = 12  # lines of a cycle
CYCLES = 4  # times that it is written
SAME_PLACE = 0.5  # overlap from which two boxes are the same again


@dataclass(frozen=True)
class Guarded:
    """Lines without their loops; `looped` says that there were any."""

    lines: tuple[TextLine, ...]
    looped: bool


def without_loops(lines: Sequence[TextLine], placed: bool) -> Guarded:
    """The lines of one reading without what was only written because it had been written before.

    Not `placed`: their boxes are no evidence.
    """
    cut = [replace(line, text=within_reason(line.text)) for line in lines]
    kept = _without_cycles(cut, placed)
    return Guarded(tuple(kept), len(kept) < len(lines) or any(a.text != b.text for a, b in zip(cut, lines, strict=True)))


def within_reason(text: str) -> str:
    """A text in which no stretch with a letter or digit follows itself 8 times and over 32 characters; at most twice then."""
    start = 0
    while start < len(text):
        found = _loop(text, start)
        if found is None:
            return text
        first, period, length = found
        text = text[: first + 2 * period] + text[first + length :]
        start = first + 2 * period
    return text


def _loop(text: str, start: int) -> tuple[int, int, int] | None:
    """The first loop behind `start`: where it begins, its stretch's length, and all that it covers. The shortest stretch."""
    for period in range(1, min(LONGEST, (len(text) - start) // TIMES) + 1):
        run = 0
        for k in range(start + period, len(text) + 1):
            if k < len(text) and text[k] == text[k - period]:
                run += 1
                continue
            first, length = k - run - period, run + period
            if run and length >= max(COVERED, TIMES * period) and _says_something(text[first : first + period]):
                return first, period, length - length % period
            run = 0
    return None


def _says_something(stretch: str) -> bool:
    return any(character.isalnum() for character in stretch)


def _without_cycles(lines: list[TextLine], placed: bool) -> list[TextLine]:
    kept: list[TextLine] = []
    k = 0
    while k < len(lines):
        period, count = _cycle(lines, k, placed)
        kept += lines[k : k + max(1, period)]
        k += period * count if count else 1
    return kept


def _cycle(lines: list[TextLine], start: int, placed: bool) -> tuple[int, int]:
    """Lines of the shortest cycle that begins here, and how often it is written; 0, 0 where there is none."""
    for period in range(1, min(CYCLE, (len(lines) - start) // CYCLES) + 1):
        count = 1
        while all(
            start + count * period + k < len(lines)
            and _again(lines[start + count * period + k], lines[start + (count - 1) * period + k], placed)
            for k in range(period)
        ):
            count += 1
        if count >= CYCLES:
            return period, count
    return 0, 0


def _again(line: TextLine, before: TextLine, placed: bool) -> bool:
    return line.text == before.text and (not placed or _overlap(line.box_px, before.box_px) >= SAME_PLACE)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    common = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0
