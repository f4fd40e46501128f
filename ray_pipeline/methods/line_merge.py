"""Lines read in overlapping tiles, at one scale or several, become one list: nothing twice, nothing lost at a seam.

    cut lengthwise     half the height of a line shows at a tile's upper or lower edge: its whole sighting stands
    seen twice         boxes overlap and texts are alike: the surer reading stands
    seen in part       a piece within a longer sighting of the same line is dropped
    cut across         pieces of a long line on both sides of a seam are joined by the text that both have seen

A seam is an edge of a tile inside the picture. Boxes are x0, y0, x1, y1 in pixels of the original upright picture.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from ray_pipeline.methods.text_stitch import SURE, Stitched, alike, part_alike, stitched
from ray_pipeline.models.contract import TextLine
from schemas.picture import Box

AT_END = 1.25  # heights of a line: one that ends so near a seam may go on behind it (a letter and a space may be missing)
AT_SIDE = 0.12  # heights: one whose upper or lower side comes so near a seam may be cut lengthwise
TOUCH_PX = 2.0
HALF = 0.5
MOSTLY = 0.8  # overlap that says the same whatever the texts say
LOWEST = 0.3  # share of its box's height that a slanted line has at least
TOLERANCE = 0.35  # heights by which two boxes of the same extent may differ


@dataclass(frozen=True)
class ReadTile:
    """A region that was read, and its lines. Not `placed`: their boxes are slices of the region, not what was seen."""

    box_px: Box
    lines: tuple[TextLine, ...]
    placed: bool = True


@dataclass(frozen=True)
class _Sighting:
    """A line as one tile shows it, and which of its ends and sides a seam may have cut."""

    line: TextLine
    tile: int
    placed: bool
    left: bool
    right: bool
    lengthwise: bool

    @property
    def box(self) -> Box:
        return self.line.box_px

    @property
    def height(self) -> float:
        return letter_height(self.line)

    def middle_at(self, x: float) -> float:
        """Where the line's middle runs at some place along it."""
        x0, y0, x1, y1 = self.box
        return (y0 + y1) / 2 + self.line.slope * (x - (x0 + x1) / 2)

    @property
    def cuts(self) -> int:
        return self.left + self.right


def merge_lines(tiles: Sequence[ReadTile], width: int, height: int, iou_above: float, agreement: float) -> tuple[TextLine, ...]:
    """All lines of a page once each, by their upper left corners. Log-probabilities of joined pieces are means per character.

    Two boxes that overlap by `iou_above` or more are one line where their texts agree by `agreement` or more.
    """
    seen = [one for number, tile in enumerate(tiles) for one in _sightings(tile, number, width, height)]
    seen = _whole(seen)
    parent = list(range(len(seen)))
    same = (pair for pair in _near(seen) if _one_line(seen[pair[0]], seen[pair[1]], iou_above, agreement))
    for a, b in chain(same, _continued(tiles, seen)):
        parent[_root(parent, b)] = _root(parent, a)
    groups: dict[int, list[_Sighting]] = {}
    for number, one in enumerate(seen):
        groups.setdefault(_root(parent, number), []).append(one)
    merged = [_folded(group) for group in groups.values()]
    return tuple(sorted(merged, key=lambda line: (line.box_px[1], line.box_px[0], line.box_px[2], line.text)))


def _sightings(tile: ReadTile, number: int, width: int, height: int) -> Iterator[_Sighting]:
    x0, y0, x1, y1 = tile.box_px
    for line in tile.lines:
        if not line.text.strip():
            continue
        left, top, right, bottom = line.box_px
        end = max(TOUCH_PX, AT_END * letter_height(line)) if tile.placed else 0.0
        side = max(TOUCH_PX, AT_SIDE * letter_height(line)) if tile.placed else -1.0
        yield _Sighting(
            line, number, tile.placed,
            left=x0 > 0 and left - x0 <= end, right=x1 < width and x1 - right <= end,
            lengthwise=(y0 > 0 and top - y0 <= side) or (y1 < height and y1 - bottom <= side),
        )  # fmt: skip


def _whole(seen: list[_Sighting]) -> list[_Sighting]:
    """Without those that are cut lengthwise and mostly covered by others that are not: half letters read as anything."""
    whole = [one for one in seen if not one.lengthwise]
    kept = []
    for one in seen:
        covered = 0.0
        if one.lengthwise:
            covered = sum(
                _share(one.box, other.box) for other in whole if other.tile != one.tile and other.height >= MOSTLY * one.height
            )
        if covered < HALF:
            kept.append(one)
    return kept


def _near(seen: list[_Sighting]) -> Iterator[tuple[int, int]]:
    """Pairs of placed lines whose vertical extents meet."""
    order = sorted((k for k, one in enumerate(seen) if one.placed), key=lambda k: (seen[k].box[1], k))
    for place, a in enumerate(order):
        for b in order[place + 1 :]:
            if seen[b].box[1] >= seen[a].box[3]:
                break
            yield min(a, b), max(a, b)


