"""Lines of a page in the order in which people read them: columns of text one after the other, rows from left to right.

A page is split where a gutter, an upright strip that no line crosses, parts the most lines that follow each other: what is
above comes first, then the left side, the right side, and what is below; each again in the same way. Both sides must be
columns of text, several lines high and long enough: short labels with short amounts beside them are rows of a table or a
receipt, and read across. Boxes are x0, y0, x1, y1 in any one frame, y down.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from schemas.picture import Box

FEWEST = 3  # lines on each side of a gutter
LONG = 6.0  # heights of a line: the median line of a column of text is at least so wide, some dozen letters
GUTTER = 0.6  # heights of a line: the least width of a gutter
ROW = 0.5  # of the lower line's height that two lines of a row have in common
LOWEST = 0.3  # share of its box's height that a slanted line has at least
MOST_GUTTERS = 60  # candidates, the widest first


@dataclass(frozen=True)
class Ordered:
    """Indices of lines row by row, in the order read; the lines of one row from left to right."""

    rows: tuple[tuple[int, ...], ...]

    @property
    def order(self) -> tuple[int, ...]:
        """The indices in one sequence."""
        return tuple(k for row in self.rows for k in row)


def reading_order(boxes_px: Sequence[Box], columns: bool = True) -> Ordered:
    """Rows of lines as they are read; with `columns`, columns of text are read one after the other."""
    return Ordered(tuple(_blocks(list(range(len(boxes_px))), boxes_px, columns)))


def levelled(boxes_px: Sequence[Box], slopes: Sequence[float]) -> list[Box]:
    """Boxes as they would lie on the page if it were upright: moved by the page's slope, each as high as its letters.

    `slopes` are pixels that a line falls per pixel to the right; the page's is their median, long lines counting for more.
    """
    if not any(slopes):
        return list(boxes_px)
    slope = _weighted_median(slopes, [x1 - x0 for x0, _, x1, _ in boxes_px])
    level = []
    for (x0, y0, x1, y1), own in zip(boxes_px, slopes, strict=True):
        middle = (y0 + y1) / 2 - slope * (x0 + x1) / 2
        half = max(y1 - y0 - abs(own) * (x1 - x0), LOWEST * (y1 - y0)) / 2
        level.append((x0, middle - half, x1, middle + half))
    return level


def _weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    half, seen = sum(weights) / 2, 0.0
    for value, weight in sorted(zip(values, weights, strict=True)):
        seen += weight
        if seen >= half:
            return value
    return 0.0


def page_text(texts: Sequence[str], ordered: Ordered) -> str:
    """Rows as lines of text; what stands in one row is parted by a space."""
    return "\n".join(" ".join(texts[k] for k in row) for row in ordered.rows)


def _blocks(lines: list[int], boxes: Sequence[Box], columns: bool) -> Iterator[tuple[int, ...]]:
    split = _split(lines, boxes) if columns and len(lines) >= 2 * FEWEST else None
    if split is None:
        yield from _rows(lines, boxes)
        return
    for part in split:
        yield from _blocks(part, boxes, columns)


def _split(lines: list[int], boxes: Sequence[Box]) -> tuple[list[int], ...] | None:
    """Lines above, left of, right of and below the best gutter, or None where there is no column."""
    best: tuple[list[int], ...] | None = None
    most = 0
    for low, high in _gutters(lines, boxes):
        for run, above, below in _runs(lines, boxes, low, high):
            left = [k for k in run if boxes[k][2] <= low]
            right = [k for k in run if boxes[k][0] >= high]
            if len(run) > most and _is_column(left, boxes) and _is_column(right, boxes) and _side_by_side(left, right, boxes):
                best, most = (above, left, right, below), len(run)
    return best


def _gutters(lines: list[int], boxes: Sequence[Box]) -> list[tuple[float, float]]:
    """Strips between some line's right end and the next left end of one, the widest first."""
    narrowest = GUTTER * median(boxes[k][3] - boxes[k][1] for k in lines)
    starts = sorted({boxes[k][0] for k in lines})
    found: dict[float, float] = {}
    for end in sorted({boxes[k][2] for k in lines}):
        later = next((start for start in starts if start >= end + narrowest), None)
        if later is not None:
            found[later] = max(end, found.get(later, -1.0))
    pairs = sorted(((end, start) for start, end in found.items()), key=lambda pair: (pair[0] - pair[1], pair[0]))
    return pairs[:MOST_GUTTERS]


def _runs(lines: list[int], boxes: Sequence[Box], low: float, high: float) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Lines between those that cross a strip, with all above and all below them."""
    ordered = sorted(lines, key=lambda k: ((boxes[k][1] + boxes[k][3]) / 2, boxes[k][0], k))
    crossing = [place for place, k in enumerate(ordered) if boxes[k][0] < high and boxes[k][2] > low]
    edges = [-1, *crossing, len(ordered)]
    for before, after in pairwise(edges):
        if after - before > 2 * FEWEST:
            yield ordered[before + 1 : after], ordered[: before + 1], ordered[after:]


def _is_column(lines: list[int], boxes: Sequence[Box]) -> bool:
    if len(lines) < FEWEST:
        return False
    return median((boxes[k][2] - boxes[k][0]) / max(boxes[k][3] - boxes[k][1], 1e-6) for k in lines) >= LONG


def _side_by_side(left: list[int], right: list[int], boxes: Sequence[Box]) -> bool:
    """Whether two columns share half of the lower one's height; else one follows the other anyway."""
    (a0, a1), (b0, b1) = ((min(boxes[k][1] for k in own), max(boxes[k][3] for k in own)) for own in (left, right))
    return min(a1, b1) - max(a0, b0) >= ROW * min(a1 - a0, b1 - b0)


def _rows(lines: list[int], boxes: Sequence[Box]) -> list[tuple[int, ...]]:
    """Lines grouped by height on the page. Each is compared with its nearest neighbour in a row, so a slant does no harm."""
    rows: list[list[int]] = []
    for k in sorted(lines, key=lambda k: ((boxes[k][1] + boxes[k][3]) / 2, boxes[k][0], k)):
        fits = [(overlap, -place) for place, row in enumerate(rows) if (overlap := _beside(k, row, boxes)) >= ROW]
        if fits:
            rows[-max(fits)[1]].append(k)
        else:
            rows.append([k])
    rows = [sorted(row, key=lambda k: (boxes[k][0], k)) for row in rows]
    return [tuple(row) for row in sorted(rows, key=lambda row: min((boxes[k][1] + boxes[k][3]) / 2 for k in row))]


def _beside(k: int, row: list[int], boxes: Sequence[Box]) -> float:
    """Share of the lower line's height that a line has in common with its nearest neighbour in a row.

    0 where it stands over or under any line of that row for the most part.
    """
    x0, y0, x1, y1 = boxes[k]
    if any(min(x1, boxes[j][2]) - max(x0, boxes[j][0]) > ROW * min(x1 - x0, boxes[j][2] - boxes[j][0]) for j in row):
        return 0.0
    nearest = min(row, key=lambda j: max(boxes[j][0] - x1, x0 - boxes[j][2]))
    _, top, _, bottom = boxes[nearest]
    common = min(y1, bottom) - max(y0, top)
    return common / max(min(y1 - y0, bottom - top), 1e-6)
