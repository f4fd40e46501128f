"""Drawn pages as the true reader saw them, kept in files so that a training can see each several times.

A file holds some pages; each is read at a few resolutions and around a few answers. Files are written by other processes
while a training runs: it takes what is there.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray_pipeline.models.contract import TextLine
from ray_pipeline.models.line_tokens import line_tokens
from ray_pipeline.training.asked_pages import AskedPage, PageTurn, chosen
from schemas.picture import Box

LEAST_PAGES = 100  # fewer would be learned by heart
LOOK_AGAIN = 200  # pages taken between two looks at the folder


class CachedPages:
    """Pages of a folder's `*.jsonl`, one JSON object a page."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.taken = folder, 0
        self.known: dict[Path, list[str]] = {}
        self._look()

    @property
    def ready(self) -> bool:
        return sum(map(len, self.known.values())) >= LEAST_PAGES

    def _look(self) -> None:
        for path in sorted(self.folder.glob("*.jsonl")):
            if path not in self.known:
                self.known[path] = path.read_text().splitlines()

    def page(self, rng: random.Random, zoomed: bool, most_turns: int) -> AskedPage:
        """One page with one of its first sights, and one of its zoomed regions."""
        self.taken += 1
        if self.taken % LOOK_AGAIN == 0:
            self._look()
        page = json.loads(rng.choice(self.known[rng.choice(list(self.known))]))
        return asked_page(rng, page, zoomed, most_turns)


def asked_page(rng: random.Random, page: dict[str, Any], zoomed: bool, most_turns: int) -> AskedPage:
    """A stored page as an asked one."""
    size: tuple[float, float] = tuple(page["size_px"])
    turns = [
        PageTurn(
            t["question"],
            t["answer"],
            tuple(map(tuple, t["places_px"])),
            t["role"],
            t["spelt"],
            _box(t["box_px"]),
            _span(t.get("phrase")),
        )
        for t in page["turns"]
    ]
    base = line_tokens(read_lines(rng.choice(page["bases"])), (0.0, 0.0, *size), size)
    if not zoomed or not page["zooms"]:
        return AskedPage(size, base, None, chosen(rng, turns, None, most_turns))
    view = rng.choice(page["zooms"])
    region = _box(view["region_px"])
    assert region is not None
    return AskedPage(size, base, line_tokens(read_lines(view["lines"]), region, size), chosen(rng, turns, region, most_turns))


def read_lines(stored: Sequence[Sequence[Any]]) -> list[TextLine]:
    """Lines as stored: box, text, mean log-probability, slope."""
    return [TextLine(tuple(box), text, logprob, slope) for box, text, logprob, slope in stored]


def stored_lines(lines: Sequence[TextLine]) -> list[list[Any]]:
    """Lines as JSON."""
    return [[[round(v, 1) for v in one.box_px], one.text, round(one.logprob, 4), round(one.slope, 4)] for one in lines]


def _box(values: Sequence[float] | None) -> Box | None:
    return None if values is None else (values[0], values[1], values[2], values[3])


def _span(values: list[int] | None) -> tuple[int, int] | None:
    return None if values is None else (values[0], values[1])
