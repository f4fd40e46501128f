"""A few rows through a real worker: every block is worked on, and nothing but the answer to `how long` remains."""

from pathlib import Path

import pytest

from ray_pipeline.intake.manifest import open_manifest, read_rows
from ray_pipeline.trial import try_out
from ray_pipeline.worker import WorkOrder
from schemas.job import JobSettings
from tests.faults.small_archive import write_small_archive
from tests.stand_ins.hash_model import load_hash


def test_blocks_are_timed_and_their_rows_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASH_MODEL_DELAY_S", "0.05")
    manifest_file = write_small_archive(tmp_path / "archive", 12)
    (tmp_path / "archive" / "p7.png").unlink()
    chosen = {"manifest": str(manifest_file), "output": str(tmp_path / "out"), "refine": {"method": "none"}}
    settings = JobSettings.model_validate(chosen | {"run": {"batch": 4}})
    manifest = open_manifest(settings.manifest, None, ("question",), ())
    rows = read_rows(manifest, 0, 12)
    order = WorkOrder(settings, manifest.base, manifest.remote, manifest.passthrough, load=load_hash)
    trial = try_out(order, [rows[8:], rows[:4], rows[4:8]])
    assert [(block.rows, block.results) for block in trial.blocks] == [(4, 4), (4, 4)]
    assert trial.load_s > 0 and trial.warm_rows == 4 and trial.warm_s >= 4 * 0.05
    assert trial.blocks[0].model_s >= 4 * 0.05 and trial.work_s >= 7 * 0.05  # one row has no picture to ask about
    assert sorted(row["id"] for row in trial.results) == sorted(f"r{k}" for k in range(12))
    assert {row["id"]: row["status"] for row in trial.results if not row["ok"]} == {"r7": "fetch_not_found"}
    assert trial.results[0]["id"] == "r8" and trial.results[0]["image_width"] == 16 + 8 % 5
    assert not (tmp_path / "out").exists()
