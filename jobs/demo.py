"""See it work: render a small archive, answer its questions by zooming, show the answers and where the report is.

Example:
  fovea demo --folder demo
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from jobs import answer, report
from ray_pipeline.synthesis.archive import Entry, broken_entries, entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases

PICTURES = (("small", "read", 12), ("small", "where", 2), ("medium", "read", 5), ("large", "read", 3), ("large", "where", 2))


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns answer's exit code."""
    parser = argparse.ArgumentParser(prog="fovea demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="replaced if an earlier demo made it")
    parser.add_argument("--actors", type=int, default=2)
    options = parser.parse_args(argv)
    if options.folder.exists():
        if not (options.folder / "manifest.parquet").exists() and any(options.folder.iterdir()):
            print(f"fovea demo: --folder {options.folder} holds something else; expected a new folder", file=sys.stderr)
            return 2
        shutil.rmtree(options.folder)
    started = time.monotonic()
    entries = demo_entries()
    manifest = write_archive(options.folder, entries)
    print(f"{len(entries)} pictures rendered in {time.monotonic() - started:.0f} s: {manifest}", flush=True)
    results = options.folder / "results"
    code = answer.main(
        ["--manifest", str(manifest), "--output", str(results), "--actors", str(options.actors), "--set", "run.part_rows=5"]
    )
    if code:
        return code
    print_answers(results, {entry.id: entry.reference for entry in entries})
    code = report.main(["--output", str(results), "--html", str(options.folder / "report.html")])
    print(f"results: {results / 'results'}/part-*.parquet\nreport:  {options.folder / 'report.html'}")
    print(f"whole demo: {time.monotonic() - started:.0f} s")
    return code


def demo_entries() -> list[Entry]:
    """24 pictures of 2 to 12 megapixels from seeds of their own, and three broken files among them."""
    rendered: list[Entry] = []
    for bucket, task, count in PICTURES:
        first = 20 if task == "where" else 0
        rendered += [entry_of(case) for case in cases("demo", bucket, count, (2.0, 12.0), task, first)]
    broken = broken_entries(rendered[0])
    return rendered[:6] + broken[:1] + rendered[6:12] + broken[1:2] + rendered[12:18] + broken[2:] + rendered[18:]


def print_answers(results: Path, truths: dict[str, str]) -> None:
    """One line per row: question, truth, answer without and with the zoom, confidence."""
    widths = (14, 44, 8, 12, 12, 5, 10)
    line = " ".join(f"{{:{width}}}" for width in widths)
    print(line.format("id", "question", "truth", "first look", "final", "sure", "zoom"))
    for row in pq.read_table(results / "results").to_pylist():
        if row["status"] != "ok":
            print(line.format(row["id"][:14], row["question"][:44], "", "", row["status"], "", ""))
            continue
        box = row["box"] and "box {x0:.0f},{y0:.0f} {x1:.0f},{y1:.0f}".format(**row["box"])
        first, final = row["baseline_answer"] or "(box)", row["answer"] or box or ""
        zoom = "kept" if row["refinement"]["used"] else "not kept" if row["refinement"]["crops"] else "no need"
        print(
            line.format(
                row["id"],
                row["question"][:44],
                truths[row["id"]] or "(box)",
                first[:12],
                final,
                f"{row['answer_confidence']:.2f}",
                zoom,
            )
        )


if __name__ == "__main__":
    sys.exit(main())
