"""Whether other programs read the exports: `python -m benchmarks.exports [--rows 300] [--tools PYTHON]`.

A run of made rows, with hostile texts among them and some rows failed, is exported in every format. Each export is read
back by an independent reader: alto by lxml with the official schema, coco by the COCO tools, hocr by an HTML and an XML
parser, and with --tools (an interpreter whose environment has label-studio-sdk, pycocotools, hocr-spec and pypdf) by those too.
Ends with one line of figures; exit 1 where a row, a region, a text or more than half a pixel is lost.
"""

import argparse
import contextlib
import csv
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.export import FORMATS
from jobs.export import main as export
from ray_pipeline.delivery.exported_row import Origin, category, exported_row
from ray_pipeline.delivery.finished_run import finished_run
from ray_pipeline.delivery.formats.searchable_pdf import write_searchable_pdf
from ray_pipeline.delivery.formats.xml_text import writable
from ray_pipeline.delivery.rows import PictureFacts
from schemas.manifest import ManifestRow
from schemas.picture import Box
from schemas.result import Region
from schemas.status import Status
from tests.faults.naughty_strings import STORABLE
from tests.stand_ins.export_readers import (
    ReadPage,
    ReadRegion,
    alto_page_of,
    coco_pages,
    hocr_page_of,
    label_studio_pages,
    pages_in,
    pdf_page_of,
)
from tests.stand_ins.finished_runs import Ended, lost, said, write_run

MOST_PX = 0.5
SHARES = {"failed": 0.05, "naughty": 0.3, "wordless": 0.1, "unsure": 0.1}
WORDS = [
    "invoice", "total", "of", "the", "Zürich", "東京", "שלום", "عربى", "12.50", "EUR", "No.", "4711", "naïve", "–", "“quoted”",
]  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """What one reader made of one format: how much is lost, and how far the farthest edge of a box is off, where it can say."""

    format: str
    reader: str
    rows: int
    regions: int
    lost: int
    worst_px: float | None
    seconds: float
    megabytes: float

    @property
    def held(self) -> bool:
        """Whether nothing is lost."""
        return self.lost == 0 and (self.worst_px is None or self.worst_px <= MOST_PX)


def made_rows(count: int, seed: int) -> list[Ended]:
    """Pages of up to forty lines, boxes with labels among them, and rows that failed."""
    rng = random.Random(seed)
    return [_ended(number, rng) for number in range(count)]


def _ended(number: int, rng: random.Random) -> Ended:
    row = ManifestRow(number, f"{number} {rng.choice(STORABLE)}"[:200].replace("\0", ""), f"scans/{number}.png", None, "?")
    if rng.random() < SHARES["failed"]:
        return row, None, lost(rng.choice((Status.FETCH_TIMEOUT, Status.DECODE_CORRUPT, Status.INVALID_OUTPUT)))
    width, height = rng.randint(40, 9000), rng.randint(40, 12_000)
    regions = [_region(width, height, rng) for _ in range(rng.choice((0, 1, 8, 40)))]
    return row, PictureFacts(width, height, "ab" * 32), said("page", regions, confidence=rng.random())


def _region(width: int, height: int, rng: random.Random) -> Region:
    x, y = sorted(rng.uniform(0, width) for _ in range(2)), sorted(rng.uniform(0, height) for _ in range(2))
    box: Box = (x[0], y[0], max(x[1], x[0] + 0.01), max(y[1], y[0] + 0.01))
    text = rng.choice(STORABLE) if rng.random() < SHARES["naughty"] else " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))
    label = rng.choice((None, "total", "stamp", "line", "日付", rng.choice(STORABLE)))
    sure = None if rng.random() < SHARES["unsure"] else rng.random()
    return Region(box, label, None if rng.random() < SHARES["wordless"] else text, sure, rng.choice(("line", "box")))


Regions = list[list[Region]]  # of the rows that are ok, in order


def readings(folder: Path, truth: Regions, sizes: dict[str, tuple[float, float]]) -> Iterator[Reading]:
    """Each export read back here."""
    for name, reader, read in READERS:
        pages = list(read(folder / name if name != "coco" else folder / "coco.json"))
        lost_here, worst = _compared(pages, truth, name)
        regions = sum(len(page.regions) for page in pages)
        yield Reading(name, reader, len(pages), regions, lost_here, worst, *sizes[name])


def _compared(pages: list[ReadPage], truth: Regions, name: str) -> tuple[int, float]:
    gone, worst = abs(len(pages) - len(truth)), 0.0
    for page, wanted in zip(pages, truth, strict=False):
        gone += abs(len(page.regions) - len(wanted))
        for read, region in zip(page.regions, wanted, strict=False):
            worst = max([worst, *(abs(a - b) for a, b in zip(read.box_px, region.box_px, strict=True))])
            gone += not _same_text(read, region, name)
    return gone, worst


def _same_text(read: ReadRegion, region: Region, name: str) -> bool:
    if name in ("alto", "hocr"):
        words = writable(" ".join((region.text or "").split())).split()
        label = None if region.label is None else writable(region.label)
        return (read.text or "").split() == words and read.label == label
    label = {"coco": category(region), "label-studio": writable(category(region))}.get(name, region.label)
    return read.text == region.text and read.label == label


def _jsonl_pages(path: Path) -> Iterator[ReadPage]:
    for line in path.read_text("utf-8").splitlines():
        yield _row_page(json.loads(line)["regions"])


def _csv_pages(path: Path) -> Iterator[ReadPage]:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, strict=True):
            formulas = [cell for cell in row.values() if cell.lstrip().startswith(("=", "+", "-", "@"))]
            yield _row_page([] if formulas else json.loads(row["regions"]))  # one formula, and the row counts as lost


