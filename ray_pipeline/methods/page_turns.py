"""Pages that lie on their side or upside down: quarter turns of pixels, which of them reads best, and the way back for boxes.

A turn counts quarters counterclockwise, as `numpy.rot90` does: a page that becomes upright by turn k lies turned by k times
90 degrees clockwise. Boxes are x0, y0, x1, y1 in pixels.
"""

import math
from collections.abc import Sequence

import numpy as np

from ray_pipeline.models.contract import TextLine
from schemas.picture import Box, Picture

TURNS = (0, 1, 2, 3)
DOUBT = 0.85  # pages less sure than this may lie turned: upright ones are read with 0.96, upside down ones with 0.8 at most
MARGIN = 0.1  # of confidence, that a turn must be ahead of the page as it lies; right turns are ahead by 0.2 and more
LEAST_CHARACTERS = 10  # fewer say nothing about a page: a speck can be read with confidence any way up


def turned(picture: Picture, turn: int, box_px: Box | None = None) -> Picture:
    """The picture, or a region of it in whole pixels, turned counterclockwise; a copy in memory, of the same file."""
    x0, y0, x1, y1 = (round(edge) for edge in box_px or (0, 0, picture.width, picture.height))
    return Picture(np.ascontiguousarray(np.rot90(picture.pixels_YX3[y0:y1, x0:x1], turn)), picture.sha256)


def as_it_lies(box_px: Box, turn: int, width: int, height: int) -> Box:
    """A box of the turned page in the frame of the page as it lies, whose sides are `width` and `height`.

    Raises:
        ValueError: a turn other than 0, 1, 2 or 3.
    """
    x0, y0, x1, y1 = box_px
    match turn:
        case 0:
            return box_px
        case 1:
            return width - y1, x0, width - y0, x1
        case 2:
            return width - x1, height - y1, width - x0, height - y0
        case 3:
            return y0, height - x1, y1, height - x0
    raise ValueError(f"turn {turn}; expected one of {TURNS}")


def centre(width: int, height: int, side_px: float) -> Box:
    """The square of that side in the middle of a page, in whole pixels; no wider and no higher than the page."""
    wide, high = (max(1, min(length, int(side_px))) for length in (width, height))
    x0, y0 = (width - wide) // 2, (height - high) // 2
    return x0, y0, x0 + wide, y0 + high


def sureness(lines: Sequence[TextLine]) -> float:
    """Geometric mean of the confidence over all characters, in [0, 1]; 0 where there are too few to tell."""
    count = sum(len(line.text) for line in lines)
    if count < LEAST_CHARACTERS:
        return 0.0
    return math.exp(min(0.0, sum(line.logprob * len(line.text) for line in lines) / count))


def best_turn(sureness_of_turns: Sequence[float]) -> int:
    """The turn that is read best, by a clear margin; 0 otherwise. One sureness for each of `TURNS`.

    Raises:
        ValueError: another number of them.
    """
    if len(sureness_of_turns) != len(TURNS):
        raise ValueError(f"{len(sureness_of_turns)} turns; expected {len(TURNS)}")
    best = max(TURNS, key=lambda turn: sureness_of_turns[turn])
    return best if sureness_of_turns[best] >= sureness_of_turns[0] + MARGIN else 0
