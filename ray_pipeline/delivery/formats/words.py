"""A line of text cut into words with boxes. The model gives one box per line: words get shares of it by their characters.

Each character, and the white space between two words, is taken to be equally wide; a combining mark has no width. Words
of a line that starts in a right-to-left script are laid from right to left.
"""

from dataclasses import dataclass
from unicodedata import bidirectional, combining

from schemas.picture import Box


@dataclass(frozen=True)
class Word:
    """A word without white space, and its share of the line's box."""

    text: str
    box_px: Box


def line_words(text: str, box_px: Box) -> list[Word]:
    """The words in reading order. None of them if the text is white space."""
    texts = text.split()
    widths = [_width(word) for word in texts]
    total = sum(widths) + len(texts) - 1
    x0, y0, x1, y1 = box_px
    words, done = [], 0
    for word, width in zip(texts, widths, strict=True):
        start, end = done / total, (done + width) / total
        if is_right_to_left(text):
            start, end = 1 - end, 1 - start
        left, right = x0 + start * (x1 - x0), x1 if end == 1 else x0 + end * (x1 - x0)
        words.append(Word(word, (left, y0, right, y1)))
        done += width + 1
    return words


def is_right_to_left(text: str) -> bool:
    """Whether the first character that has a direction runs from right to left."""
    directions = (bidirectional(character) for character in text)
    return next((direction for direction in directions if direction in {"L", "R", "AL"}), "L") != "L"


def _width(word: str) -> int:
    return max(1, sum(not combining(character) for character in word))
