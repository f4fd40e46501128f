"""The command `report` from a finished run to a page: which rows, which pictures, what references say, what is refused."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import fovea
from jobs.report import build_report, main
from ray_pipeline.actor import Actor
from ray_pipeline.delivery.report.images import PAGE_PX, THUMBNAIL_PX
from ray_pipeline.delivery.rows import PictureFacts
from schemas.manifest import ManifestRow
from schemas.result import Region
from tests.faults.page_elements import Elements
from tests.stand_ins.finished_runs import Ended, lost, said, write_run
from tests.stand_ins.labelled_runs import Labelled, Said, finished_run, write_manifest
from tests.stand_ins.planted_model import load_planted

WIDTH, HEIGHT = 640, 400
CROP = (100.0, 50.0, 300.0, 250.0)
LINES = [Region((10, 10, 200, 30), None, "first line", 0.9, "line"), Region((10, 40, 180, 60), None, "second", 0.3, "line")]


def picture(path: Path, seed: int) -> PictureFacts:
    """A picture file with a magenta patch inside CROP, and what a run knows of it."""
    pixels = np.full((HEIGHT, WIDTH, 3), 60 + seed, np.uint8)
    pixels[100:150, 150:250] = (255, 0, 255)
    Image.fromarray(pixels).save(path)
    return PictureFacts(WIDTH, HEIGHT, hashlib.sha256(path.read_bytes()).hexdigest())


def ended(folder: Path, number: int, failed: bool = False) -> Ended:
    row = ManifestRow(number, f"id-{number}", f"{number}.png", None, "Where?")
    facts = picture(folder / f"{number}.png", number)
    return (row, None, lost()) if failed else (row, facts, said(f"answer {number}", LINES, CROP))


def run_of(folder: Path, rows: int = 6, failed: tuple[int, ...] = (2,), **settings: object) -> str:
    """A run on pictures that are there; its manifest has no references."""
    made = [ended(folder, k, k in failed) for k in range(rows)]
    write_manifest(folder / "manifest.parquet", [Labelled(f"id-{k}") for k in range(rows)])
    return write_run(folder / "out", made, 4, **settings)


def shown(page: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = Elements(page.read_text("utf-8")).data[0]
    return rows


def test_a_page_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "pages" / "report.html"
    metrics = {"wall_s": 12.5, "rows_this_run": 6, "parts": [{"rows": 6, "seconds": 3.0, "model_seconds": 2.0}]}
    uri = run_of(tmp_path)
    Path(uri, "metrics.json").write_text(json.dumps(metrics))
    assert fovea.main(["report", "--output", uri, "--html", str(page), "--maps", "0"]) == 0
    assert capsys.readouterr().out.startswith(f"{page}: 0.")
    rows = shown(page)
    assert [row["id"] for row in rows] == [f"id-{k}" for k in range(6)] and [row["number"] for row in rows] == list(range(6))
    assert [row["lacking"] for row in rows] == ["none"] * 6 and rows[0]["address"] == "0.png"
    assert [row["images"]["picture"] is None for row in rows] == [False, False, True, False, False, False]
    assert "everything else" in page.read_text("utf-8") and "<dt>rows: ok</dt><dd>5</dd>" in page.read_text("utf-8")


def test_pictures_are_small_and_crops_show_what_was_zoomed_into(tmp_path: Path) -> None:
    first = build_report(run_of(tmp_path, 1, ()), 10, 0, 1.0).rows[0]
    assert first.images and first.images.map is None
    assert Image.open(io.BytesIO(first.images.picture)).size == (THUMBNAIL_PX, 225)
    crop = np.asarray(Image.open(io.BytesIO(first.images.crops[0])))
    assert crop.shape == (240, 240, 3) and crop[66:114, 66:174].mean((0, 1)) == pytest.approx([255, 0, 255], abs=8)


def test_maps_are_computed_again_for_as_many_rows_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Actor.__init__, "__defaults__", (load_planted,))
    rows = build_report(run_of(tmp_path, 4, ()), 10, 2, 1.0).rows
    maps = [row.images.map for row in rows if row.images]
    assert [one is not None for one in maps] == [True, True, False, False]
    alpha_YX = np.asarray(Image.open(io.BytesIO(maps[0] or b"")))[..., 3]
    y, x = np.unravel_index(alpha_YX.argmax(), alpha_YX.shape)
    assert 150 / WIDTH <= (x + 0.5) / alpha_YX.shape[1] <= 250 / WIDTH
    assert 100 / HEIGHT <= (y + 0.5) / alpha_YX.shape[0] <= 150 / HEIGHT


def test_without_the_model_there_are_no_maps_but_all_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = run_of(tmp_path, 3, (), model={"name": str(tmp_path / "no-model")})
    rows = build_report(uri, 10, 5, 1.0).rows
    assert [row.images is not None and row.images.map is None for row in rows] == [True] * 3
    assert capsys.readouterr().err.count("no importance maps") == 1


def test_a_picture_that_is_gone_or_another_one_is_not_shown(tmp_path: Path) -> None:
    uri = run_of(tmp_path, 3, ())
    (tmp_path / "0.png").unlink()
    picture(tmp_path / "1.png", 77)
    rows = build_report(uri, 10, 0, 1.0).rows
    assert [(row.lacking, row.images is None) for row in rows] == [("gone", True), ("gone", True), ("none", False)]


def test_pictures_end_where_their_room_does(tmp_path: Path) -> None:
    uri = run_of(tmp_path, 5, (1,))
    whole = build_report(uri, 10, 0, 1.0)
    assert whole.rows[0].images
    one = whole.rows[0].images.size_bytes * 4 / 3 / 1e6
    report = build_report(uri, 10, 0, 1.5 * one)
    assert [row.lacking for row in report.rows] == ["none", "none", "none", "room", "room"]
    assert ("shown without a picture, for lack of room (--megabytes)", "2") in report.facts


def test_without_room_no_manifest_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri, page = run_of(tmp_path, 2, ()), tmp_path / "r.html"
    (tmp_path / "manifest.parquet").rename(tmp_path / "moved.parquet")
    assert main(["--output", uri, "--html", str(page)]) == 2
    assert "--manifest names it where it has moved" in capsys.readouterr().err and not page.exists()
    assert main(["--run", uri, "--html", str(page), "--megabytes", "0"]) == 0
    assert [row["lacking"] for row in shown(page)] == ["room", "room"]
    moved = ["--manifest", str(tmp_path / "moved.parquet"), "--maps", "0"]
    assert main(["--run", uri, "--html", str(page), *moved]) == 0
    assert [row["lacking"] for row in shown(page)] == ["none", "none"]


@pytest.mark.parametrize(
    ("failed", "most", "expected"),
    [
        ((2, 4), 60, [0, 1, 2, 3, 4, 5]),
        ((2, 4, 5), 4, [0, 1, 2, 4]),
        ((4, 5), 2, [0, 4]),
        ((0, 1, 2, 3, 4, 5), 4, [0, 1, 2, 3]),
        ((0, 1, 2, 3, 4), 4, [0, 1, 2, 5]),
        ((5,), 3, [0, 1, 5]),
    ],
)
def test_which_rows_are_shown(tmp_path: Path, failed: tuple[int, ...], most: int, expected: list[int]) -> None:
    assert [row.number for row in build_report(run_of(tmp_path, 6, failed), most, 0, 0).rows] == expected


def test_references_say_what_is_right(tmp_path: Path) -> None:
    box = (20.0, 10.0, 60.0, 50.0)
    rows = [
        Labelled("a", ["Ada"], [box], [Said("Ada", "Ade", box, 0.9, 0.4)]),
        Labelled("b", ["Bea"], [box], [Said("Bo", None, (100, 10, 140, 50), 0.3, 0.2)]),
        Labelled("c", None, [box], [Said("", None, box, None, 0.8)]),
        Labelled("d", ["Dan"], None, [Said(None)]),
    ]
    report = build_report(finished_run(tmp_path, rows), 10, 0, 0)
    assert [row.right for row in report.rows] == [True, False, True, False]
    assert [row.truth and row.truth.references for row in report.rows] == [("Ada",), ("Bea",), (), ("Dan",)]
    assert report.rows[0].scores["anls"] == 1 and report.rows[1].scores["acc_50"] == 0
    found = report.reliabilities
    assert sorted(found) == ["answer", "box"] and (found["answer"].rows, found["answer"].right) == (2, 0.5)
    assert (found["box"].rows, found["box"].right) == (3, pytest.approx(2 / 3))


def test_pages_of_a_document_are_rows_of_their_own(tmp_path: Path) -> None:
    said_of_pages = [Said("one\ntwo", regions=tuple(LINES), page=0, sure=0.8), Said("", page=1), Said("three", page=2)]
    rows = [Labelled("doc", ["one two", "", "three"], None, said_of_pages), Labelled("sheet", ["x"], None, [Said("x")])]
    uri = finished_run(tmp_path, rows, task="ocr")
    report = build_report(uri, 10, 5, 0)
    assert [(row.columns["id"], row.columns["page"]) for row in report.rows] == [
        ("doc", 0),
        ("doc", 1),
        ("doc", 2),
        ("sheet", None),
    ]
    assert report.rows[2].scores["word_f1"] == 1 and report.rows[0].right is None
    assert ("task", "ocr") in report.facts and "looking closer" not in dict(report.facts)


def test_lines_of_a_page_are_drawn_beside_the_true_ones_they_were_compared_with(tmp_path: Path) -> None:
    lines = (Region((10, 10, 100, 20), None, "one", 0.8, "line"), Region((10, 60, 100, 70), None, "two", 0.4, "line"))
    true = [(10.0, 10.0, 100.0, 20.0), (10.0, 30.0, 100.0, 40.0)]
    one_page, two = [Said("one two", regions=lines)], [Said("a", regions=lines, page=0), Said("b", regions=lines, page=1)]
    rows = [Labelled("sheet", ["one two"], true, one_page), Labelled("doc", ["a", "b"], true, two)]
    report = build_report(finished_run(tmp_path, rows, task="ocr"), 10, 0, 0)
    assert [row.truth and (row.truth.references, len(row.truth.boxes)) for row in report.rows] == [((), 2), ((), 0), ((), 0)]
    assert (report.reliabilities["line"].rows, report.reliabilities["line"].right) == (2, 0.5)


def test_a_page_that_was_read_is_shown_large(tmp_path: Path) -> None:
    row = build_report(run_of(tmp_path, 1, (), task="ocr"), 10, 5, 1.0).rows[0]
    assert row.images and row.images.map is None
    assert Image.open(io.BytesIO(row.images.picture)).size == (PAGE_PX, 562)


def test_secrets_of_an_address_are_not_shown(tmp_path: Path) -> None:
    row = ManifestRow(0, "a", "https://me:hidden@images.example/a.png?X-Amz-Signature=hidden", None, "?")
    uri = write_run(tmp_path / "out", [(row, None, lost())])
    report = build_report(uri, 10, 0, 0)
    assert report.rows[0].address == "https://images.example/a.png"


@pytest.mark.parametrize("damage", ["no index", "no run", "broken part", "other settings"])
def test_what_is_no_finished_run_is_refused(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = Path(run_of(tmp_path, 2, ())), tmp_path / "r.html"
    if damage == "other settings":
        run = json.loads((out / "run.json").read_text())
        run["settings"]["wings"] = 2
        (out / "run.json").write_text(json.dumps(run))
    elif damage == "broken part":
        (out / "results" / "part-00000.parquet").write_bytes(b"PAR1")
    else:
        (out / ("index.json" if damage == "no index" else "run.json")).unlink()
    assert main(["--output", str(out), "--html", str(page), "--megabytes", "0"]) == 2
    said_of_it = capsys.readouterr().err
    assert said_of_it.startswith("fovea report: ") and said_of_it.count("\n") <= 2 and not page.exists()


@pytest.mark.parametrize("metrics", ["[]", '{"parts": 3, "plan": []}', "[" * 10_000])
def test_metrics_that_are_none_are_left_out(tmp_path: Path, metrics: str) -> None:
    uri, page = run_of(tmp_path, 1, ()), tmp_path / "r.html"
    Path(uri, "metrics.json").write_text(metrics)
    assert main(["--output", uri, "--html", str(page), "--megabytes", "0"]) == 0
    assert "Time and confidence" not in page.read_text("utf-8")
