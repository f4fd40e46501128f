"""Questions about scanned receipts: `python -m benchmarks.receipt_answers --data DIR [--limit 30]`.

DIR holds `answer.parquet` (id, image_uri relative to DIR, question, references, reference_boxes) and the pictures.
`--synthetic 40` asks about drawn documents instead, in fonts that no model was trained on. The `documents` model answers
from the whole picture as first shown, with zoom as a run would, and with the true crop (a window around the answer's first
reference box) behind the picture. ANLS. Bars: 0.75 with the true crop, zooming recovers 0.6 of the gap between the whole
picture and the true crop, two seconds a question with zoom. Ends with one line of figures; exit 1 on a miss.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.packaged_models import Bench
from ray_pipeline.scoring.anls import anls
from ray_pipeline.synthesis.document_pages import sample_asked_document
from ray_pipeline.synthesis.document_sheets import SheetLine
from ray_pipeline.synthesis.fonts import evaluation_fonts
from ray_pipeline.training.asked_pages import places
from schemas.methods import RefineSettings
from schemas.model import ModelSettings, ViewSettings
from schemas.picture import Box, Picture

LEAST_TRUE, LEAST_RECOVERED, MOST_S = 0.75, 0.6, 2.0
AROUND = 1.5  # the true crop's width and height in those of the answer's box, as wide as the model's smallest window at least
FIRST_SYNTHETIC = 8_000_000  # seeds from here on are this benchmark's
CONDITIONS = ("none", "zoom", "true_crop")


@dataclass(frozen=True)
class Asked:
    """One question about one picture; the boxes are where its answer is printed."""

    id: str
    picture: Picture
    question: str
    references: tuple[str, ...]
    boxes_px: tuple[Box, ...]


def asked_of(folder: Path, limit: int | None) -> Iterator[Asked]:
    """The rows of `answer.parquet`."""
    for row in pq.read_table(folder / "answer.parquet").to_pylist()[:limit]:
        with Image.open(folder / row["image_uri"]) as image:
            picture = Picture(np.asarray(image.convert("RGB")), row["id"])
        boxes = tuple((box["x0"], box["y0"], box["x1"], box["y1"]) for box in row["reference_boxes"])
        yield Asked(row["id"], picture, row["question"], tuple(row["references"]), boxes)


def synthetic(count: int, first: int = FIRST_SYNTHETIC) -> Iterator[Asked]:
    """Total, date and company of drawn documents."""
    for seed in range(first, first + count):
        page, questions = sample_asked_document(seed, evaluation_fonts())
        lines = [SheetLine(line.text, line.box_px) for line in page.lines]
        for one in questions:
            whole, parts = places(lines, one)
            if one.role in ("total", "date", "company") and (whole or parts):
                yield Asked(f"{seed}-{one.role}", Picture(page.rgb, str(seed)), one.question, (one.answer,), (*whole, *parts))


def true_crop(asked: Asked, least_px: float) -> Box:
    """A window around the answer's first box, moved inside the picture."""
    x0, y0, x1, y1 = asked.boxes_px[0]
    wide = min(max(AROUND * (x1 - x0), least_px), asked.picture.width)
    tall = min(max(AROUND * (y1 - y0), least_px), asked.picture.height)
    left = min(max((x0 + x1 - wide) / 2, 0.0), asked.picture.width - wide)
    top = min(max((y0 + y1 - tall) / 2, 0.0), asked.picture.height - tall)
    return left, top, left + wide, top + tall


def main(argv: list[str] | None = None) -> int:
    """Ask every question in three ways; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder with answer.parquet and its pictures")
    source.add_argument("--synthetic", type=int, help="so many rendered documents instead")
    parser.add_argument("--first", type=int, default=FIRST_SYNTHETIC, help="seed of the first rendered document")
    parser.add_argument("--model", default="documents")
    parser.add_argument("--resolution", type=int, help="side of the square whose area a view has, px")
    parser.add_argument("--refine", action="append", default=[], metavar="KEY=VALUE", help="a setting of refine, as in a config")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    refine = RefineSettings.model_validate(dict(one.split("=", 1) for one in options.refine))
    bench = Bench(ModelSettings(name=options.model), refine, ViewSettings(resolution_px=options.resolution))
    asked = asked_of(options.data, options.limit) if options.data else synthetic(options.synthetic, options.first)
    found = measure(bench, asked)
    print(json.dumps(found))
    return int(missed(found))


def missed(found: dict[str, float]) -> bool:
    """Whether a bar is."""
    return found["true_crop"] < LEAST_TRUE or found["recovered"] < LEAST_RECOVERED or found["s a question"] > MOST_S


def measure(bench: Bench, questions: Iterable[Asked]) -> dict[str, float]:
    """Mean ANLS by condition and kind of question, and what zooming took. Prints each answer and the table."""
    scores: dict[tuple[str, str], list[float]] = {}
    seconds = []
    for asked in questions:
        said, took = answers(bench, asked)
        seconds.append(took)
        shown = []
        for name, text in said.items():
            score = anls(text, asked.references)
            shown.append(f"{name} {score:.2f} {text[:32]!r}")
            for kind in ("all", asked.id.rsplit("-", 1)[-1]):
                scores.setdefault((name, kind), []).append(score)
        print(f"{asked.id:16s} {asked.references[0][:32]!r:34s} {'  '.join(shown)}", flush=True)
    for kind in sorted({kind for _, kind in scores}):
        means = "  ".join(f"{name} {fmean(scores[name, kind]):.3f}" for name in CONDITIONS)
        print(f"{kind:10s} n = {len(scores['none', kind]):4d}  {means}")
    found = {name: round(fmean(scores[name, "all"]), 4) for name in CONDITIONS}
    gap = found["true_crop"] - found["none"]
    recovered = (found["zoom"] - found["none"]) / gap if gap > 0 else float(found["zoom"] >= found["none"])
    return {"questions": len(seconds), **found, "recovered": round(recovered, 3), "s a question": round(fmean(seconds), 3)}


def answers(bench: Bench, asked: Asked) -> tuple[dict[str, str], float]:
    """What is said under each condition, and the seconds that the zoomed answer took."""
    picture = asked.picture
    start = time.perf_counter()
    zoomed = bench.seen(picture, asked.question, bench.plan()).perception.answer or ""
    took = time.perf_counter() - start
    tokens = bench.tokens(picture, ((0.0, 0.0, float(picture.width), float(picture.height)),))
    window = (bench.family.defaults.base_window_share or 0.2) * (picture.width * picture.height) ** 0.5
    behind = bench.tokens(picture, (true_crop(asked, window),), tokens)
    return {
        "none": bench.ask(tokens, asked.question).text, "zoom": zoomed, "true_crop": bench.ask(behind, asked.question).text
    }, took  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
