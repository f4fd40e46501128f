"""Long documents: `python -m benchmarks.documents [--tiff-pages 60] [--pdf-pages 100]`.

A TIFF of A4 pages in colour at 300 dpi and a PDF of as many dots per inch, made on the fly, go through the whole pipeline (Ray,
fetching, decoding children, journal, commit, audit) with the digest model. Bars: each page is a row of status ok in its
place, `verify` finds nothing, and the memory of all processes of the run together stays below 3 GiB at every moment.
Memory is the proportional share of each process, so that what several of them map counts once. Prints a table and, last, one
line of figures.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

BAR_BYTES = 3 << 30
A4_PX, A4_PT = (2480, 3508), (595.28, 841.89)
LINES = 40
LOOK_EVERY_S = 0.25
MARK = "MEASURED_RUN"


def sheets(count: int) -> Iterator[Image.Image]:
    """Pages of text on tinted paper, each with its number."""
    for number in range(count):
        page = Image.new("RGB", A4_PX, (250, 247, 240 - number % 40))
        draw = ImageDraw.Draw(page)
        for line in range(LINES):
            draw.text((200, 200 + 78 * line), f"page {number}, line {line}: the quick brown fox " * 3, (20, 20, 60), font_size=30)
        yield page


def write_tiff(path: Path, count: int) -> None:
    pages = sheets(count)
    next(pages).save(path, save_all=True, append_images=pages, compression="jpeg", quality=85, dpi=(300, 300))


def write_pdf(path: Path, count: int) -> None:
    """By hand, so that nothing is needed to make one."""
    bodies = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    for number in range(count):
        lines = (
            b"BT /F1 8 Tf 48 %d Td (page %d, line %d: the quick brown fox) Tj ET" % (780 - 18 * k, number, k)
            for k in range(LINES)
        )
        content = b"\n".join(lines)
        head = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %g %g]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
        bodies.append(head % (*A4_PT, len(bodies) + 2))
        bodies.append(b"<</Length %d>>stream\n%s\nendstream" % (len(content), content))
    kids = b" ".join(b"%d 0 R" % (4 + 2 * number) for number in range(count))
    bodies[1] = b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, count)
    data, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(bodies, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1) + b"".join(b"%010d 00000 n \n" % place for place in places)
    path.write_bytes(data + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(bodies) + 1, start))


class Memory:
    """The most that all processes with this mark in their environment, and their descendants, held at a time."""

    def __init__(self, mark: str) -> None:
        self.mark, self.peak_bytes, self.at_peak = f"{MARK}={mark}".encode(), 0, dict[str, int]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            held = self._held()
            if sum(held.values()) > self.peak_bytes:
                self.peak_bytes, self.at_peak = sum(held.values()), held

    def _held(self) -> dict[str, int]:
        """Bytes by kind of process."""
        parents, marked = {}, set()
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                stat = Path(f"/proc/{name}/stat").read_text()
                parents[int(name)] = int(stat.rpartition(")")[2].split()[1])
                if self.mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    marked.add(int(name))
            except (OSError, ValueError):
                continue
        held: dict[str, int] = {}
        for pid in parents:
            if _descends(pid, parents, marked):
                kind, size = _measured(pid)
                held[kind] = held.get(kind, 0) + size
        return held


def _descends(pid: int, parents: dict[int, int], marked: set[int]) -> bool:
    while pid and pid not in marked:
        pid = parents.get(pid, 0)
    return bool(pid)


def _measured(pid: int) -> tuple[str, int]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return "gone", 0
    kinds = {"decode_child": "decoders", "model_process_child": "model", "_PartWorker": "workers", "hash_ocr": "driver"}
    kind = next((kind for word, kind in kinds.items() if word in words), "Ray")
    return kind, sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiff-pages", type=int, default=60)
    parser.add_argument("--pdf-pages", type=int, default=100)
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--model", default="embedded", help="folder of which all is checked as ever, but nothing is loaded")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="fovea-documents-") as name:
        more = ["--actors", str(options.actors), "--model", options.model, "--set", "fetch.pdf=true"]
        return _measure(Path(name), {"scan.tif": options.tiff_pages, "print.pdf": options.pdf_pages}, more)


def _measure(folder: Path, counts: dict[str, int], more: list[str]) -> int:
    write_tiff(folder / "scan.tif", counts["scan.tif"])
    write_pdf(folder / "print.pdf", counts["print.pdf"])
    manifest, output, mark = folder / "manifest.parquet", folder / "out", uuid.uuid4().hex
    pq.write_table(pa.table({"id": list(counts), "image_uri": list(counts)}), manifest)
    command = [sys.executable, "-m", "tests.faults.hash_ocr", "--manifest", str(manifest), "--output", str(output)]
    started = time.monotonic()
    with Memory(mark) as memory:
        code = subprocess.run([*command, *more], env=os.environ | {MARK: mark}).returncode
    seconds = time.monotonic() - started
    verified = subprocess.run([sys.executable, "-m", "jobs.verify", "--output", str(output)]).returncode
    rows = pq.read_table(output / "results", columns=["id", "page", "status"]).to_pylist() if not code else []
    expected = [{"id": name, "page": page, "status": "ok"} for name, count in counts.items() for page in range(count)]
    for name, count in counts.items():
        found = sum(row["id"] == name and row["status"] == "ok" for row in rows)
        print(f"{name:10} {(folder / name).stat().st_size / 1e6:7.1f} MB  {count:4} pages  {found:4} rows ok")
    for kind, size in sorted(memory.at_peak.items(), key=lambda one: -one[1]):
        print(f"  {kind:9} {size / 2**20:7.0f} MiB at the peak")
    figures = {
        "pages": len(expected), "rows_in_place": rows == expected, "verified": verified == 0, "exit_code": code,
        "peak_mib": round(memory.peak_bytes / 2**20), "bar_mib": BAR_BYTES >> 20, "wall_s": round(seconds, 1),
    }  # fmt: skip
    print(json.dumps(figures))
    return 0 if rows == expected and not verified and memory.peak_bytes < BAR_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
