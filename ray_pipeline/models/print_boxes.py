"""Boxes of print: a box that was written is the words on a read line that it comes nearest to.

Location tokens are a thousandth of the picture and a small model's are off by several; where print begins and ends is known
from reading. Frame: pixels of the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ray_pipeline.models.line_tokens import GAP, ROW
from schemas.picture import Box

LEAST_IOU = 0.1  # of a written box with the words it is taken for
MOST_LINES = 1.8  # heights of a line: a higher box means more than this one


@dataclass(frozen=True)
class PrintedWords:
    """The words of one read line, from left to right."""

    boxes_px: tuple[Box, ...]

    def nearest(self, box_px: Box) -> Box:
        """From the word that begins nearest to the box's left edge to the one that ends nearest to its right edge."""
        first = min(range(len(self.boxes_px)), key=lambda k: abs(self.boxes_px[k][0] - box_px[0]))
        last = min(range(first, len(self.boxes_px)), key=lambda k: abs(self.boxes_px[k][2] - box_px[2]))
        return _around(self.boxes_px[first : last + 1])


def printed_words(characters: str, boxes_px: Sequence[Box]) -> list[PrintedWords]:
    """The lines of a view's tokens (`line_tokens`), cut at spaces."""
    lines: list[list[list[Box]]] = []
    for sign, box in zip(characters, boxes_px, strict=True):
        if sign in (ROW, GAP):
            lines.append([[]])
        elif sign == " ":
            lines[-1].append([])
        else:
            lines[-1][-1].append(box)
    kept = [[_around(word) for word in line if word] for line in lines]
    return [PrintedWords(tuple(words)) for words in kept if words]


def on_print(box_px: Box, lines: Sequence[PrintedWords]) -> Box:
    """The words meant by a box, or the box itself where it is far from all print, or spans several lines."""
    meant = [near for line in lines if _height(near := line.nearest(box_px)) * MOST_LINES >= _height(box_px)]
    best = max(meant, key=lambda near: _iou(near, box_px), default=box_px)
    return best if _iou(best, box_px) >= LEAST_IOU else box_px


def _around(boxes: Sequence[Box]) -> Box:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _height(box: Box) -> float:
    return box[3] - box[1]


def _iou(a: Box, b: Box) -> float:
    wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or tall <= 0:
        return 0.0
    both = (a[2] - a[0]) * _height(a) + (b[2] - b[0]) * _height(b)
    return wide * tall / (both - wide * tall)
