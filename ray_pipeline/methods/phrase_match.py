"""Where phrases stand in the text of a page: word for word, else as nearly as a reading may be off.

All lines in reading order are one text, so that a phrase is found inside a line, across lines of a row and over a line
break alike. Case, white space and compatibility forms of characters do not count. A place begins and ends where words do.
Its box is the share of the line that its characters take up, by the widths that letters commonly have. Boxes are
x0, y0, x1, y1 in pixels of the upright picture.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import extract_iter

from schemas.picture import Box

_TOKEN = re.compile(r"\w+|[^\w\s]")
_DIGITS = re.compile(r"\d")
FEWER, MORE = 2, 3  # tokens that a reading may have lost or split off
LEAST_PX = 1.0  # of a place's width
_WIDTHS = dict.fromkeys("ijlI.,:;'|!` ", 0.5) | dict.fromkeys('tfr()[]-/"', 0.65) | dict.fromkeys("mwMW@%", 1.5)  # of a digit's
_CAPITAL, _FULL = 1.2, 1.8


@dataclass(frozen=True)
class ReadText:
    """One line of a page as it was read; `confidence` in [0, 1]."""

    box_px: Box
    text: str
    confidence: float


@dataclass(frozen=True)
class Place:
    """Where a phrase stands: `text` as it was read, `similarity` 1 where it is word for word, `confidence` of the reading."""

    box_px: Box
    text: str
    similarity: float
    confidence: float


@dataclass(frozen=True)
class _Letter:
    """Which character of which line a folded character comes from."""

    line: int
    place: int


class PageText:
    """The lines of a page in reading order, ready to be searched."""

    def __init__(self, lines: Sequence[ReadText]) -> None:
        self._lines = [ReadText(line.box_px, unicodedata.normalize("NFC", line.text), line.confidence) for line in lines]
        letters: list[str] = []
        self._origins: list[_Letter] = []
        for number, line in enumerate(self._lines):
            for place, letter in enumerate(f"{line.text} "):
                for one in _folded_letter(letter):
                    if one != " " or (letters and letters[-1] != " "):
                        letters.append(one)
                        self._origins.append(_Letter(number, place))
        self._text = "".join(letters)
        self._tokens = [match.span() for match in _TOKEN.finditer(self._text)]
        self._made: dict[int, list[tuple[int, int]]] = {}

    def places(self, phrase: str, similarity: float) -> list[Place]:
        """All places of a phrase, from the top; those that are like it by `similarity` or more where none is the same."""
        wanted = folded_phrase(phrase)
        if not wanted:
            return []
        found = [(1.0, start, start + len(wanted)) for start in self._same(wanted)]
        if not found and similarity < 1:
            found = self._alike(wanted, similarity)
        return [self._place(start, end, alike) for alike, start, end in sorted(found, key=lambda one: one[1])]

    def _same(self, wanted: str) -> Iterator[int]:
        """Where the very characters stand, as whole words, one place behind the other."""
        before = r"(?<!\w)" if wanted[0].isalnum() else ""
        behind = r"(?!\w)" if wanted[-1].isalnum() else ""
        return (match.start() for match in re.finditer(before + re.escape(wanted) + behind, self._text))

    def _alike(self, wanted: str, similarity: float) -> list[tuple[float, int, int]]:
        """Runs of tokens like the phrase, the likest first, none overlapping a better one."""
        count = len(_TOKEN.findall(wanted))
        runs = [run for size in range(max(1, count - FEWER), count + MORE + 1) for run in self._runs(size)]
        low, high = similarity * len(wanted), len(wanted) / similarity
        texts = {place: self._text[start:end] for place, (start, end) in enumerate(runs) if low <= end - start <= high}
        scored = extract_iter(wanted, texts, scorer=Levenshtein.normalized_similarity, score_cutoff=similarity)
        near = [(alike, *runs[place]) for text, alike, place in scored if not _other_number(wanted, text)]
        kept: list[tuple[float, int, int]] = []
        for alike, start, end in sorted(near, key=lambda one: (-one[0], one[1], one[2])):
            if all(end <= other or start >= stop for _, other, stop in kept):
                kept.append((alike, start, end))
        return kept

    def _runs(self, size: int) -> list[tuple[int, int]]:
        """Every run of so many neighbouring tokens; made once for all phrases."""
        if size not in self._made:
            ends = self._tokens[size - 1 :]
            self._made[size] = [(first[0], last[1]) for first, last in zip(self._tokens, ends, strict=False)]
        return self._made[size]

    def _place(self, start: int, end: int, similarity: float) -> Place:
        pieces = [self._piece(number, first, last) for number, first, last in self._shares(start, end)]
        characters = sum(len(piece.text) for piece in pieces)
        x0, y0, x1, y1 = zip(*(piece.box_px for piece in pieces), strict=True)
        sure = sum(piece.confidence * len(piece.text) for piece in pieces) / characters
        return Place((min(x0), min(y0), max(x1), max(y1)), " ".join(piece.text for piece in pieces), similarity, sure)

    def _shares(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(line, first, last character) of each line that the folded characters come from."""
        origins = [self._origins[k] for k in range(start, end) if self._text[k] != " "]
        for number in dict.fromkeys(origin.line for origin in origins):
            own = [origin.place for origin in origins if origin.line == number]
            yield number, min(own), max(own)

    def _piece(self, number: int, first: int, last: int) -> ReadText:
        line = self._lines[number]
        (x0, y0, x1, y1), widths = line.box_px, [_width(letter) for letter in line.text]
        left, right = (x0 + (x1 - x0) * sum(widths[:place]) / sum(widths) for place in (first, last + 1))
        left = max(x0, min(left, x1 - LEAST_PX))
        return ReadText((left, y0, min(x1, max(right, left + LEAST_PX)), y1), line.text[first : last + 1], line.confidence)


def folded_phrase(phrase: str) -> str:
    """How a phrase is compared: lower case, compatibility forms undone, white space as single spaces."""
    return " ".join("".join(_folded_letter(letter) for letter in unicodedata.normalize("NFC", phrase)).split())


def _folded_letter(letter: str) -> str:
    return " " if letter.isspace() else unicodedata.normalize("NFKC", letter).casefold()


def _width(letter: str) -> float:
    """In digits' widths, as common in fonts for text; half the error of letters all alike."""
    if unicodedata.east_asian_width(letter) in "WF":
        return _FULL
    return _WIDTHS.get(letter, _CAPITAL if letter.isupper() else 1.0)


def _other_number(wanted: str, text: str) -> bool:
    """As many digits, and not the same: another number, not one misread."""
    digits, found = _DIGITS.findall(wanted), _DIGITS.findall(text)
    return len(digits) == len(found) and digits != found
