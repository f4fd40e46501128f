"""Lines of print to be found by their own text, on scanned pages and on drawn ones.

A line counts as found at any place of its page where the same text stands. Boxes are x0, y0, x1, y1 in pixels of the page.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.packaged_models import Where
from ray_pipeline.calibration.drawing import Query
from ray_pipeline.synthesis.document_pages import sample_asked_document
from schemas.picture import Box, Picture

TASK = "line"
LEAST_SIGNS = 3  # letters and figures of a line: fewer stand everywhere
SIZES = {"small": 8.0, "medium": 12.0}  # heights in px of a page shrunk to SHOWN_PX, below which a line has this name
SHOWN_PX = 448


@dataclass(frozen=True)
class Printed:
    """A page and its lines: what is printed, and where."""

    picture: Picture
    lines: tuple[tuple[str, Box], ...]


@dataclass(frozen=True)
class Sought:
    """Some of a page's lines, to be found by their text."""

    page: Printed
    phrases: tuple[str, ...]
    seed: int

    def places_px(self, phrase: str) -> tuple[Box, ...]:
        """Everywhere the phrase is a whole line."""
        return tuple(box for text, box in self.page.lines if _plain(text) == _plain(phrase))

    def absent(self, others: Sequence["Sought"]) -> str | None:
        """A line of another page whose text is nowhere on this one."""
        whole = "\n".join(_plain(text) for text, _ in self.page.lines)
        return next((phrase for other in others for phrase in other.phrases if _plain(phrase) not in whole), None)

    def asked(self, wording: str) -> Iterator[Where]:
        """Each phrase as a question about its place, worded as the family words it."""
        for number, phrase in enumerate(self.phrases):
            places = self.places_px(phrase)
            query = Query(self.page.picture, wording.replace("{question}", phrase), places)
            yield Where(query, 1000 * self.seed + number, TASK, _size(places[0], self.page.picture))


def scanned(folder: Path, phrases: int, seed: int) -> list[Sought]:
    """So many lines of the pages of `ocr.parquet`, drawn at random; pages without any are left out."""
    pages = [(row, _lines(row)) for row in pq.read_table(folder / "ocr.parquet").to_pylist()]
    kept = [(place, text) for place, (_, lines) in enumerate(pages) for text in _telling(lines)]
    chosen = random.Random(seed).sample(kept, min(phrases, len(kept)))
    found = []
    for place, (row, lines) in enumerate(pages):
        if own := tuple(text for page, text in chosen if page == place):
            found.append(Sought(Printed(_picture(folder, row), lines), own, place))
    return found


def _lines(row: dict[str, Any]) -> tuple[tuple[str, Box], ...]:
    return tuple((box["label"], (box["x0"], box["y0"], box["x1"], box["y1"])) for box in row["reference_boxes"])


def _picture(folder: Path, row: dict[str, Any]) -> Picture:
    with Image.open(folder / row["image_uri"]) as image:
        return Picture(np.asarray(image.convert("RGB")), row["id"])


def drawn(first: int, phrases: int, each: int, fonts: Sequence[str]) -> Iterator[Sought]:
    """So many lines of drawn documents, at most `each` of a page; seeds in a row."""

    def pages() -> Iterator[Sought]:
        for seed in count(first):
            page, _ = sample_asked_document(seed, list(fonts))
            lines = tuple((line.text, line.box_px) for line in page.lines)
            if texts := _telling(lines):
                chosen = random.Random(seed).sample(texts, min(each, len(texts)))
                yield Sought(Printed(Picture(page.rgb, str(seed)), lines), tuple(chosen), seed)

    return islice(pages(), -(-phrases // each))


def _telling(lines: Sequence[tuple[str, Box]]) -> list[str]:
    return list(dict.fromkeys(text for text, _ in lines if sum(map(str.isalnum, text)) >= LEAST_SIGNS))


def _plain(text: str) -> str:
    return "".join(text.split()).casefold()


def _size(box_px: Box, picture: Picture) -> str:
    shrunk = (box_px[3] - box_px[1]) * min(1.0, SHOWN_PX / (picture.width * picture.height) ** 0.5)
    return next((name for name, below in SIZES.items() if shrunk < below), "large")
