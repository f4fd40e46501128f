"""What a reader makes of printed lines, imitated without drawing them: wrong, lost and added characters, split lines.

Fast enough to make a page for every step of a training. How well a page can be read is drawn once a page and varies from
line to line; certainties go with it, so that a model can learn what a low one means.
"""

import math
import random
from collections.abc import Sequence

from ray_pipeline.models.contract import TextLine
from ray_pipeline.synthesis.document_sheets import SheetLine
from ray_pipeline.synthesis.document_texts import CHARACTERS
from schemas.picture import Box

ALIKE = (
    "0OoDQU",
    "1Il|!ij7tf/",
    "5Ss$6",
    "8B3&E6",
    "2Zz7",
    "G6C",
    ".,':;-",
    "rnmhu",
    "vwyVWY",
    "ceao",
    "4A9",
    "9gqp",
    "MNHW",
    "FPTRE",
    "(C[{",
    ")]}J",
)
_LIKE = {sign: [other for group in ALIKE if sign in group for other in group if other != sign] for sign in set("".join(ALIKE))}
ERROR_RATES = ((0.45, 0.004), (0.25, 0.03), (0.15, 0.10), (0.15, 0.35))  # share of pages, errors a character


def error_rate(rng: random.Random) -> float:
    """How badly a page can be read: errors per character."""
    (rate,) = rng.choices([rate for _, rate in ERROR_RATES], [share for share, _ in ERROR_RATES])
    return rate * rng.uniform(0.4, 1.8)


def misread(rng: random.Random, lines: Sequence[SheetLine], rate: float) -> list[TextLine]:
    """The lines as read, in their order; one in two hundred is missed even on a clear page, more on others."""
    read = []
    for line in lines:
        if rng.random() < 0.005 + 0.4 * rate**1.5:
            continue
        for part in _parts(rng, line, rate):
            own = min(0.9, rate * rng.choice((0.3, 0.7, 1.0, 1.0, 2.0)))
            text = misspelt(rng, part.text, own)
            if text:
                logprob = -own * rng.uniform(0.5, 2.5) - (0.15 * rng.random() ** 3)
                read.append(TextLine(_shaken(rng, part.box), text, logprob))
    return read


def misspelt(rng: random.Random, text: str, rate: float) -> str:
    """Characters replaced by similar ones, left out, or put in."""
    signs = []
    for sign in text:
        draw = rng.random()
        lost = rate * (0.6 if sign in " .,'-:" else 0.15)
        if draw < lost:
            continue
        if draw < lost + 0.7 * rate and sign != " ":
            like = _LIKE.get(sign)
            sign = rng.choice(like) if like and rng.random() < 0.8 else rng.choice(CHARACTERS)
        signs.append(sign)
        if rng.random() < 0.08 * rate:
            signs.append(rng.choice(" .,'-Il1"))
    return " ".join("".join(signs).split())


def _parts(rng: random.Random, line: SheetLine, rate: float) -> list[SheetLine]:
    """A line is sometimes taken for two."""
    words = line.text.split(" ")
    if len(words) < 2 or rng.random() > 0.02 + 0.2 * rate:
        return [line]
    at = rng.randrange(1, len(words))
    first, second = " ".join(words[:at]), " ".join(words[at:])
    x0, y0, x1, y1 = line.box
    left, right = x0 + (x1 - x0) * len(first) / len(line.text), x1 - (x1 - x0) * len(second) / len(line.text)
    return [SheetLine(first, (x0, y0, left, y1)), SheetLine(second, (right, y0, x1, y1))]


def _shaken(rng: random.Random, box: Box) -> Box:
    x0, y0, x1, y1 = box
    by = 0.08 * (y1 - y0)
    moved = [value + rng.gauss(0, by) for value in (x0, y0, x1, y1)]
    return moved[0], moved[1], max(moved[0] + 1e-6, moved[2]), max(moved[1] + 1e-6, moved[3])


def seen_in(lines: Sequence[SheetLine], region: Box) -> list[SheetLine]:
    """What of the lines lies in a region, cut between characters."""
    rx0, ry0, rx1, ry1 = region
    seen = []
    for line in lines:
        x0, y0, x1, y1 = line.box
        if not ry0 < (y0 + y1) / 2 < ry1 or x1 <= rx0 or x0 >= rx1:
            continue
        wide = (x1 - x0) / len(line.text)
        first = max(0, math.ceil((rx0 - x0) / wide - 0.4))
        last = min(len(line.text), math.floor((rx1 - x0) / wide + 0.4))
        text = line.text[first:last]
        if text.strip():
            lead, tail = len(text) - len(text.lstrip()), len(text) - len(text.rstrip())
            seen.append(SheetLine(text.strip(), (x0 + wide * (first + lead), y0, x0 + wide * (last - tail), y1)))
    return seen
