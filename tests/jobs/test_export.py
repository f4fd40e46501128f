"""The command `export` from a finished run to a file or folder in its place."""

import csv
import hashlib
import json
import os
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pypdfium2
import pytest
from PIL import Image

from jobs import fovea
from jobs.export import FORMATS, main
from jobs.stopping import StopRequested
from ray_pipeline.delivery.export_place import staged
from ray_pipeline.delivery.exported_row import ExportedRow, Origin
from ray_pipeline.delivery.rows import PictureFacts
from schemas.labelling import ATTRIBUTE
from schemas.manifest import ManifestRow
from schemas.result import RESULT_COLUMNS, Region
from schemas.status import Status
from tests.stand_ins.export_readers import alto_page_of, coco_pages, hocr_page_of, label_studio_pages, pages_in, pdf_page_of
from tests.stand_ins.finished_runs import Ended, lost, said, write_run

ROWS, FAILED = 9, (2, 6)
WITHOUT_PICTURES = sorted(name for name, one in FORMATS.items() if not one.holds_pictures)
FOLDERS = {name for name, one in FORMATS.items() if one.folder}
FACTS = PictureFacts(200, 100, "ab" * 32)


def ended(number: int) -> Ended:
    """Row k has k lines, of confidence 0.9, 0.8, ...; two rows failed, the second with a picture."""
    row = ManifestRow(number, f"id-{number}", f"{number}.png", None, "?", {"shelf": float("nan") if number else 1.5})
    if number in FAILED:
        return row, FACTS if number == 6 else None, lost(Status.MODEL_CRASH if number == 6 else Status.FETCH_NOT_FOUND)
    lines = [Region((k, k, k + 9.5, k + 3), "line", f"text {k}", 0.9 - k / 10, "line") for k in range(number)]
    return row, FACTS, said(f"answer {number}", lines)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("finished") / "out"
    return write_run(folder, [ended(k) for k in range(ROWS)], 4, pa.schema([("shelf", pa.float64())]))


KEPT = [k for k in range(ROWS) if k not in FAILED]
REGIONS = sum(KEPT)


def regions_of(name: str, place: Path) -> list[int]:
    """How many regions each row of an export has, as its reader finds them."""
    if name == "coco":
        return [len(page.regions) for page in coco_pages(place)]
    if name == "label-studio":
        return [len(page.regions) for page in label_studio_pages(place)]
    if name == "jsonl":
        return [len(json.loads(line)["regions"]) for line in place.read_text("utf-8").splitlines()]
    if name == "csv":
        with place.open(encoding="utf-8", newline="") as file:
            return [len(json.loads(row["regions"])) for row in csv.DictReader(file)]
    read = {"hocr": lambda data: hocr_page_of(data.decode()), "alto": alto_page_of}[name]
    return [len(read(data).regions) for _, data in pages_in(place)]


