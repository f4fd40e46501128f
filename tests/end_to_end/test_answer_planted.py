"""The whole pipeline with a planted model: boxes arrive where they were planted, bad pictures cost one row each.

Where a test looks at what becomes of a folder, and not at how rows travel, some of its runs do without Ray.
"""

import io
import json
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import ray_pipeline.worker
from jobs import answer, verify
from jobs.run import execute, prepare
from schemas.job import JobSettings
from tests.stand_ins.parts_here import work_here
from tests.stand_ins.planted_model import load_planted

pytestmark = pytest.mark.timeout(300)  # the first test of a run waits for Ray's processes to import everything
SIZES = [(640, 480), (333, 900), (1500, 420), (512, 512), (1000, 1501), (777, 345)]
EXIF_TURN = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def planted_file(path: Path, size: tuple[int, int], box: tuple[int, int, int, int], exif: int) -> None:
    """A picture whose upright form has `size` and the box; stored turned where `exif` says so."""
    pixels = np.full((size[1], size[0], 3), 70, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = (255, 0, 255)
    image = Image.fromarray(pixels)
    turn = EXIF_TURN[exif]
    stored = image.transpose(turn) if turn is not None else image
    tags = Image.Exif()
    tags[0x0112] = exif
    stored.save(path, quality=97, subsampling=0, exif=tags)


def box_in(size: tuple[int, int], number: int) -> tuple[int, int, int, int]:
    w, h = size
    x, y = int(w * (0.1 + 0.11 * number)), int(h * (0.75 - 0.09 * number))
    return x, y, x + int(w * 0.09) + 3 * number, y + int(h * 0.07) + number


def write_manifest(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "manifest.parquet"
    schema = pa.schema([("id", pa.string()), ("image_uri", pa.string()), ("question", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def settings(manifest: Path, output: Path, **run: object) -> JobSettings:
    return JobSettings.model_validate({"manifest": str(manifest), "output": str(output), "run": {"part_rows": 3, **run}})


@pytest.fixture
def planted_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pipeline.worker.WorkOrder.__init__, "__defaults__", (False, load_planted))


def results(output: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(output / "results").to_pylist()
    return rows


@pytest.mark.usefixtures("ray_session", "planted_model")
def test_planted_boxes_arrive_within_two_percent(tmp_path: Path) -> None:
    rows, truths = [], {}
    for number, size in enumerate(SIZES):
        for exif in EXIF_TURN:
            name, box = f"{number}-{exif}", box_in(size, number)
            planted_file(tmp_path / f"{name}.jpg", size, box, exif)
            rows.append({"id": name, "image_uri": f"{name}.jpg", "question": "Where is the magenta thing?"})
            truths[name] = (size, box)
    run = settings(write_manifest(tmp_path, rows), tmp_path / "out", actors=2, gpus_per_actor=0.5)
    assert execute(prepare(run, ("question",))) == 0
    found = results(tmp_path / "out")
    assert [row["id"] for row in found] == [row["id"] for row in rows], "results are in manifest order"
    for row in found:
        (w, h), box = truths[str(row["id"])]
        assert row["status"] == "ok" and (row["image_width"], row["image_height"]) == (w, h), row
        got = row["box"]
        assert isinstance(got, dict)
        off = max(
            abs(got[name] - want) / side for name, want, side in zip(("x0", "y0", "x1", "y1"), box, (w, h, w, h), strict=True)
        )
        assert off < 0.02, (row["id"], got, box)


def bad_files(folder: Path) -> dict[str, str]:
    """Pictures that cannot be answered, or only just; by name, the status each must end with."""
    good = np.full((120, 160, 3), 70, np.uint8)
    good[30:60, 40:90] = (255, 0, 255)
    packed = io.BytesIO()
    Image.fromarray(good).save(packed, "JPEG", quality=95)
    (folder / "truncated.jpg").write_bytes(packed.getvalue()[: len(packed.getvalue()) // 2])
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "lying.png").write_bytes(b"<html>no picture</html>")
    Image.fromarray(np.full((50, 60), 40_000, np.uint16)).save(folder / "sixteen.png")
    Image.fromarray(good).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(good).convert("RGBA").quantize(16).save(folder / "palette.png", transparency=0)
    frames = [Image.fromarray(np.roll(good, 20 * k, 1)) for k in range(3)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (40_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    (folder / "huge.png").write_bytes(header + zlib.crc32(header[12:]).to_bytes(4, "big") + b"\x00\x00\x00\x00IEND\xaeB`\x82")
    return {
        "missing.jpg": "fetch_not_found", "truncated.jpg": "decode_corrupt", "zero.jpg": "decode_corrupt",
        "lying.png": "decode_unsupported", "sixteen.png": "ok", "cmyk.jpg": "ok", "palette.png": "ok", "animated.gif": "ok",
        "huge.png": "decode_too_large",
    }  # fmt: skip


@pytest.mark.usefixtures("ray_session", "planted_model")
def test_bad_pictures_cost_a_row_each_and_neighbours_are_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = bad_files(tmp_path)
    for number, size in enumerate(SIZES):
        planted_file(tmp_path / f"good{number}.jpg", size, box_in(size, number), 1)
    good = [{"id": f"good{k}", "image_uri": f"good{k}.jpg", "question": "q"} for k in range(len(SIZES))]
    bad = [{"id": name, "image_uri": name, "question": "q"} for name in wanted]
    mixed = [row for pair in zip(good, bad, strict=False) for row in pair] + bad[len(good) :]
    (tmp_path / "clean").mkdir()
    for name in [f"good{k}.jpg" for k in range(len(SIZES))]:
        (tmp_path / "clean" / name).write_bytes((tmp_path / name).read_bytes())
    assert execute(prepare(settings(write_manifest(tmp_path, mixed), tmp_path / "out"), ("question",))) == 0
    clean = write_manifest(tmp_path / "clean", good)
    work_here(monkeypatch)
    assert execute(prepare(settings(clean, tmp_path / "out_clean"), ("question",))) == 0
    by_id = {str(row["id"]): row for row in results(tmp_path / "out")}
    assert len(by_id) == len(mixed)
    assert {name: by_id[name]["status"] for name in wanted} == wanted
    assert all((by_id[name]["error"] is None) == (status == "ok") for name, status in wanted.items())
    for row in results(tmp_path / "out_clean"):
        assert by_id[str(row["id"])] == row
    assert verify.main(["--output", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "index.json").read_text())
    assert report["statuses"]["ok"] == len(good) + 4


@pytest.mark.usefixtures("ray_session", "planted_model")
def test_a_finished_folder_is_left_alone_and_what_is_missing_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Finished without Ray, then gone on with by it: the bytes are the same."""
    planted_file(tmp_path / "a.jpg", (300, 200), (30, 30, 80, 60), 1)
    rows = [{"id": str(k), "image_uri": "a.jpg", "question": f"q{k}"} for k in range(7)]
    manifest, output = write_manifest(tmp_path, rows), tmp_path / "out"
    with monkeypatch.context() as patch:
        work_here(patch)
        assert execute(prepare(settings(manifest, output), ("question",))) == 0
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(output.rglob("*.*")) if path.is_file()}
    capsys.readouterr()
    arguments = ["--manifest", str(manifest), "--output", str(output), "--set", "run.part_rows=3"]
    assert answer.main(arguments) == 0
    assert "nothing to do: 7 rows in 3 parts" in capsys.readouterr().out
    assert {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(output.rglob("*.*")) if path.is_file()
    } == before
    assert answer.main([*arguments, "--set", "views.max_crops=4"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "views.max_crops: 0 -> 4" in said
    whole = {path.name: path.read_bytes() for path in (output / "results").iterdir()}
    (output / "index.json").unlink()
    (output / "results" / "part-00001.parquet").unlink()
    kept = (output / "results" / "part-00000.parquet").stat().st_mtime_ns
    assert execute(prepare(settings(manifest, output), ("question",))) == 0
    assert {path.name: path.read_bytes() for path in (output / "results").iterdir()} == whole
    assert (output / "results" / "part-00000.parquet").stat().st_mtime_ns == kept


@pytest.mark.usefixtures("planted_model")
def test_error_share_over_the_limit_is_exit_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_here(monkeypatch)
    planted_file(tmp_path / "a.jpg", (300, 200), (30, 30, 80, 60), 1)
    rows = [{"id": "a", "image_uri": "a.jpg", "question": "q"}, {"id": "b", "image_uri": "a.jpg", "question": None}]
    manifest = write_manifest(tmp_path, rows)
    assert execute(prepare(settings(manifest, tmp_path / "out", max_error_share=0.4), ("question",))) == 3
    assert execute(prepare(settings(manifest, tmp_path / "out", max_error_share=0.5), ("question",))) == 0
    skipped = results(tmp_path / "out")[1]
    assert (skipped["status"], skipped["error"]) == ("skipped", "question is None; expected a text")


@pytest.mark.usefixtures("ray_session", "planted_model")
def test_rows_that_kill_or_hang_the_model_cost_themselves_alone(tmp_path: Path) -> None:
    planted_file(tmp_path / "a.jpg", (300, 200), (30, 30, 80, 60), 1)
    bad = {2: "kill", 5: "crash", 7: "hang"}
    rows = [{"id": str(k), "image_uri": "a.jpg", "question": bad.get(k, "q")} for k in range(12)]
    run = {"part_rows": 6, "batch": 2, "actors": 2, "call_timeout_s": 3.0}
    assert execute(prepare(settings(write_manifest(tmp_path, rows), tmp_path / "out", **run), ("question",))) == 0
    found = {str(row["id"]): row for row in results(tmp_path / "out")}
    ends = {"2": "model_crash", "5": "model_crash", "7": "model_timeout"}
    assert {k: row["status"] for k, row in found.items()} == {str(k): ends.get(str(k), "ok") for k in range(12)}
    assert "signal 9" in str(found["2"]["error"]) and "signal 11" in str(found["5"]["error"])
    assert "silent for 3 s" in str(found["7"]["error"])
    counted = json.loads((tmp_path / "out" / "metrics.json").read_text())["parts"]
    assert sum(part["starts"] for part in counted) <= len(bad) * 3, "log2 of the batch and two for each such row"
    assert verify.main(["--output", str(tmp_path / "out")]) == 0


def load_nothing(model: object, views: object, prompt: object) -> None:
    raise MemoryError("no room for the model")


@pytest.mark.usefixtures("ray_session")
def test_a_model_that_cannot_be_loaded_ends_the_run_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_pipeline.worker.WorkOrder.__init__, "__defaults__", (False, load_nothing))
    planted_file(tmp_path / "a.jpg", (300, 200), (30, 30, 80, 60), 1)
    manifest = write_manifest(tmp_path, [{"id": "a", "image_uri": "a.jpg", "question": "q"}])
    assert execute(prepare(settings(manifest, tmp_path / "out"), ("question",))) == 3
    said = capsys.readouterr().err
    assert "the run broke off" in said and "no room for the model" in said and "1 rows not accounted for" in said


@pytest.mark.usefixtures("ray_session", "planted_model")
def test_retry_computes_the_rows_whose_failure_may_pass_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted_file(tmp_path / "a.jpg", (300, 200), (30, 30, 80, 60), 1)
    names = ["a.jpg", "late.jpg", "a.jpg", "a.jpg", "lying.png"]
    (tmp_path / "lying.png").write_bytes(b"<html>")
    rows = [{"id": str(k), "image_uri": name, "question": "q"} for k, name in enumerate(names)]
    manifest, output = write_manifest(tmp_path, rows), tmp_path / "out"
    with monkeypatch.context() as patch:
        work_here(patch)
        assert execute(prepare(settings(manifest, output), ("question",))) == 0
    untouched = (output / "results" / "part-00001.parquet").stat().st_mtime_ns
    planted_file(tmp_path / "late.jpg", (300, 200), (100, 30, 180, 60), 1)
    again = prepare(settings(manifest, output), ("question",), retry_failed=True)
    assert [part.number for part in again.again] == [0] and not again.missing
    assert execute(again) == 0
    assert [row["status"] for row in results(output)] == ["ok"] * 4 + ["decode_unsupported"]
    assert (output / "results" / "part-00001.parquet").stat().st_mtime_ns == untouched
    assert verify.main(["--output", str(output)]) == 0
    assert execute(prepare(settings(manifest, output), ("question",), retry_failed=True)) == 0


REFUSALS = {
    "missing column": (["--manifest", "{no_question}"], "question"),
    "repeated id": (["--manifest", "{repeated}"], "'a'"),
    "unknown option": (["--manifest", "{good}", "--actor", "2"], "--actors"),
    "unknown setting": (["--manifest", "{good}", "--set", "view.max_crops=2"], "views.max_crops"),
    "bad value": (["--manifest", "{good}", "--set", "run.batch=many"], "run.batch"),
    "unreadable manifest": (["--manifest", "{broken}"], "broken.parquet"),
    "absent manifest": (["--manifest", "{absent}"], "absent.parquet"),
    "absent model": (["--manifest", "{good}", "--model", "/nowhere/model"], "/nowhere/model"),
    "layer out of range": (["--manifest", "{good}", "--set", "refine.layer=99"], "layers 0..3"),
}


@pytest.mark.parametrize("name", list(REFUSALS))
def test_bad_input_is_refused_with_one_line_and_nothing_is_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"id": ["a"], "image_uri": ["a.jpg"]}), tmp_path / "no_question.parquet")
    pq.write_table(
        pa.table({"id": ["a", "a"], "image_uri": ["a.jpg", "a.jpg"], "question": ["q", "q"]}), tmp_path / "repeated.parquet"
    )
    pq.write_table(pa.table({"id": ["a"], "image_uri": ["a.jpg"], "question": ["q"]}), tmp_path / "good.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 this is not a manifest PAR1")
    places = {stem: str(tmp_path / f"{stem}.parquet") for stem in ("no_question", "repeated", "good", "broken", "absent")}
    arguments, expected = REFUSALS[name]
    output = tmp_path / "out"
    try:
        code = answer.main([*(text.format(**places) for text in arguments), "--output", str(output)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr().err
    assert code == 2 and expected in said and said.strip().count("\n") == 0, said
    assert not output.exists()
