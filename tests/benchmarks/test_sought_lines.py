"""Lines to be found are lines of the page, wherever their text stands; what is absent is nowhere on it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks import receipt_labels
from benchmarks.sought_lines import Printed, Sought, drawn, scanned
from ray_pipeline.synthesis.fonts import evaluation_fonts
from schemas.picture import Picture

LINES = (("TOTAL", (10.0, 10.0, 60.0, 18.0)), ("9.90", (80.0, 10.0, 99.0, 22.0)), ("Total ", (10.0, 40.0, 60.0, 64.0)))


def page(*lines: tuple[str, tuple[float, float, float, float]], phrases: tuple[str, ...] = ()) -> Sought:
    return Sought(Printed(Picture(np.zeros((448, 448, 3), np.uint8), "p"), lines), phrases, 3)


def test_a_line_counts_at_every_place_of_its_text() -> None:
    first, second = page(*LINES, phrases=("Total ", "9.90")).asked("Where is '{question}'?")
    assert first.query.question == "Where is 'Total '?" and first.query.true_px == (LINES[0][1], LINES[2][1])
    assert (first.size, second.size, first.seed, second.seed) == ("medium", "large", 3000, 3001)
    assert first.iou((10.0, 40.0, 60.0, 52.0)) == pytest.approx(0.5) and second.iou((80.0, 10.0, 99.0, 22.0)) == 1.0


def test_what_is_absent_is_part_of_no_line() -> None:
    others = [page(phrases=("total", "9.9")), page(phrases=("CASH", "TIN"))]
    assert page(*LINES).absent(others) == "CASH" and page(*LINES).absent(others[:1]) is None


def test_lines_of_a_folder_are_drawn_by_seed(tmp_path: Path) -> None:
    boxes = [dict(zip(("x0", "y0", "x1", "y1"), box, strict=True), label=text) for text, box in (*LINES, ("--", LINES[0][1]))]
    row = {"id": "a", "image_uri": "a.png", "reference_boxes": boxes}
    pq.write_table(pa.Table.from_pylist([row, {**row, "id": "b"}]), tmp_path / "ocr.parquet")
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    found = scanned(tmp_path, 100, seed=1)
    assert [sorted(one.phrases) for one in found] == [["9.90", "TOTAL", "Total "]] * 2
    assert sum(len(one.phrases) for one in scanned(tmp_path, 4, seed=1)) == 4
    assert [one.phrases for one in scanned(tmp_path, 4, seed=1)] == [one.phrases for one in scanned(tmp_path, 4, seed=1)]


def test_drawn_lines_stand_on_their_page() -> None:
    (one,) = drawn(8_900_000, phrases=3, each=3, fonts=evaluation_fonts())
    assert len(set(one.phrases)) == 3
    for where in one.asked("{question}"):
        picture = where.query.picture
        for x0, y0, x1, y1 in where.query.true_px:
            printed = picture.pixels_YX3[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1]
            assert int(printed.max()) - int(printed.min()) > 30, "there is ink on paper"


@pytest.mark.parametrize(("gain", "missed"), [(0.1, False), (0.0999, True), (-0.2, True)])
def test_the_bar_is_a_tenth(gain: float, missed: bool) -> None:
    assert receipt_labels.missed({"acs_learned over greedy": gain}) is missed
