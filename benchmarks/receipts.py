"""Scanned receipts read as a run of `ocr` reads them: `python -m benchmarks.receipts --data DIR [--limit 10]`.

DIR holds `ocr.parquet` (id, image_uri relative to DIR, references, reference_boxes) and the pictures. `--synthetic 20`
draws receipts of known content instead, in fonts that no model was trained on. The embedded model and Tesseract
(`tesseract PICTURE - --psm 6`) read each page in turn on one thread, the model loaded once. Word-F1: a page's words
[A-Z0-9.]+ in upper case, as a multiset. Bars: mean word-F1 of at least 0.70, at most twice Tesseract's processor time,
file to text. Where DIR holds `answer.parquet` too, the questions of `benchmarks.receipt_answers` follow, then some of the lines
are looked for as in `benchmarks.receipt_labels`, both with their bars. Ends with one line of figures; exit 1 on a miss, also
where Tesseract is not there to be measured against.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks import receipt_answers, receipt_labels, sought_lines
from benchmarks.packaged_models import Bench
from ray_pipeline.batching import converse
from ray_pipeline.models.contract import Family
from ray_pipeline.models.families import load_family
from ray_pipeline.page_reader import read_page
from ray_pipeline.perceiver import Plan, Seen
from ray_pipeline.synthesis.document_pages import sample_document
from ray_pipeline.synthesis.fonts import evaluation_fonts
from schemas.methods import RefineSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Picture
from schemas.reading import ReadingSettings

LEAST_F1, MOST_TIMES = 0.70, 2.0
PHRASES = 200  # lines of the folder's pages that are looked for by their text
FIRST_SYNTHETIC = 7_000_000  # seeds from here on are this benchmark's
_WORD = re.compile(r"[A-Z0-9.]+")


@dataclass(frozen=True)
class Page:
    """A picture file and all that stands on it."""

    id: str
    file: Path
    reference: str


@dataclass(frozen=True)
class Score:
    """Words right, said and there on one page, and what reading it took in seconds: processor and wall."""

    right: int
    said: int
    there: int
    processor_s: float
    wall_s: float

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.said + self.there) if self.said + self.there else 1.0


def words(text: str) -> Counter[str]:
    """Runs of letters, figures and full stops, in upper case, with how often each is there."""
    return Counter(_WORD.findall(text.upper()))


def scored(text: str, page: Page, processor_s: float, wall_s: float) -> Score:
    """The page's word counts against its reference."""
    said, there = words(text), words(page.reference)
    return Score((said & there).total(), said.total(), there.total(), processor_s, wall_s)


def pages_of(folder: Path, limit: int | None) -> list[Page]:
    """The rows of `ocr.parquet`; a row's first reference is its text."""
    rows = pq.read_table(folder / "ocr.parquet", columns=["id", "image_uri", "references"]).to_pylist()
    return [Page(row["id"], folder / row["image_uri"], row["references"][0]) for row in rows[:limit]]


def synthetic(folder: Path, count: int) -> Iterator[Page]:
    """Rendered documents with their lines as reference, written as JPEG files."""
    for seed in range(FIRST_SYNTHETIC, FIRST_SYNTHETIC + count):
        document = sample_document(seed, evaluation_fonts())
        file = folder / f"{seed}.jpg"
        Image.fromarray(document.rgb).save(file, quality=85)
        yield Page(str(seed), file, "\n".join(line.text for line in document.lines))


class Ours:
    """The model as `ocr` uses it, one page at a time."""

    def __init__(self, model: str) -> None:
        self.family: Family = load_family(ModelSettings(name=model), ViewSettings(), PromptSettings())
        self.plan = Plan(
            ViewSettings(), RefineSettings(method="none"), PromptSettings(), self.family.defaults, reading=ReadingSettings()
        )  # fmt: skip

    def read(self, page: Page) -> Score:
        """From the file to the text."""
        wall, processor = time.perf_counter(), time.process_time()
        with Image.open(page.file) as image:
            picture = Picture(np.asarray(image.convert("RGB")), page.id)
        ended = converse(self.family, {0: read_page(picture, self.plan)})[0]
        if not isinstance(ended, Seen):
            raise ended
        spent = time.process_time() - processor, time.perf_counter() - wall
        return scored(ended.perception.answer or "", page, *spent)


def tesseract(page: Page) -> Score:
    """The other reader, a process of its own as everybody runs it."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = ["tesseract", str(page.file), "-", "--psm", "6"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_THREAD_LIMIT": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return scored(ran.stdout, page, processor, time.perf_counter() - wall)


def figures(name: str, scores: list[Score]) -> dict[str, float]:
    """Means over the pages, the words of all pages pooled, and times."""
    pooled = Score(sum(s.right for s in scores), sum(s.said for s in scores), sum(s.there for s in scores), 0.0, 0.0)
    return {
        f"{name} word-F1": round(fmean(score.f1 for score in scores), 4),
        f"{name} pooled": round(pooled.f1, 4),
        f"{name} processor s": round(fmean(score.processor_s for score in scores), 3),
        f"{name} median s": round(median(score.processor_s for score in scores), 3),
        f"{name} wall s": round(fmean(score.wall_s for score in scores), 3),
    }


def main(argv: list[str] | None = None) -> int:
    """Read every page twice and compare; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder with ocr.parquet and its pictures")
    source.add_argument("--synthetic", type=int, help="so many rendered documents instead")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--limit", type=int, help="only the first so many pages of the folder")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="receipts-") as folder:
        if options.data:
            pages = pages_of(options.data, options.limit)
        else:
            pages = list(synthetic(Path(folder), options.synthetic))
        found, missed = compare(Ours(options.model), pages)
    if options.data and (options.data / "answer.parquet").is_file():
        bench = Bench(ModelSettings(name="documents"), RefineSettings())
        answered = receipt_answers.measure(bench, receipt_answers.asked_of(options.data, options.limit))
        found |= {f"answers {name}": value for name, value in answered.items()}
        missed |= receipt_answers.missed(answered)
    if options.data:
        sought = sought_lines.scanned(options.data, PHRASES, seed=0)
        labelled = receipt_labels.measure("documents", sought)
        found |= {f"labels {name}": value for name, value in labelled.items()}
        missed |= receipt_labels.missed(labelled)
    print(json.dumps({"pages": len(pages), **found}))
    return int(missed)


def compare(ours: Ours, pages: list[Page]) -> tuple[dict[str, float], bool]:
    """Both readers on every page in turn: the figures, and whether a bar is missed. Prints the table."""
    rival = shutil.which("tesseract") is not None
    own, other = [], []
    print("page                F1  Tesseract   s (processor)  Tesseract", flush=True)
    for page in pages:
        own.append(ours.read(page))
        shown = f"{page.id:14s} {own[-1].f1:7.3f}"
        if rival:
            other.append(tesseract(page))
            print(f"{shown} {other[-1].f1:10.3f} {own[-1].processor_s:15.2f} {other[-1].processor_s:10.2f}", flush=True)
        else:
            print(f"{shown} {'':10s} {own[-1].processor_s:15.2f}", flush=True)
    found = figures("embedded", own)
    if not rival:
        print("time: not measured, there is no tesseract to hold it against")
        return found, True
    found |= figures("tesseract", other)
    found["times tesseract"] = round(found["embedded processor s"] / found["tesseract processor s"], 3)
    return found, found["embedded word-F1"] < LEAST_F1 or found["times tesseract"] > MOST_TIMES


if __name__ == "__main__":
    sys.exit(main())
