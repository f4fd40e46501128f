"""COCO detection: images, annotations and categories in one file. Boxes are x, y, width, height in pixels, to 1/1000.

One image per row (a picture asked about twice stands there twice), with id row number + 1, and one annotation per region,
in order, from 1. A region's category is its label, or else its kind; its supercategory is the kind. Text, kind and
confidence stand in the annotation (`attributes`, `score`), as annotation tools expect them; so does what was said of a
box in answer to `label.attributes`, under the attribute's name, where there is an answer.
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray_pipeline.delivery.exported_row import ExportedRow, Origin, Written, category
from ray_pipeline.delivery.formats.json_text import json_text, plain
from schemas.labelling import ATTRIBUTE
from schemas.picture import Box
from schemas.result import Region


def write_coco(path: Path, rows: Iterable[ExportedRow], origin: Origin) -> Written:
    """Write the file. Of all rows, only the names of the categories are kept in memory."""
    known: dict[str, dict[str, Any]] = {}
    count = regions = attributes = 0
    info = {"description": f"regions found by {origin.model}", "version": origin.version}
    with path.open("w", encoding="utf-8", newline="\n") as file, _spool(path) as annotations:
        file.write(f'{{"info":{json_text(info)},"licenses":[],"images":[\n')
        for row in rows:
            file.write(",\n" * (count > 0) + json_text(_image(row)))
            count, attributes = count + 1, attributes + row.answered
            for place, region in enumerate(row.regions):
                name = category(region)
                known.setdefault(name, {"id": len(known) + 1, "name": name, "supercategory": region.kind})
                one = _annotation(regions + 1, row.number + 1, known[name]["id"], region, row.attributes.get(place, ()))
                annotations.write(",\n" * (regions > 0) + json_text(one))
                regions += 1
        file.write('\n],"annotations":[\n')
        annotations.seek(0)
        shutil.copyfileobj(annotations, file)
        file.write(f'\n],"categories":{json_text(list(known.values()))}}}\n')
    return Written(count, regions, attributes)


def _spool(path: Path) -> Any:
    """Annotations come between rows but stand after them; they wait on the disk that the export goes to."""
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=path.parent)


def _image(row: ExportedRow) -> dict[str, Any]:
    width, height = row.size_px
    image = {"id": row.number + 1, "file_name": row.image, "width": width, "height": height}
    said = {"manifest_id": row.id, "page": row.page, "question": row.columns["question"], "answer": row.columns["answer"]}
    return image | {"attributes": {name: value for name, value in said.items() if value is not None}}


def _annotation(number: int, image: int, kind: int, region: Region, attributes: Iterable[Region]) -> dict[str, Any]:
    x, y, width, height = _xywh(region.box_px)
    annotation = {"id": number, "image_id": image, "category_id": kind, "bbox": [x, y, width, height]}
    annotation |= {"area": round(width * height, 3), "iscrowd": 0, "segmentation": []}
    if region.confidence is not None:
        annotation["score"] = plain(region.confidence, single=True)
    own = {"kind": region.kind} | ({} if region.text is None else {"text": region.text})
    answered = {one.label or ATTRIBUTE: one.text for one in attributes if one.text is not None}
    return annotation | {"attributes": own | {name: text for name, text in answered.items() if name not in own}}


def _xywh(box_px: Box) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box_px
    return round(x0, 3), round(y0, 3), round(x1 - x0, 3), round(y1 - y0, 3)
