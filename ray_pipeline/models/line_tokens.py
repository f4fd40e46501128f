"""A read page as a sequence of tokens: one per character, one in front of each line, with where each of them stands.

The page's text is laid out as one would type it: a new row begins with a line feed, a further line of the same row with a
tab. So "TOTAL" and the amount at the right edge follow each other however far apart they are printed. Frame: `_unit` is
the share of the whole picture's width or height.
Shapes: T tokens, F features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_pipeline.models.contract import TextLine
from schemas.picture import Box

ROW, GAP = "\n", "\t"
OCTAVES = 9  # of the waves that tell places apart: the shortest is 1/128 of the picture
FEATURES = 4 * 2 * OCTAVES + 3
LEAST_LOGPROB = -6.0
SAME_ROW = 0.5  # heights of the lower line by which two lines of one row may lie apart


@dataclass(frozen=True)
class LineTokens:
    """`characters` of T tokens, ROW and GAP among them; `boxes_unit` (T, 4), a line's for ROW and GAP; `logprobs` (T,)."""

    characters: str
    boxes_unit: NDArray[np.float64]
    logprobs: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.characters)


def line_tokens(lines: Sequence[TextLine], region_px: Box, size_px: tuple[float, float]) -> LineTokens:
    """Lines of a region, in reading order, as tokens. The first token is a ROW that stands for the whole region."""
    characters, boxes, logprobs = [ROW], [region_px], [0.0]
    for before, line in zip([None, *lines], lines, strict=False):
        if before is not None:
            characters.append(GAP if _same_row(before, line) else ROW)
            boxes.append(line.box_px)
            logprobs.append(line.logprob)
        characters += line.text
        boxes += character_boxes(line)
        logprobs += [line.logprob] * len(line.text)
    width, height = size_px
    return LineTokens(
        "".join(characters),
        np.asarray(boxes, np.float64) / (width, height, width, height),
        np.clip(np.asarray(logprobs, np.float64), LEAST_LOGPROB, 0.0),
    )


def character_boxes(line: TextLine) -> list[Box]:
    """One box a character: equal shares of the line, each as low as its own place on a line that rises or falls."""
    x0, y0, x1, y1 = line.box_px
    count = len(line.text)
    rise = min(abs(line.slope) * (x1 - x0), 0.8 * (y1 - y0))
    tall, fall = (y1 - y0) - rise, math.copysign(rise, line.slope)
    boxes = []
    for k in range(count):
        top = y0 + (rise if fall < 0 else 0.0) + fall * (k + 0.5) / count
        boxes.append((x0 + (x1 - x0) * k / count, top, x0 + (x1 - x0) * (k + 1) / count, top + tall))
    return boxes


def token_features(tokens: LineTokens, zoomed: bool) -> NDArray[np.float32]:
    """(T, F): waves of the four edges in octaves, certainty, relative height, and whether this is a zoomed view."""
    octaves = np.pi * 2.0 ** np.arange(OCTAVES)
    angles = tokens.boxes_unit[:, :, None] * octaves
    waves = np.concatenate([np.sin(angles), np.cos(angles)], -1).reshape(len(tokens), -1)
    tall = np.log(np.clip(tokens.boxes_unit[:, 3] - tokens.boxes_unit[:, 1], 1e-4, 1.0)) / 4 + 1
    rest = np.stack([tokens.logprobs / 2, tall, np.full(len(tokens), float(zoomed))], -1)
    return np.concatenate([waves, rest], -1).astype(np.float32)


def _same_row(before: TextLine, line: TextLine) -> bool:
    """Whether a line goes on in the row of the one before it, further right."""
    if line.box_px[0] < before.box_px[0]:
        return False
    low = min(before.box_px[3] - before.box_px[1], line.box_px[3] - line.box_px[1])
    apart = (line.box_px[1] + line.box_px[3]) / 2 - (before.box_px[1] + before.box_px[3]) / 2
    slope = (before.slope + line.slope) / 2
    between = (line.box_px[0] + line.box_px[2]) / 2 - (before.box_px[0] + before.box_px[2]) / 2
    return abs(apart - slope * between) < SAME_ROW * low
