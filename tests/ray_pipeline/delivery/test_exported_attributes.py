"""What was said of a box, in every export: with the box and never one of its own, and gone where the box is."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ray_pipeline.delivery.exported_row import ExportedRow, Origin, exported_row
from ray_pipeline.delivery.formats.alto import alto_page
from ray_pipeline.delivery.formats.coco import write_coco
from ray_pipeline.delivery.formats.csv import write_csv
from ray_pipeline.delivery.formats.hocr import hocr_page
from ray_pipeline.delivery.formats.jsonl import write_jsonl
from ray_pipeline.delivery.formats.label_studio import write_label_studio
from ray_pipeline.delivery.rows import PictureFacts, ok_row
from schemas.labelling import ATTRIBUTE
from schemas.manifest import ManifestRow
from schemas.result import RESULT_COLUMNS, Region
from tests.stand_ins.export_readers import alto_page_of, coco_pages, hocr_page_of, label_studio_pages
from tests.stand_ins.finished_runs import said

ORIGIN = Origin("embedded@0123456789ab", "1.2.3", tuple(RESULT_COLUMNS.names))


def row_of(regions: Sequence[Region], least: float | None) -> ExportedRow:
    columns = ok_row(ManifestRow(0, "a", "a.png", None, None), PictureFacts(640, 480, "ab" * 32), said("car", regions))
    assert columns["status"] == "ok", columns["error"]
    return exported_row(3, columns, least, "a.png")


CAR, BUS = (10.25, 20.5, 110.125, 40.0), (0.0, 0.0, 64.0, 48.0)
DESCRIBED = [
    Region(CAR, "car", "GZ 41", 0.75, "label"),
    *(Region(CAR, name, text, sure, ATTRIBUTE) for name, text, sure in [
        ("colour", "red", 0.5), ('"plate" <&>', "=A\n<b>", 0.9), ("owner", None, None), ("label", "x", 0.1),
    ]),
    Region(BUS, "bus", None, 0.25, "label"), Region(BUS, "colour", "green", 0.875, ATTRIBUTE),
]  # fmt: skip
SAID_OF = [{"colour": "red", '"plate" <&>': "=A\n<b>", "label": "x"}, {"colour": "green"}]


@pytest.mark.parametrize(("least", "said_of"), [(None, SAID_OF), (0.4, [{"colour": "red", '"plate" <&>': "=A\n<b>"}]), (0.8, [])])
def test_attributes_are_said_of_their_box_and_are_no_boxes(
    least: float | None, said_of: list[dict[str, str]], tmp_path: Path
) -> None:
    row = row_of(DESCRIBED, least)
    write: dict[str, Callable[..., Any]] = {
        "coco.json": write_coco, "r.jsonl": write_jsonl, "r.csv": write_csv, "studio": write_label_studio
    }  # fmt: skip
    (tmp_path / "studio").mkdir()
    for name, format in write.items():
        written = format(tmp_path / name, [row], ORIGIN)
        assert (written.regions, written.attributes) == (len(said_of), sum(map(len, said_of)))
    for (page,) in (coco_pages(tmp_path / "coco.json"), label_studio_pages(tmp_path / "studio")):
        assert [one.attributes for one in page.regions] == said_of
        assert [(one.label, one.text) for one in page.regions] == [("car", "GZ 41"), ("bus", None)][: len(said_of)]
    line = json.loads((tmp_path / "r.jsonl").read_text("utf-8"))
    table = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text("utf-8"))))
    assert line["regions"] == json.loads(table[0]["regions"])
    if least is None:
        assert [(one["label"], one["text"], one["kind"]) for one in line["regions"]] == [
            (one.label, one.text, one.kind) for one in DESCRIBED
        ]
    for page in (hocr_page_of(hocr_page(row, ORIGIN)), alto_page_of(alto_page(row, ORIGIN).encode())):
        assert [one.label for one in page.regions] == ["car", "bus"][: len(said_of)]


def test_an_attribute_without_its_box_is_a_region_of_its_own() -> None:
    strays = [
        Region(CAR, "colour", "red", 0.5, ATTRIBUTE),
        Region(BUS, "bus", None, 0.5, "label"),
        Region(CAR, "colour", "blue", 0.5, ATTRIBUTE),
    ]
    row = row_of(strays, None)
    assert list(row.regions) == strays and row.attributes == {}
