"""`plan`: refused as the run would be, foretells from sampled rows, writes nothing but its own file; the run takes it up."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import plan
from jobs.run import RunRefused, _metrics, prepare
from ray_pipeline.intake.manifest import open_manifest
from ray_pipeline.worker import PartOutcome, WorkOrder
from schemas.job import JobSettings
from tests.faults.small_archive import write_small_archive
from tests.stand_ins.hash_model import load_hash


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_small_archive(tmp_path / "archive", 40)


def asked(manifest: Path, output: Path, *more: str) -> list[str]:
    return ["--manifest", str(manifest), "--output", str(output), "--set", "refine.method=none", *more]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--price", "free"], "--price free: expected a number, 0 or more"),
        (["--price", "-1"], "--price -1: expected a number"),
        (["--price", "nan"], "--price nan: expected a number"),
        (["--sample", "0"], "--sample 0: expected a whole number of rows"),
        (["--sample", "some"], "--sample some: expected a whole number"),
        (["--to", "nowhere/plan.json"], "--to nowhere/plan.json: expected a new file in a folder that is there"),
        (["--set", "run.bathc=3"], "unknown setting run.bathc (from --set); did you mean run.batch?"),
        (["--manifest", "missing.parquet"], "missing.parquet"),
    ],
)
def test_mistakes_are_refused_in_one_line(
    archive: Path, tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.main(asked(archive, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("fovea plan: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("ray_session")
def test_sampled_rows_foretell_the_run_and_nothing_is_written(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(WorkOrder.__init__, "__defaults__", (False, load_hash))
    (archive.parent / "p3.png").unlink()
    target, output = tmp_path / "plan.json", tmp_path / "out"
    more = ("--actors", "2", "--set", "run.part_rows=4", "--price", "2", "--to", str(target))
    assert plan.main(asked(archive, output, *more)) == 0
    said, planned = capsys.readouterr().out, json.loads(target.read_text())
    assert "40 rows in 10 parts, 40 rows to do" in said and "fetch_not_found 2, ok 78" in said  # each of two workers met all
    assert planned["rows"] == 40 and planned["statuses"] == {"fetch_not_found": 2, "ok": 78}
    assert 0 < planned["wall_s"]["low"] < planned["wall_s"]["likely"] < planned["wall_s"]["high"]
    assert planned["money"]["likely"] == pytest.approx(planned["wall_s"]["likely"] * 2 * 2 / 3600)
    assert not output.exists() or not any(output.rglob("*.parquet"))
    chosen = {"manifest": str(archive), "output": str(output), "run": {"plan": str(target)}}
    settings = JobSettings.model_validate(chosen)
    prepared = prepare(settings, ("question",))
    assert prepared.plan is not None and prepared.plan["rows"] == 40
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({name: ["x"] for name in ("id", "image_uri", "question")}), other)
    with pytest.raises(RunRefused, match="was made for another manifest"):
        prepare(settings.model_copy(update={"manifest": str(other)}), ("question",))


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"rows": 3}', '{"rows": 3, "wall_s": {"low": 1}}'])
def test_a_file_that_is_no_forecast_is_refused(archive: Path, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "plan.json"
    if content is not None:
        file.write_text(content)
    chosen = {"manifest": str(archive), "output": str(tmp_path / "out"), "run": {"plan": str(file)}}
    with pytest.raises(RunRefused, match=r"run\.plan .*expected a file that `fovea plan --to` wrote"):
        prepare(JobSettings.model_validate(chosen), ("question",))


def test_a_forecast_is_compared_by_rows_of_the_manifest_not_by_pages(archive: Path, tmp_path: Path) -> None:
    wall_s = {"likely": 1.0, "low": 0.0, "high": 1e9}
    planned = {"rows": 40, "wall_s": wall_s, "manifest_sha256": open_manifest(str(archive), None, (), ()).digest}
    (tmp_path / "plan.json").write_text(json.dumps(planned))
    run = {"plan": str(tmp_path / "plan.json"), "part_rows": 20}
    chosen = {"manifest": str(archive), "output": str(tmp_path / "out"), "task": "ocr", "run": run}
    prepared = prepare(JobSettings.model_validate(chosen), ())
    whole = [PartOutcome(0, 500, committed=True), PartOutcome(1, 20, committed=True)]  # documents became 500 pages
    assert _metrics(prepared, whole, 0.0)["plan"]["comparable"]
    lost = [PartOutcome(0, 500, committed=True), PartOutcome(1, 20, failure="lost")]
    assert not _metrics(prepared, lost, 0.0)["plan"]["comparable"]