@pytest.mark.parametrize("name", WITHOUT_PICTURES)
def test_every_format_has_every_row(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    place = tmp_path / "export"
    assert main(["--run", run, "--format", name, "--to", str(place)]) == 0
    assert capsys.readouterr().out == f"{place}\nexported 7 rows, {REGIONS} regions, 2 failed rows left out\n"
    assert regions_of(name, place) == KEPT
    assert place.is_dir() is (name in FOLDERS) and os.listdir(tmp_path) == ["export"]
    if name in FOLDERS:
        facts = json.loads((place / "export.json").read_text())
        assert (facts["format"], facts["rows"], facts["regions"], facts["version"]) == (name, 7, REGIONS, "1.2.3")


def test_the_same_run_gives_the_same_bytes(run: str, tmp_path: Path) -> None:
    for name in WITHOUT_PICTURES:
        for copy in ("a", "b"):
            assert main(["--run", run, "--format", name, "--to", str(tmp_path / f"{name}-{copy}")]) == 0
        found = [
            {path.relative_to(place): path.read_bytes() for path in sorted([place, *place.rglob("*")]) if path.is_file()}
            for place in (tmp_path / f"{name}-a", tmp_path / f"{name}-b")
        ]
        assert found[0] == found[1] and found[0]


def test_failed_rows_come_where_there_is_a_place_for_them(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "all.jsonl"
    assert main(["--run", run, "--format", "jsonl", "--to", str(place), "--include-failed"]) == 0
    assert capsys.readouterr().out.endswith(f"exported 9 rows, {REGIONS} regions, 0 failed rows left out\n")
    rows = [json.loads(line) for line in place.read_text().splitlines()]
    assert [row["status"] for row in rows if row["status"] != "ok"] == ["fetch_not_found", "model_crash"]
    assert [row["shelf"] for row in rows] == [1.5] + [None] * 8
    assert main(["--run", run, "--format", "alto", "--to", str(tmp_path / "x"), "--include-failed"]) == 2
    assert "alto has no place for a row that failed" in capsys.readouterr().err


@pytest.mark.parametrize("name", WITHOUT_PICTURES)
def test_attributes_of_boxes_are_counted_or_said_to_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    box = Region((1, 2, 30, 40), "car", None, 0.9, "label")
    regions = [box, *(replace(box, label=said, text=said, confidence=0.25, kind=ATTRIBUTE) for said in ("red", "old", None))]
    row = ManifestRow(0, "a", "a.png", None, None)
    run = write_run(tmp_path / "run", [(row, FACTS, said("car", [*regions, replace(box, box_px=(5, 5, 9, 9))]))])
    place = FORMATS[name].attributes
    left = "" if place else f", 2 attributes left out, for which {name} has no place"
    assert main(["--run", run, "--format", name, "--to", str(tmp_path / "all")]) == 0
    kept = "exported 1 rows, 2 regions, 2 attributes, " if place else "exported 1 rows, 2 regions, "
    assert capsys.readouterr().out.endswith(f"{kept}0 failed rows left out{left}\n")
    assert main(["--run", run, "--format", name, "--to", str(tmp_path / "sure"), "--min-confidence", "0.5"]) == 0
    left = ", 0 regions below 0.5 left out, 2 attributes with them or below it\n"
    assert capsys.readouterr().out.endswith(f"exported 1 rows, 2 regions, 0 failed rows left out{left}")


@pytest.mark.parametrize("name", ["coco", "jsonl", "alto"])
def test_unsure_regions_are_left_out_and_counted(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    place = tmp_path / "sure"
    assert main(["--run", run, "--format", name, "--to", str(place), "--min-confidence", "0.65"]) == 0
    kept = [min(k, 3) for k in KEPT]
    assert regions_of(name, place) == kept
    left = f"2 failed rows left out, {REGIONS - sum(kept)} regions below 0.65 left out"
    assert capsys.readouterr().out.endswith(f"exported 7 rows, {sum(kept)} regions, {left}\n")


def test_what_stands_there_is_kept(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder, strange = tmp_path / "a.json", tmp_path / "pages", tmp_path / "home"
    file.write_text("mine")
    for place in (folder, strange):
        place.mkdir()
        (place / "kept.txt").write_text("mine")
    (folder / "export.json").write_text("{}")
    (tmp_path / "link").symlink_to(folder)
    for name, place in (("coco", file), ("alto", folder), ("alto", strange), ("coco", folder), ("alto", tmp_path / "link")):
        assert main(["--run", run, "--format", name, "--to", str(place)]) == 2
        assert "is there already; expected a new place, or --overwrite" in capsys.readouterr().err
    for name, place in (
        ("alto", strange),
        ("alto", file),
        ("coco", folder),
        ("alto", tmp_path / "link"),
        ("coco", tmp_path / "link"),
    ):
        assert main(["--run", run, "--format", name, "--to", str(place), "--overwrite"]) == 2
        assert "to overwrite" in capsys.readouterr().err
    assert file.read_text() == (strange / "kept.txt").read_text() == (folder / "kept.txt").read_text() == "mine"
    assert main(["--run", run, "--format", "coco", "--to", str(file), "--overwrite"]) == 0
    assert main(["--run", run, "--format", "alto", "--to", str(folder), "--overwrite"]) == 0
    assert regions_of("coco", file) == regions_of("alto", folder) == KEPT and not (folder / "kept.txt").exists()
    assert sorted(os.listdir(tmp_path)) == ["a.json", "home", "link", "pages"]


def test_the_run_itself_is_no_place(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to(run)
    before = sorted(str(path) for path in Path(run).rglob("*"))
    for target in ("x", "results/x", "results/part-00000.parquet", "index.json", ".", "..", "../out"):
        for place in (f"{run}/{target}", f"{tmp_path}/link/{target}", f"file://{run}/{target}"):
            for name in ("csv", "hocr"):
                assert main(["--run", run, "--format", name, "--to", place, "--overwrite"]) == 2, place
    assert sorted(str(path) for path in Path(run).rglob("*")) == before
    capsys.readouterr()


def test_what_holds_a_run_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    around = tmp_path / "around"
    around.mkdir()
    run = write_run(around / "out", [ended(0)], 4, pa.schema([("shelf", pa.float64())]))
    (around / "export.json").write_text("{}")
    assert main(["--run", run, "--format", "hocr", "--to", str(around), "--overwrite"]) == 2
    assert "within or around the run's folder" in capsys.readouterr().err and (around / "out/index.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "csv", "--to", "s3://bucket/x"], "expected a local path"),
        (["--format", "csv", "--to", ""], "expected a local path"),
        (["--format", "csv", "--to", "a\nb"], "expected a local path"),
        (["--format", "csv", "--to", "/no/such/folder/x"], "no folder"),
        (["--format", "csv", "--to", "x", "--images", "copy"], "csv has no pictures"),
        (["--format", "coco", "--to", "x", "--min-confidence", "nan"], "expected a number from 0 to 1"),
        (["--format", "coco", "--to", "x", "--min-confidence", "2"], "expected a number from 0 to 1"),
    ],
)
def test_refused(
    run: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--run", run, *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and os.listdir(tmp_path) == []


def test_there_must_be_a_finished_run(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for uri in (str(tmp_path), str(tmp_path / "none"), "", "a::b"):
        assert main(["--run", uri, "--format", "csv", "--to", str(tmp_path / "x.csv")]) == 2
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "run.json").write_bytes((Path(run) / "run.json").read_bytes())
    for text in ("[" * 100_000, "{}", '{"parts": [{"name": 3, "rows": "x"}], "rows": 1, "statuses": {}}'):
        (copy / "index.json").write_text(text)
        assert main(["--run", str(copy), "--format", "csv", "--to", str(tmp_path / "x.csv")]) == 2
    assert capsys.readouterr().err.count("\n") == 7 and os.listdir(tmp_path) == ["copy"]


def test_a_changed_part_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "out", [ended(k) for k in range(ROWS)], 4, pa.schema([("shelf", pa.float64())]))
    part, index = tmp_path / "out/results/part-00001.parquet", tmp_path / "out/index.json"
    data, listed = part.read_bytes(), index.read_text()
    arguments = ["--run", run, "--format", "hocr", "--to", str(tmp_path / "x")]
    part.write_bytes(data[:-1] + b"x")
    assert main(arguments) == 3 and "another sha256" in capsys.readouterr().err
    part.unlink()
    assert main(arguments) == 3 and "cannot be read" in capsys.readouterr().err
    part.write_bytes(data)
    for wrong in ('"ok": 7', '"ok": 8'), ('"rows": 9', '"rows": 10'):
        index.write_text(listed.replace(*wrong))
        assert main(arguments) == 3 and "expected {'ok'" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["out"]


def test_a_stop_leaves_nothing(tmp_path: Path) -> None:
    for folder in (False, True):
        with pytest.raises(StopRequested), staged(tmp_path / "x", folder, False) as work:
            (work / "a" if folder else work).write_text("half")
            raise StopRequested("SIGTERM")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_rows_are_let_go(tmp_path: Path, name: str) -> None:
    """However many there are, few are in memory: the one being written and the one before it."""
    alive: list[weakref.ref[ExportedRow]] = []
    columns = dict.fromkeys(RESULT_COLUMNS.names) | {"id": "a", "image_uri": "a.png", "image_width": 20, "image_height": 10}

    def rows() -> Iterator[ExportedRow]:
        for number in range(50):
            assert sum(one() is not None for one in alive) <= 2
            row = ExportedRow(number, dict(columns), (Region((1, 2, 3, 4), None, "x", None, "line"),), "a.png")
            alive.append(weakref.ref(row))
            yield row
            del row

    place = tmp_path / "x"
    if name in FOLDERS:
        place.mkdir()
    written = FORMATS[name].write(place, rows(), Origin("m", "v", tuple(RESULT_COLUMNS.names)))
    assert (written.rows, written.regions) == (50, 50)


def run_with_pictures(folder: Path) -> tuple[str, np.ndarray]:
    """Three rows: a picture that is to be turned, one that was changed since, and one that is gone. The first, turned."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter
    pixels = np.repeat(np.repeat(np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3) * 7, 10, 0), 10, 1)
    Image.fromarray(pixels).save(folder / "0.png", exif=exif)
    Image.fromarray(pixels).save(folder / "1.png")
    pq.write_table(pa.table({"id": ["a", "b", "c"], "image_uri": ["0.png", "1.png", "2.png"]}), folder / "manifest.parquet")
    digest = hashlib.sha256((folder / "0.png").read_bytes()).hexdigest()
    facts = [PictureFacts(30, 40, digest), PictureFacts(40, 30, "00" * 32), PictureFacts(9, 9, "00" * 32)]
    rows: list[Ended] = [(ManifestRow(k, "abc"[k], f"{k}.png"), facts[k], said("x", [], (1, 2, 5, 6))) for k in range(3)]
    return write_run(folder / "out", rows), np.rot90(pixels, -1)


def test_pictures_are_copied_upright(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, upright = run_with_pictures(tmp_path)
    place = tmp_path / "coco"
    assert main(["--run", run, "--format", "coco", "--to", str(place), "--images", "copy"]) == 3
    said_last = capsys.readouterr().out.splitlines()[-1]
    assert said_last == "exported 3 rows, 3 regions, 0 failed rows left out, 2 pictures could not be copied"
    with Image.open(place / "images/000000/000000000.png") as copy:
        assert (np.asarray(copy) == upright).all()
    assert sorted(os.listdir(place)) == ["annotations.json", "export.json", "images"]
    assert [page.image for page in coco_pages(place / "annotations.json")] == ["images/000000/000000000.png", "1.png", "2.png"]


def test_searchable_pages_show_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, upright = run_with_pictures(tmp_path)
    place = tmp_path / "pdf"
    assert main(["--run", run, "--format", "searchable-pdf", "--to", str(place)]) == 3
    assert sorted(os.listdir(place)) == ["000000", "export.json", "pages.jsonl"]
    read = [(entry["image_uri"], pdf_page_of(data)[0], shown(data)) for entry, data in pages_in(place)]
    assert [(address, text) for address, text, _ in read] == [("0.png", "x"), ("1.png", "x"), ("2.png", "x")]
    seen = read[0][2][: upright.shape[0], : upright.shape[1]]  # a reader may round the page's size up
    assert np.abs(seen.astype(int) - upright).mean() < 4 and (read[1][2] == 255).all()  # the text is not to be seen
    capsys.readouterr()


def shown(data: bytes) -> np.ndarray:
    document = pypdfium2.PdfDocument(data)
    try:
        return np.asarray(document[0].render(scale=300 / 72).to_pil().convert("RGB"))
    finally:
        document.close()


def test_fovea_knows_the_command(run: str, tmp_path: Path) -> None:
    assert fovea.main(["export", "--run", run, "--format", "csv", "--to", str(tmp_path / "t.csv")]) == 0
    assert regions_of("csv", tmp_path / "t.csv") == KEPT
