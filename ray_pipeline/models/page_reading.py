"""A page read by its own two networks: find the lines, cut each out straight from the full picture, read the strips.

The finder looks at a page shrunk to about FIRST_LOOK_PIXELS; where its lines come out too low to be told apart and the
picture has more to show, it looks again at the part that holds them, larger. The reader's strips always come from the
picture's own pixels. Frames: `_px` are pixels of the original upright picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from ray_pipeline.models.contract import ReadLines, TextLine, TextLines
from ray_pipeline.models.line_finder import STRIDE, FoundLine, LineFinder
from ray_pipeline.models.line_reader import COLUMN_PX, ROWS, LineReader
from ray_pipeline.models.weights import LINE_FINDER, LINE_READER, ModelRefused
from schemas.picture import Box, Picture

FIRST_LOOK_PIXELS = 1_000_000
SECOND_LOOK_PIXELS = 4_000_000
CLEAR_HEIGHT_PX = 15.0  # lines as the finder likes them
LOW_HEIGHT_PX = 11.0  # lines that a second look makes clearer
OVERVIEW = 0.25  # of the first look's scale: where headlines and labels in huge type are found
HUGE_PX = 15.0  # high in the overview, a line is too large for the first look
ABOVE_BELOW = 0.1  # margins of a strip, in heights of its line
BEFORE_BEHIND = 0.1
READING_PX = 8192  # side of the largest region looked at as a whole
LONGEST_STRIP = 60.0  # heights; a longer one is cut off: no line of print is
STRAIGHT_PX = 1.0  # a strip that rises less than this over its length need not be turned
HOPELESS = -1.0  # mean log-probability of a character below which nothing has been read
_Filter = Image.Resampling


@dataclass(frozen=True)
class _Seen:
    """A found line and what was read there, character by character."""

    line: FoundLine
    raw: str
    log_p: tuple[float, ...]

    @property
    def text(self) -> str:
        return " ".join(self.raw.split())

    @property
    def logprob(self) -> float:
        return min(0.0, fmean(self.log_p)) if self.log_p else -math.inf


@dataclass(frozen=True)
class PageReader:
    """Finder and reader together. A region's lines depend on its pixels alone."""

    finder: LineFinder
    reader: LineReader

    @classmethod
    def load(cls, folder: Path) -> "PageReader | None":
        """From a folder that has passed the gate; None where it does not hold the two networks.

        Raises:
            ModelRefused: one of them does not fit.
        """
        finder, reader = folder / LINE_FINDER, folder / LINE_READER
        if not (finder.is_file() and reader.is_file()):
            return None
        try:
            return cls(LineFinder.load(finder), LineReader.load(reader))
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ModelRefused(f"{folder}: {LINE_FINDER} or {LINE_READER} misfits: {reason}") from None

    def read(self, request: ReadLines) -> TextLines:
        """All lines of the region in reading order. `tokens` counts the cells of the finder and the strips' columns."""
        pixels, (left, top) = region_pixels(request.picture, request.box_px)
        region = Image.fromarray(pixels)
        found, cells = self._find(region)
        huge = self._overview(region)
        if request.single:
            found, huge = [_one_line(huge or found, region)], []
        strips = [strip_of(region, line) for line in (*found, *huge)]
        seen = [
            _Seen(line, read.text, read.log_probabilities)
            for line, read in zip((*found, *huge), self.reader.read(strips), strict=True)
        ]
        read = {one.line: one for one in _surer(seen[: len(found)], seen[len(found) :])}
        lines = []
        for line in in_reading_order(list(read)):
            text, logprob = read[line].text, read[line].logprob
            if text and (logprob > HOPELESS or request.single):
                lines.append(TextLine(_inside(line.moved(1.0, left, top).box_px, request.picture), text, logprob, line.slope))
        cells += _cells(region, OVERVIEW * _first_scale(region)) + sum(strip.shape[1] for strip in strips) // COLUMN_PX
        return TextLines(tuple(lines), cells, True)

    def _overview(self, region: Image.Image) -> list[FoundLine]:
        """Lines in huge type, of which the first look sees pieces of letters; and what only looks like them from afar."""
        scale = OVERVIEW * _first_scale(region)
        found = self._look(region, (0, 0, region.width, region.height), scale)
        return [line for line in found if line.height_px * scale >= HUGE_PX]

    def _find(self, region: Image.Image) -> tuple[list[FoundLine], int]:
        """Lines in pixels of the region, and how many cells that took."""
        scale = _first_scale(region)
        found = self._look(region, (0, 0, region.width, region.height), scale)
        cells = _cells(region, scale)
        if not found:
            return found, cells
        height = float(np.median([line.height_px for line in found])) * scale
        if height >= LOW_HEIGHT_PX or scale > 0.85:
            return found, cells
        part = _around(found, region)
        area = (part[2] - part[0]) * (part[3] - part[1])
        larger = min(1.0, scale * CLEAR_HEIGHT_PX / height, math.sqrt(SECOND_LOOK_PIXELS / area))
        if larger < 1.2 * scale:
            return found, cells
        return self._look(region, part, larger), cells + math.ceil(area * (larger / STRIDE) ** 2)

    def _look(self, region: Image.Image, part: tuple[int, int, int, int], scale: float) -> list[FoundLine]:
        size = max(1, round((part[2] - part[0]) * scale)), max(1, round((part[3] - part[1]) * scale))
        shown = region.resize(size, _Filter.BILINEAR, part, reducing_gap=2.0 if scale < 0.5 else None)
        grown = 1 / scale
        return [line.moved(grown, part[0], part[1]) for line in self.finder.find(np.asarray(shown.convert("L")))]


