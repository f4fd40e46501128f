"""A family's own OCR: a region of a picture as one view, a prompt, and what was written taken apart into lines.

Families that write boxes place their lines themselves. For the others, and where a box cannot be read, a line gets the
slice of the region that its number among the lines written says: true for a column of evenly spaced lines, else a guess.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from ray_pipeline.models.contract import ReadLines, TextLine, TextLines, VisualTokens
from ray_pipeline.models.line_text import WrittenLine, read_json_lines, read_marked_lines, read_plain_lines
from ray_pipeline.models.templates import READ_JSON, READ_LINE, READ_MARKED, READ_PLAIN
from schemas.picture import Box, Picture

LINE_PX = 64  # a single line is enlarged to this height: letters of some 40 px, as in a headline
MOST_ENLARGED = 8.0  # beyond that, enlarging shows nothing new
ToPicture = Callable[[tuple[float, ...], VisualTokens], Box]


@dataclass(frozen=True)
class ReadingStyle:
    """How a family is asked for the text of a page and of one line, and how its answer to the former is read."""

    page: str
    line: str
    read: Callable[[str], list[WrittenLine]]


PLAIN = ReadingStyle(READ_PLAIN, READ_LINE, read_plain_lines)
JSON = ReadingStyle(READ_JSON, READ_LINE, read_json_lines)
MARKED = ReadingStyle(READ_MARKED, READ_LINE, read_marked_lines)


@dataclass(frozen=True)
class Transcript:
    """All that was written, where in it each token begins, and the tokens' log-probabilities in nats."""

    raw: str
    starts: Sequence[int]
    log_p: Sequence[float]
    finished: bool

    def logprob(self, start: int, stop: int) -> float:
        """Mean over the tokens that spell these characters; over all where none does."""
        ends = [*self.starts[1:], len(self.raw)][: len(self.starts)]
        spelling = [
            log_p for first, last, log_p in zip(self.starts, ends, self.log_p, strict=True) if first < stop and last > start
        ]
        counted = spelling or self.log_p
        return min(0.0, sum(counted) / len(counted)) if counted else -math.inf


def prompt_of(style: ReadingStyle, single: bool) -> str:
    """What is asked."""
    return style.line if single else style.page


def line_shown(request: ReadLines) -> tuple[Picture, Box]:
    """One line's region as a picture of its own, enlarged where it is low, and its box: all of it."""
    picture = request.picture
    x0, y0, x1, y1 = (
        max(0, math.floor(request.box_px[0])), max(0, math.floor(request.box_px[1])),
        min(picture.width, math.ceil(request.box_px[2])), min(picture.height, math.ceil(request.box_px[3])),
    )  # fmt: skip
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"line {request.box_px} of a {picture.width} x {picture.height} picture, expected area inside it")
    grow = min(MOST_ENLARGED, max(1.0, LINE_PX / (y1 - y0)))
    size = max(1, round((x1 - x0) * grow)), max(1, round((y1 - y0) * grow))
    cut = Image.fromarray(picture.pixels_YX3[y0:y1, x0:x1])
    pixels = np.array(cut.resize(size, Image.Resampling.BICUBIC) if grow > 1 else cut)
    return Picture(pixels, picture.sha256), (0.0, 0.0, float(size[0]), float(size[1]))


def transcribed(
    request: ReadLines, tokens: VisualTokens, transcript: Transcript, style: ReadingStyle, to_picture: ToPicture
) -> TextLines:
    """The reply: lines in the order written, their boxes within the region. `to_picture` knows the frame of boxes."""
    if request.single:
        line = _one_line(request, transcript)
        return TextLines((line,) if line.text else (), tokens.count, transcript.finished)
    written = style.read(transcript.raw)
    lines: list[TextLine] = []
    lost = False
    for number, one in enumerate(written):
        box = None if one.values is None else _within(to_picture(one.values, tokens), request.box_px)
        lost |= one.unreadable or (one.values is not None and box is None)
        parts = [part for text in one.text.splitlines() if (part := " ".join(text.split()))]
        boxes = slices(box or slices(request.box_px, len(written))[number], len(parts))
        logprob = transcript.logprob(*one.span)
        lines += [TextLine(own, text, logprob) for own, text in zip(boxes, parts, strict=True)]
    bare = any(one.values is None for one in written)
    return TextLines(
        tuple(lines), tokens.count, transcript.finished, "unreadable" if lost else "none" if bare else "own"
    )  # fmt: skip


def _one_line(request: ReadLines, transcript: Transcript) -> TextLine:
    text = " ".join(line.text for line in read_plain_lines(transcript.raw))
    return TextLine(request.box_px, " ".join(text.split()), transcript.logprob(0, len(transcript.raw)))


def slices(box_px: Box, count: int) -> list[Box]:
    """A box cut into so many equal slices, from top to bottom."""
    x0, y0, x1, y1 = box_px
    edges = [y0 + (y1 - y0) * k / count for k in range(count)] + [y1] if count else []
    return [(x0, top, x1, bottom) for top, bottom in pairwise(edges)]


def _within(box_px: Box, region_px: Box) -> Box | None:
    """What of a box lies in the region; None where that has no area or a number is not finite."""
    if not all(math.isfinite(value) for value in box_px):
        return None
    x0, y0 = max(box_px[0], region_px[0]), max(box_px[1], region_px[1])
    x1, y1 = min(box_px[2], region_px[2]), min(box_px[3], region_px[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
