"""A small archive through the whole pipeline with one model folder of each make: every row is answered, in every method.

Two runs go through Ray's model processes, the others through the same worker here: what a family does is the same.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import answer, verify
from tests.stand_ins.parts_here import work_here
from tests.stand_ins.tiny_models import TINY

pytestmark = pytest.mark.timeout(300)  # the first test of a run waits for Ray's processes to import everything
SIZES = {"wide": (320, 180), "tall": (90, 260), "small": (40, 30), "strip": (600, 25)}
FAMILIES = ("llava", "qwen3_vl", "internvl", "instructblip")
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: TINY[name](root / name, 0) for name in FAMILIES}


def archive(folder: Path, sizes: dict[str, tuple[int, int]]) -> Path:
    """Pictures of coloured blocks, and a manifest of one question each."""
    for seed, (name, (width, height)) in enumerate(sizes.items()):
        blocks = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 10 + 1, 3), np.uint8)
        Image.fromarray(blocks.repeat(8, 0).repeat(10, 1)[:height, :width]).save(folder / f"{name}.png")
    rows = [{"id": name, "image_uri": f"{name}.png", "question": f"What is on the {name} sign 12?"} for name in sizes]
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")
    return folder / "manifest.parquet"


def asked(manifest: Path, model: Path, *chosen: str) -> tuple[int, Path]:
    """The command's exit code and its output folder."""
    output = manifest.with_name("out")
    given = ("prompt.max_new_tokens=6", "refine.base_window_px=24", "run.part_rows=4", "fetch.concurrency=1", *chosen)
    named = ["--manifest", str(manifest), "--model", str(model), "--output", str(output)]
    return answer.main(named + [word for setting in given for word in ("--set", setting)]), output


def answered(manifest: Path, model: Path, *chosen: str) -> Rows:
    code, output = asked(manifest, model, *chosen)
    assert code == 0 and verify.main(["--output", str(output)]) == 0
    rows: Rows = pq.read_table(output / "results").to_pylist()
    return rows


def assert_all_answered(rows: Rows, method: str) -> None:
    assert [(row["id"], row["status"], row["error"]) for row in rows] == [(name, "ok", None) for name in SIZES]
    for row in rows:
        width, height = SIZES[row["id"]]
        assert (row["image_width"], row["image_height"]) == (width, height)
        assert row["refinement"]["method"] == method and row["visual_tokens"] > 0
        assert row["answer"] and row["baseline_answer"] and 0 < row["answer_confidence"] <= 1
        for box in [*row["refinement"]["crops"], *([row["box"]] if row["box"] else [])]:
            assert 0 <= box["x0"] < box["x1"] <= width and 0 <= box["y0"] < box["y1"] <= height
    assert any(row["refinement"]["crops"] for row in rows), "some picture is worth a closer look"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    work_here(monkeypatch)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("name", "method"), [("internvl", "rel_att"), ("instructblip", "grad_att")])
def test_every_row_is_answered_by_model_processes(name: str, method: str, folders: dict[str, Path], tmp_path: Path) -> None:
    rows = answered(archive(tmp_path, SIZES), folders[name], f"refine.method={method}", "refine.layer=1")
    assert_all_answered(rows, method)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("method", ["rel_att", "grad_att", "auto"])
def test_every_row_is_answered(name: str, method: str, folders: dict[str, Path], tmp_path: Path) -> None:
    chosen = f"refine.method={method}", "refine.layer=2", "refine.regions=2", "refine.keep=refined"
    assert_all_answered(answered(archive(tmp_path, SIZES), folders[name], *chosen), method)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_of_pixels_need_no_layer(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    assert_all_answered(answered(archive(tmp_path, SIZES), folders[name], "refine.method=pure_grad"), "pure_grad")


@pytest.mark.usefixtures("here")
def test_a_picture_that_a_family_cannot_show_costs_its_own_row(folders: dict[str, Path], tmp_path: Path) -> None:
    manifest = archive(tmp_path, {"wide": (320, 180), "thread": (1005, 5), "tall": (90, 260)})
    rows = answered(manifest, folders["qwen3_vl"], "refine.layer=1")
    assert [row["status"] for row in rows] == ["ok", "skipped", "ok"]
    assert "1005 x 5 px" in rows[1]["error"] and rows[1]["image_width"] == 1005


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("chosen", "said"), [("refine.layer=77", "refine.layer 77"), ("views.num_tokens=9", "views.num_tokens 9")]
)
def test_a_wrong_setting_is_one_line_and_exit_2(
    name: str, chosen: str, said: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = asked(archive(tmp_path, SIZES), folders[name], "refine.layer=1", chosen)
    error = capsys.readouterr().err
    assert code == 2 and said in error and error.strip().count("\n") == 0 and not output.exists()
