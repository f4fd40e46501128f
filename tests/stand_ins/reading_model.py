"""A family that reads planted lines: each letter is a cell of one colour, so pixels alone say what a line is.

A letter's code is the red of its cell, green is what is missing to 255, blue tells even cells from odd ones. Lines of the
faint kind are misread in a tile, and read well when they are shown alone. A region with more letters than the model has
room for is read up to there, and is not finished.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from ray_pipeline.models.contract import FamilyDefaults, ReadLines, TextLine, TextLines
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture

LETTER_PX, LINE_PX = 8, 16
READING_PX = 300
SURE, UNSURE, WELL_READ = -0.02, -0.6, -0.1
FAINT = 2  # added to the blue of a faint line's cells


def drawn(width: int, height: int, lines: Sequence[tuple[int, int, str]], faint: Sequence[int] = ()) -> Picture:
    """A white page with lines (left end, top, text); `faint` are the places of the faint ones in the list."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    for number, (x, y, text) in enumerate(lines):
        for k, letter in enumerate(text):
            cell = x + k * LETTER_PX, x + (k + 1) * LETTER_PX
            if cell[1] > width or y + LINE_PX > height:
                raise ValueError(f"line {text!r} at {x}, {y} leaves the page of {width} x {height} px")
            blue = k % 2 + FAINT * (number in faint)
            pixels[y : y + LINE_PX, cell[0] : cell[1]] = ord(letter), 255 - ord(letter), blue
    return Picture(pixels, "0" * 64)


class ReadingModel:
    """Implements what reading pages asks of `contract.Family`; `room` is how many letters one answer may have."""

    defaults = FamilyDefaults(64, None, None, None, 1.0, reading_px=READING_PX)

    def __init__(self, room: int = 100_000) -> None:
        self.room, self.requests = room, list[ReadLines]()

    def read_lines(self, requests: Sequence[ReadLines]) -> list[TextLines]:
        self.requests += requests
        return [self._read(request) for request in requests]

    def _read(self, request: ReadLines) -> TextLines:
        lines, left = [], self.room
        for line in seen_lines(request):
            lines.append(TextLine(line.box_px, line.text[: max(0, left)], line.logprob))
            left -= len(line.text)
        return TextLines(tuple(line for line in lines if line.text), 4, left >= 0)

    def __getattr__(self, name: str) -> object:
        if name in ("encode", "generate", "sample", "read_attention", "read_gradient", "read_pixel_gradient"):
            return self._refused
        raise AttributeError(name)

    def _refused(self, requests: Sequence[object]) -> list[object]:
        raise ValueError("it reads lines and answers no questions")


def seen_lines(request: ReadLines) -> Iterator[TextLine]:
    """Lines of a region in the order of their upper left corners; letters that are cut at its edge are missing."""
    x, y, right, bottom = (round(edge) for edge in request.box_px)
    pixels = request.picture.pixels_YX3[y:bottom, x:right].astype(int)
    ink = (pixels[..., 0] + pixels[..., 1] == 255) & (pixels[..., 2] < 2 * FAINT)
    while ink.any():
        top, left = np.argwhere(ink)[0]
        row, column = ink[top, left:], ink[top:, left]
        wide, high = int(np.argmin([*row, False])), int(np.argmin([*column, False]))
        ink[top : top + high, left : left + wide] = False
        letters = list(_letters(pixels[top, left : left + wide]))
        if not letters:
            continue
        text = "".join(chr(pixels[top, left + start, 0]) for start in letters)
        faint = pixels[top, left, 2] >= FAINT
        box: Box = (
            float(x + left + letters[0]), float(y + top), float(x + left + letters[-1] + LETTER_PX), float(y + top + high)
        )  # fmt: skip
        if high < LINE_PX:
            text = "~" * len(text)
        if faint and not request.single:
            text = "".join("?" if k % 3 == 2 else letter for k, letter in enumerate(text))
        yield TextLine(box, text, SURE if not faint else WELL_READ if request.single else UNSURE)


def _letters(strip_X3: np.ndarray) -> Iterator[int]:
    """Left ends of the cells that are whole; a cell ends where the blue or the letter changes."""
    changes = [0, *(np.flatnonzero((strip_X3[1:] != strip_X3[:-1]).any(1)) + 1).tolist(), len(strip_X3)]
    for start, end in pairwise(changes):
        if end - start == LETTER_PX:
            yield start


def load_reading(model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> ReadingModel:
    """Takes the place of `load_family`."""
    return ReadingModel()
