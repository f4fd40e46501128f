"""One file per row in a folder: names are row numbers, and pages.jsonl says which id each of them is.

000001/000001234.hocr is row 1234 of the results, counted from 0: a folder holds the files of 1,000 rows. Nothing in a
name comes from data.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from ray_pipeline.delivery.exported_row import ExportedRow, Written
from ray_pipeline.delivery.formats.json_text import json_text

PER_FOLDER = 1000
PICTURES = "images"  # the folder of copied pictures within an export, named as pages are


def page_name(number: int, ending: str) -> str:
    """The path of a row's file within the export."""
    return f"{number // PER_FOLDER:06d}/{number:09d}.{ending}"


def write_pages(folder: Path, rows: Iterable[ExportedRow], ending: str, page_of: Callable[[ExportedRow], bytes]) -> Written:
    """Write what `page_of` gives for each row, and pages.jsonl."""
    count = regions = 0
    with (folder / "pages.jsonl").open("w", encoding="utf-8", newline="\n") as names:
        for row in rows:
            name = page_name(row.number, ending)
            file = folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(page_of(row))
            said = {"file": name, "image_uri": row.columns["image_uri"], "row": row.number, "id": row.id, "page": row.page}
            names.write(json_text(said) + "\n")
            count, regions = count + 1, regions + len(row.regions)
    return Written(count, regions)