def strip_of(region: Image.Image, line: FoundLine) -> NDArray[np.uint8]:
    """A line cut from the region with its margins, level, ROWS high, grey. What lies outside repeats the edge."""
    height = max(line.height_px, 1.0)
    x0, x1 = line.x0_px - BEFORE_BEHIND * height, line.x1_px + BEFORE_BEHIND * height
    x1 = min(x1, x0 + LONGEST_STRIP * height)
    rise = line.slope * (x1 - x0)
    half = height * (0.5 + ABOVE_BELOW)
    middle = line.middle_y_px + line.slope * ((x0 + x1) / 2 - (line.x0_px + line.x1_px) / 2)
    scale = ROWS / (2 * half)
    slack = abs(rise) / 2 if abs(rise) * scale > STRAIGHT_PX else 0.0
    box = (x0, middle - half - slack, x1, middle + half + slack)
    size = max(4, round((x1 - x0) * scale)), max(ROWS, round((box[3] - box[1]) * scale))
    cut = _resized(region, box, size)
    if slack:
        lean = line.slope * (size[1] / (box[3] - box[1])) / (size[0] / (x1 - x0))
        first = (size[1] - ROWS) / 2 - lean * size[0] / 2
        cut = cut.transform((size[0], ROWS), Image.Transform.AFFINE, (1, 0, 0, lean, 1, first), _Filter.BICUBIC)
    return np.asarray(cut)


def _resized(region: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """A box of the region, parts of which may lie outside, in grey at another size."""
    x0, y0 = math.floor(box[0]), math.floor(box[1])
    x1, y1 = math.ceil(box[2]), math.ceil(box[3])
    inner = (max(0, x0), max(0, y0), min(region.width, max(x1, 1)), min(region.height, max(y1, 1)))
    whole = region.crop(inner).convert("L")
    if inner != (x0, y0, x1, y1):
        pads = ((inner[1] - y0, y1 - inner[3]), (inner[0] - x0, x1 - inner[2]))
        whole = Image.fromarray(np.pad(np.asarray(whole), pads, mode="edge"))
    return whole.resize(size, _Filter.BICUBIC, (box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0))


def in_reading_order(lines: Sequence[FoundLine]) -> list[FoundLine]:
    """Rows from top to bottom, each from left to right; on a page that lies crookedly, along its own rows."""
    slope = float(np.median([line.slope for line in lines])) if lines else 0.0
    level = sorted(lines, key=lambda line: line.middle_y_px - slope * (line.x0_px + line.x1_px) / 2)
    rows: list[list[FoundLine]] = []
    for line in level:
        y = line.middle_y_px - slope * (line.x0_px + line.x1_px) / 2
        if rows:
            last = rows[-1][-1]
            if y - (last.middle_y_px - slope * (last.x0_px + last.x1_px) / 2) < 0.5 * min(line.height_px, last.height_px):
                rows[-1].append(line)
                continue
        rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.x0_px)]