def _continued(tiles: Sequence[ReadTile], seen: list[_Sighting]) -> Iterator[tuple[int, int]]:
    """Pairs of lines without places: the last ones of a tile are the first ones of the tile below, where texts say so.

    As many as agree one by one, up to twice as many as the tiles' overlap makes expect.
    """
    own = {
        number: [k for k, one in enumerate(seen) if one.tile == number] for number, tile in enumerate(tiles) if not tile.placed
    }
    for upper, lower in ((a, b) for a in own for b in own if a != b):
        (x0, y0, x1, y1), (u0, v0, u1, v1) = tiles[upper].box_px, tiles[lower].box_px
        if not (y0 < v0 < y1 and min(x1, u1) - max(x0, u0) >= HALF * min(x1 - x0, u1 - u0)):
            continue
        expected = math.ceil(2 * len(own[lower]) * (y1 - v0) / (v1 - v0)) + 1
        for count in range(min(expected, len(own[upper]), len(own[lower])), 0, -1):
            pairs = list(zip(own[upper][-count:], own[lower][:count], strict=True))
            if all(alike(seen[a].line.text, seen[b].line.text) >= MOSTLY for a, b in pairs):
                yield from pairs
                break


def _one_line(a: _Sighting, b: _Sighting, iou_above: float, agreement: float) -> bool:
    if not _same_row(a, b):
        return False
    overlap = _iou(a.box, b.box)
    if overlap >= iou_above and (overlap >= MOSTLY or alike(a.line.text, b.line.text) >= agreement):
        return True
    if a.tile == b.tile:
        return False
    left, right = (a, b) if (a.box[0], a.box[2]) <= (b.box[0], b.box[2]) else (b, a)
    shorter, longer = sorted((a, b), key=lambda one: one.box[2] - one.box[0])
    common = left.box[2] - right.box[0]
    if min(common, shorter.box[2] - shorter.box[0]) >= MOSTLY * (shorter.box[2] - shorter.box[0]):
        return shorter.cuts > 0 or part_alike(shorter.line.text, longer.line.text) >= agreement
    if left.right and right.left:
        return common >= -AT_END * max(a.height, b.height)
    if common <= 0:
        return False
    joined = _stitched(left.line, right.line)
    return joined.common >= SURE and joined.agreement >= agreement


def _folded(group: list[_Sighting]) -> TextLine:
    """One line of all sightings of it, from left to right."""
    first, *others = sorted(group, key=lambda one: (one.box[0], -one.box[2], one.cuts, -one.line.logprob, one.tile))
    if not all(one.placed for one in group):
        return max(group, key=lambda one: (one.line.logprob, -one.tile)).line
    line, uncut = first.line, first.cuts == 0
    for one in others:
        slack = TOLERANCE * one.height
        inside = one.box[2] <= line.box_px[2] + slack
        around = inside and one.box[0] <= line.box_px[0] + slack and one.box[2] >= line.box_px[2] - slack
        apart = not inside and not (uncut and one.cuts == 0)
        if around or (not inside and not apart):
            better = (one.cuts == 0, one.line.logprob) > (uncut, line.logprob)
            line, uncut = (one.line, one.cuts == 0) if better else (line, uncut)
        elif apart:
            line, uncut = _joined(line, one.line), False
    return line


def _joined(left: TextLine, right: TextLine) -> TextLine:
    (a0, b0, a1, b1), (c0, d0, c1, d1) = left.box_px, right.box_px
    long, short = len(left.text), len(right.text)
    logprob, slope = (
        (a * long + b * short) / (long + short) for a, b in ((left.logprob, right.logprob), (left.slope, right.slope))
    )
    box = min(a0, c0), min(b0, d0), max(a1, c1), max(b1, d1)
    return TextLine(box, _stitched(left, right).text, logprob, slope)


def _stitched(left: TextLine, right: TextLine) -> Stitched:
    widths = [(line.box_px[2] - line.box_px[0]) / len(line.text) for line in (left, right)]
    return stitched(left.text, right.text, (left.box_px[2] - right.box_px[0]) / max(sum(widths) / 2, 1e-6))


def letter_height(line: TextLine) -> float:
    """How high a line is without what its slant adds to its box."""
    x0, y0, x1, y1 = line.box_px
    return max(y1 - y0 - abs(line.slope) * (x1 - x0), LOWEST * (y1 - y0))


def _same_row(a: _Sighting, b: _Sighting) -> bool:
    """Half of the lower one's height in common where they meet, and no headline beside small print."""
    low, high = sorted((a.height, b.height))
    meet = (max(a.box[0], b.box[0]) + min(a.box[2], b.box[2])) / 2
    common = min((a.height + b.height) / 2 - abs(a.middle_at(meet) - b.middle_at(meet)), low)
    return common >= HALF * low and low >= HALF * high


def _common(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _area(a: Box) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def _share(inner: Box, outer: Box) -> float:
    return _common(inner, outer) / _area(inner) if _area(inner) > 0 else 0.0


def _iou(a: Box, b: Box) -> float:
    common = _common(a, b)
    return common / (_area(a) + _area(b) - common) if common > 0 else 0.0


def _root(parent: list[int], k: int) -> int:
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k