def _row_page(regions: list[dict[str, Any]]) -> ReadPage:
    edges = ("x0", "y0", "x1", "y1")
    found = [
        ReadRegion((one["box"]["x0"], *(one["box"][edge] for edge in edges[1:])), one["text"], one["label"], one["confidence"])
        for one in regions
    ]
    return ReadPage("", (0, 0), found)


READERS: tuple[tuple[str, str, Callable[[Path], Any]], ...] = (
    ("alto", "lxml, schema 4.3", lambda folder: (alto_page_of(data) for _, data in pages_in(folder))),
    ("coco", "faster-coco-eval", coco_pages),
    ("csv", "csv", _csv_pages),
    ("hocr", "html.parser and lxml", lambda folder: (hocr_page_of(data.decode()) for _, data in pages_in(folder))),
    ("jsonl", "json", _jsonl_pages),
    ("label-studio", "by its documentation", label_studio_pages),
)


def with_tools(python: str, folder: Path, truth: Regions, sizes: dict[str, tuple[float, float]]) -> Iterator[Reading]:
    """Each export read by the tools of another environment."""
    boxes = [[region.box_px for region in regions] for regions in truth]
    (folder / "truth.json").write_text(json.dumps(boxes))
    tools = Path(__file__).with_name("export_tools.py")
    done = subprocess.run([python, str(tools), str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    for name, found in json.loads(done.stdout).items():
        if found.get("first"):
            print(f"{found['tool']}: {found['first']}", file=sys.stderr)
        gone, regions = found["invalid"] + found["missing"], sum(map(len, truth))
        yield Reading(name, found["tool"], len(truth), regions, gone, found.get("worst_px"), *sizes[name])


def searchable(folder: Path, run: str, truth: Regions, python: str | None) -> Iterator[Reading]:
    """Pages without pictures, read by PDFium, and by pypdf in the other environment: plain words that are not found again."""
    place, started = folder / "searchable-pdf", time.perf_counter()
    place.mkdir()
    rows = (exported_row(*one, None, "") for one in enumerate(finished_run(run).rows()) if one[1]["status"] == Status.OK)
    written = write_searchable_pdf(place, rows, Origin("benchmark", "0", ()))
    size = (time.perf_counter() - started, sum(path.stat().st_size for path in place.rglob("*.pdf")) / 1e6)
    texts = {"pdfium": [pdf_page_of(data)[0] for _, data in pages_in(place)]}
    if python:
        code = "import json, pathlib, pypdf, sys; print(json.dumps([pypdf.PdfReader(p, strict=True).pages[0].extract_text() "
        code += "for p in sorted(pathlib.Path(sys.argv[1]).rglob('*.pdf'))]))"
        texts["pypdf"] = json.loads(subprocess.run([python, "-c", code, str(place)], stdout=subprocess.PIPE, check=True).stdout)
    for reader, pages in texts.items():
        gone = abs(len(pages) - len(truth)) + sum(_missing_words(*one) for one in zip(pages, truth, strict=False))
        yield Reading("searchable-pdf", reader, written.rows, written.regions, gone, None, *size)


def _missing_words(text: str, regions: list[Region]) -> int:
    """Of boxes of some size: readers skip text smaller than dust. Where they see white space is their own guess."""
    found = "".join(text.split())
    sized = [region for region in regions if min(region.box_px[2] - region.box_px[0], region.box_px[3] - region.box_px[1]) > 4]
    words = [word for region in sized for word in (region.text or "").split() if word.isascii() and word.isalnum()]
    return sum(word not in found for word in words)


def _exported(run: str, folder: Path) -> dict[str, tuple[float, float]]:
    """Seconds and megabytes of each export."""
    sizes = {}
    for name in (name for name, one in FORMATS.items() if not one.holds_pictures):
        place, started = folder / ("coco.json" if name == "coco" else name), time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()) as spoken:
            code = export(["--run", run, "--format", name, "--to", str(place)])
        if code:
            raise SystemExit(f"export --format {name} ended with {code}")
        files = [path for path in (place, *place.rglob("*")) if path.is_file()]
        sizes[name] = (time.perf_counter() - started, sum(path.stat().st_size for path in files) / 1e6)
        print(f"{name:<13} {spoken.getvalue().splitlines()[-1]}")
    return sizes


def main(argv: list[str] | None = None) -> int:
    """Make, export, read, compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tools", metavar="PYTHON", help="interpreter with label-studio-sdk, pycocotools, hocr-spec and pypdf")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="exports-") as scratch:
        folder = Path(scratch)
        rows = made_rows(options.rows, options.seed)
        run = write_run(folder / "run", rows)
        sizes = _exported(run, folder)
        truth = [list(end.regions) for _, facts, end in rows if facts is not None and hasattr(end, "regions")]
        found = list(readings(folder, truth, sizes))
        found += searchable(folder, run, truth, options.tools)
        if options.tools:
            found += with_tools(options.tools, folder, truth, sizes)
    print(f"{'format':<15} {'reader':<24} {'rows':>6} {'regions':>8} {'lost':>5} {'worst px':>9} {'s':>6} {'MB':>7}")
    for one in found:
        worst = "-" if one.worst_px is None else f"{one.worst_px:.4f}"
        line = f"{one.format:<15} {one.reader:<24} {one.rows:>6} {one.regions:>8} {one.lost:>5} {worst:>9}"
        print(f"{line} {one.seconds:>6.2f} {one.megabytes:>7.2f}{'' if one.held else '  MISSED'}")
    if not options.tools:
        print("not checked, for want of --tools: label-studio-sdk, pycocotools, hocr-spec, pypdf")
    print(json.dumps({f"{one.format} by {one.reader}": asdict(one) | {"held": one.held} for one in found}))
    return 0 if all(one.held for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
