"""Draws pages with questions, has the true reader read them at several sizes, and stores what it saw for a training."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray_pipeline.models.contract import TextLine
from ray_pipeline.models.line_llava import read_view_lines
from ray_pipeline.models.page_reading import PageReader
from ray_pipeline.synthesis.document_pages import sample_asked_document
from ray_pipeline.synthesis.document_sheets import SheetLine
from ray_pipeline.training.asked_pages import region_around, turns_of
from ray_pipeline.training.page_cache import stored_lines
from schemas.picture import Picture

PAGES_A_FILE = 20
BASES, ZOOMS = 2, 2
VIEW_PX = (240, 800)  # sides of squares whose area a first sight has


def write_pages(folder: Path, reader: PageReader, fonts: Sequence[str], first_seed: int, view_px: int, files: int) -> None:
    """So many files of read pages; one that is there already is not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        seed = first_seed + number * PAGES_A_FILE
        path = folder / f"{seed:012d}.jsonl"
        if path.exists():
            continue
        lines = [json.dumps(read_page(seed + k, reader, fonts, view_px), ensure_ascii=False) for k in range(PAGES_A_FILE)]
        part = path.with_suffix(".part")
        part.write_text("\n".join(lines) + "\n")
        part.rename(path)


def read_page(seed: int, reader: PageReader, fonts: Sequence[str], view_px: int) -> dict[str, Any]:
    """One page as JSON: size, turns, lines at first sight at several sizes, lines in zoomed regions as `view_px` shows them."""
    rng = random.Random(seed)
    while True:
        page, questions = sample_asked_document(rng.getrandbits(60), list(fonts))
        lines = [SheetLine(line.text, line.box_px) for line in page.lines]
        turns = turns_of(rng, lines, questions)
        shown = [turn for turn in turns if turn.places_px]
        if shown:
            break
    picture = Picture(page.rgb, "")
    size = float(picture.width), float(picture.height)

    def look(region: tuple[float, float, float, float], side: float) -> list[TextLine]:
        return read_view_lines(reader, picture, region, round(side))

    sides = [VIEW_PX[0] * (VIEW_PX[1] / VIEW_PX[0]) ** rng.random() for _ in range(BASES)]
    regions = [region_around(rng, rng.choice(shown).places_px[0], size) for _ in range(ZOOMS)]
    return {
        "size_px": size,
        "turns": [turn.__dict__ for turn in turns],
        "bases": [stored_lines(look((0.0, 0.0, *size), side)) for side in sides],
        "zooms": [{"region_px": region, "lines": stored_lines(look(region, view_px))} for region in regions],
    }
