"""`ocr` from manifest to results, with a model whose letters are colours: what is on a page is what its row says."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import ray_pipeline.worker
from jobs import answer, ocr, verify
from tests.stand_ins.reading_model import drawn, load_reading

pytestmark = pytest.mark.timeout(300)  # the first test of a run waits for Ray's processes to import everything
ACROSS = "a line that goes across the page and is cut by more than one seam"
PAGES = {  # upright size, lines, the text to be read
    "plain": ((280, 120), [(10, 10, "one line"), (10, 40, "and another")], "one line\nand another"),
    "receipt": ((620, 90), [(20, 20, "BREAD"), (540, 20, "2.49"), (20, 50, "MILK"), (540, 50, "1.09")], "BREAD 2.49\nMILK 1.09"),
    "wide": ((640, 400), [(30, 30, ACROSS), (30, 340, "at the foot")], f"{ACROSS}\nat the foot"),
    "blank": ((300, 200), [], ""),
    "turned": ((200, 330), [(20, 250, "stored on its side")], "stored on its side"),
}


def write_pages(folder: Path) -> Path:
    for name, (size, lines, _) in PAGES.items():
        image = Image.fromarray(drawn(*size, lines).pixels_YX3)
        tags = Image.Exif()
        if name == "turned":
            image, tags[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
        image.save(folder / f"{name}.png", exif=tags)
    (folder / "broken.png").write_bytes(b"no picture")
    names = [*PAGES, "broken"]
    path = folder / "manifest.parquet"
    pq.write_table(pa.table({"id": names, "image_uri": [f"{name}.png" for name in names]}), path)
    return path


@pytest.mark.usefixtures("ray_session")
def test_pages_become_their_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ray_pipeline.worker.WorkOrder.__init__, "__defaults__", (False, load_reading))
    output = tmp_path / "out"
    arguments = ["--manifest", str(write_pages(tmp_path)), "--output", str(output), "--set", "run.part_rows=4"]
    assert ocr.main(arguments) == 0
    rows = {row["id"]: row for row in pq.read_table(output / "results").to_pylist()}
    assert list(rows) == [*PAGES, "broken"] and rows["broken"]["status"] == "decode_unsupported"
    for name, ((width, height), lines, text) in PAGES.items():
        row = rows[name]
        assert (row["status"], row["answer"], row["question"]) == ("ok", text, None), row
        assert (row["image_width"], row["image_height"]) == (width, height)
        assert {(line["text"], line["box"]["x0"], line["box"]["y0"], line["kind"]) for line in row["regions"]} == {
            (text, x, y, "line") for x, y, text in lines
        }
        assert (row["answer_confidence"] is None) == (not lines) and row["box"] is None
    assert rows["wide"]["views"] > rows["plain"]["views"] == 1
    assert np.isclose(rows["plain"]["answer_confidence"], np.exp(-0.02)) and rows["plain"]["refinement"]["method"] == "reread"
    assert verify.main(["--output", str(output)]) == 0
    capsys.readouterr()
    assert ocr.main(arguments) == 0 and "nothing to do: 6 rows" in capsys.readouterr().out
    assert ocr.main([*arguments, "--set", "ocr.columns=false"]) == 2
    assert "ocr.columns: true -> false" in capsys.readouterr().err
    assert answer.main(arguments) == 2, "no question"
    assert "question" in capsys.readouterr().err
