"""`label`: what is refused before any work, in one line, and what its help shows."""

import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import fovea, label, plan
from schemas.job import JobSettings


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "manifest.parquet"
    pq.write_table(pa.table({"id": ["a"], "image_uri": ["a.png"]}), file)
    return file


def refused(manifest: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    output = manifest.parent / "out"
    options = [word for setting in more for word in ("--set", setting)]
    assert label.main(["--manifest", str(manifest), "--output", str(output), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fovea label: ") and error.count("\n") == 1 and not output.exists()
    return error.removeprefix("fovea label: ")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "no column 'phrases', expected it beside id, image_uri, or phrases for all rows in the setting label.phrases"),
        (["label.phrases=[' ']"], "label.phrases.0=' ' (from --set)"),
        (["label.phrases=[a, null]"], "label.phrases.1=None (from --set)"),
        (["label.find=guess"], "label.find='guess' (from --set): expected 'auto', 'read' or 'locate'"),
        (["label.similarity=0"], "label.similarity=0 (from --set): expected greater than 0"),
        (["label.fnd=read"], "unknown setting label.fnd (from --set); did you mean label.find?"),
        (["label.attributes={text: Read it.}"], "name 'text'; expected printable characters, and none of kind, text"),
        (["label.attributes={colour: ' '}"], "label.attributes.colour=' ' (from --set)"),
        (["label.attributes={' a': b}"], "label.attributes. a.[key]=' a' (from --set)"),
        (["label.attributes=colour"], "label.attributes='colour' (from --set): expected a valid dictionary"),
        (["label.attributes={" + ", ".join(f"n{k}: q" for k in range(17)) + "}"], "at most 16 items"),
        (["label.max_attributed=0"], "label.max_attributed=0 (from --set): expected greater than or equal to 1"),
        (["label.find=read", "refine.layer=3"], "refine is for answers: pages are read as the settings of `ocr` say"),
        (["label.find=read", "prompt.template=locate"], "prompt is for answers"),
        (["label.find=read", "label.attributes={a: b}", "prompt.template=locate"], "prompt is for answers"),
        (["label.find=read", "views.max_crops=4"], "views.max_crops is for answers"),
        (["fusion.scales=[2]"], "fusion is for answers: label asks for every phrase on the picture as first shown"),
        (["prompt.template=closely"], "prompt.template 'closely' is for answers: label asks where a phrase is"),
        (["label.phrases=[a]", "prompt.question=where"], "prompt.question 'where' with mc-llava; expected a text that holds"),
        (["label.phrases=[a]", "model.name=nowhere/none"], "nowhere/none"),
    ],
)
def test_mistakes_are_refused_in_one_line(
    manifest: Path, settings: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(manifest, capsys, *settings)


def test_what_attributes_are_asked_with_is_theirs_where_phrases_are_read() -> None:
    given = {"label": {"find": "read", "attributes": {"reading": "Read it."}}, "prompt": {"max_new_tokens": 9}}
    settings = JobSettings.model_validate({"manifest": "m", "output": "o", "task": "label", "views": {"max_crops": 4}, **given})
    assert (settings.prompt.max_new_tokens, settings.views.max_crops) == (9, 4)


def test_a_manifest_of_the_wrong_kind_is_refused(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"id": ["a"], "image_uri": ["a.png"], "phrases": ["total"]}), manifest)
    assert "column 'phrases' is" in refused(manifest, capsys) and "expected list<string>" in refused(manifest, capsys)


def test_a_forecast_needs_what_the_run_needs(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main(["--task", "label", "--manifest", str(manifest), "--output", str(manifest.parent / "out")]) == 2
    assert "no column 'phrases'" in capsys.readouterr().err


def test_the_example_of_the_help_is_one_that_runs(
    manifest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        fovea.main(["label", "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and len(shown.splitlines()) <= 40
    (example,) = [line.strip() for line in shown.splitlines() if line.strip().startswith("fovea label --")]
    monkeypatch.chdir(manifest.parent)
    manifest.rename(manifest.with_name("invoices.parquet"))
    taken: list[object] = []
    monkeypatch.setattr("jobs.run.execute", lambda prepared: taken.append(prepared) or 0)
    assert fovea.main(shlex.split(example)[1:]) == 0
    assert taken[0].settings.label.phrases == ("invoice number", "total")
