"""`evaluate --study`: the run's model is asked again about its own labelled rows."""

import json
from pathlib import Path

import pytest

from jobs.evaluate import main
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.fingerprint import fingerprint
from ray_pipeline.intake.manifest import open_manifest
from ray_pipeline.synthesis.archive import broken_entries, entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases
from schemas.job import JobSettings
from tests.stand_ins.labelled_runs import Labelled, finished_run

PLACE = "fovea evaluate: "


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a run that has only begun: a study needs its settings alone."""
    folder = tmp_path_factory.mktemp("run")
    entries = [entry_of(case) for case in cases("validation", "large", 2, (0.1, 0.15))]
    manifest = str(write_archive(folder, [*entries, broken_entries(entries[0])[0]]))
    job = JobSettings(manifest=manifest, output=str(folder / "out"))
    facts = fingerprint(job, open_manifest(manifest, None, (), ()).digest, {})
    run = {"settings": job.model_dump(mode="json"), "fingerprint": facts}
    Output(job.output).create("run.json", json.dumps(run).encode())
    return job.output


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments, "--bootstrap", "100"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_study_of_a_run(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "study.json"
    code, out, err = evaluate(capsys, "--run", run, "--study", "attention", "--json", str(place), "--table", f"{tmp_path}/t.md")
    assert (code, err) == (0, "")
    assert "2 of 2 rows with the boxes it needs, on 2 pictures. Model embedded, layer 2." in out
    assert "## Where the model looks, from the whole picture" in out and "- ratio: " in out
    assert out.splitlines()[-1] == "attention: 2 rows" and out == (tmp_path / "t.md").read_text() + "attention: 2 rows\n"
    found = json.loads(place.read_text())
    (table,) = (members for title, members in found["tables"].items() if title.startswith("Where"))
    everything = next(group for group in table if group["name"] == "all")["scores"]
    assert everything["attention_ratio"]["value"] > 1.5 and found["study"] == "attention" and found["failures"] == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--study", "several"], "0 of 3 rows have 2 or more reference_boxes, expected at least one: several needs them"),
        (["--study", "zooming", "--against", "x"], "--study zooming with --against, expected one of them"),
    ],
)
def test_what_a_study_cannot_be_made_on(run: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = evaluate(capsys, "--run", run, *arguments)
    assert (code, out) == (2, "") and err.startswith(PLACE) and said in err


@pytest.mark.parametrize(
    ("study", "settings", "said"),
    [
        ("zooming", {"refine": {"method": "none"}}, "refine.method 'none', expected one that zooms"),
        ("attention", {"task": "ocr"}, "of a run of task 'ocr', expected 'answer'"),
        ("attention", {"model": {"name": "/nowhere/at/all"}}, "the run's model cannot be had here"),
        ("occlusion", {}, "none of 1 rows could be asked about: fetch_not_found 1"),
    ],
)
def test_runs_that_cannot_be_studied(
    study: str, settings: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = finished_run(tmp_path, [Labelled("r0", ["exit"], [(10, 10, 16, 20)])], **settings)
    code, out, err = evaluate(capsys, "--run", output, "--study", study)
    assert (code, out) == (2, "") and said in err