def region_pixels(picture: Picture, box_px: Box) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """A region's pixels, cut along whole ones, and where its left upper corner lies in the picture.

    Raises:
        ValueError: the box has no area inside the picture.
    """
    x0, y0 = math.floor(max(0.0, box_px[0])), math.floor(max(0.0, box_px[1]))
    x1, y1 = math.ceil(min(picture.width, box_px[2])), math.ceil(min(picture.height, box_px[3]))
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"region {box_px} of a {picture.width} x {picture.height} picture; expected area inside it")
    return picture.pixels_YX3[y0:y1, x0:x1], (x0, y0)


def _one_line(found: Sequence[FoundLine], region: Image.Image) -> FoundLine:
    """The pieces found in one line's region as one; the whole region where none was found."""
    tall = [line for line in found if line.height_px >= 0.35 * region.height]
    if not tall:
        return FoundLine(0.0, float(region.width), region.height / 2, 0.0, region.height / (1 + 2 * ABOVE_BELOW), 0.0)
    widths = np.asarray([line.x1_px - line.x0_px for line in tall])
    x0, x1 = min(line.x0_px for line in tall), max(line.x1_px for line in tall)
    slope = float(np.average([line.slope for line in tall], weights=widths))
    at_middle = [line.middle_y_px + slope * ((x0 + x1) / 2 - (line.x0_px + line.x1_px) / 2) for line in tall]
    height = max(line.height_px for line in tall)
    return FoundLine(x0, x1, float(np.average(at_middle, weights=widths)), slope, height, min(line.score for line in tall))


def _surer(found: list[_Seen], huge: list[_Seen]) -> list[_Seen]:
    """Each huge line in place of what was found within it, or not at all: whichever reads better."""
    for one in huge:
        within = [small for small in found if _lies_in(small.line, one.line)]
        letters = [log_p for small in within for log_p in small.log_p]
        if one.logprob > (fmean(letters) if letters else HOPELESS):
            found = [one, *(small for small in found if small not in within)]
    return found


def _lies_in(line: FoundLine, larger: FoundLine) -> bool:
    """Whether a line's middle lies in a larger line."""
    x, (x0, y0, x1, y1) = (line.x0_px + line.x1_px) / 2, larger.box_px
    return x0 < x < x1 and y0 < line.middle_y_px < y1


def _around(found: Sequence[FoundLine], region: Image.Image) -> tuple[int, int, int, int]:
    """The part of the region that holds all lines, with some heights of margin."""
    boxes = np.asarray([line.box_px for line in found])
    margin = 3 * max(line.height_px for line in found)
    (x0, y0), (x1, y1) = boxes[:, :2].min(0) - margin, boxes[:, 2:].max(0) + margin
    return max(0, math.floor(x0)), max(0, math.floor(y0)), min(region.width, math.ceil(x1)), min(region.height, math.ceil(y1))


def _inside(box_px: Box, picture: Picture) -> Box:
    x0, y0, x1, y1 = box_px
    return max(0.0, x0), max(0.0, y0), min(float(picture.width), x1), min(float(picture.height), y1)


def _first_scale(region: Image.Image) -> float:
    return min(1.0, math.sqrt(FIRST_LOOK_PIXELS / (region.width * region.height)))


def _cells(region: Image.Image, scale: float) -> int:
    return math.ceil(region.width * region.height * (scale / STRIDE) ** 2)
