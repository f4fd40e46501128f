"""`calibrate`: refused in one line before any work; from labelled rows to a profile that a run takes up."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import calibrate
from ray_pipeline.actor import Actor, Asked
from ray_pipeline.calibration import course, focus_layer, heads, isotonic
from ray_pipeline.models.profiles import REGRESSOR, weights_digest
from ray_pipeline.models.weights import EMBEDDED
from ray_pipeline.synthesis.archive import Entry, entry_of, write_archive
from ray_pipeline.synthesis.evaluation import cases
from schemas.job import JobSettings
from schemas.picture import Picture
from schemas.profile import Profile
from tests.faults.small_archive import write_small_archive


def asked(manifest: Path, output: Path, *more: str) -> list[str]:
    return ["--manifest", str(manifest), "--output", str(output), *more]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--fit-share", "1"], "--fit-share 1: expected a number above 0 and below 1"),
        (["--fit-share", "half"], "--fit-share half: expected a number"),
        (["--cost-per-row-s", "0"], "--cost-per-row-s 0: expected a number above 0"),
        (["--cost-per-row-s", "nan"], "--cost-per-row-s nan: expected a number above 0"),
        (["--sample", "0"], "--sample 0: expected a whole number from 1"),
        (["--actors", "2"], "--actors is for runs: calibration is one process, here"),
        (["--set", "profile=p.json"], "profile 'p.json': a profile is made here, not used"),
        (["--set", "views.resolution_px=512"], "views.resolution_px 512 with mc-llava"),
        (["--manifest", "missing.parquet"], "missing.parquet"),
        ([], "no column 'references' or 'reference_boxes'"),
    ],
)
def test_mistakes_are_refused_in_one_line(tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_small_archive(tmp_path / "archive", 2)
    try:
        code: object = calibrate.main(asked(manifest, tmp_path / "out", *more))
    except SystemExit as end:  # options that no parser takes
        code = end.code
    assert code == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("fovea calibrate: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def labelled(folder: Path) -> tuple[Path, list[Entry]]:
    """Texts to read and places to find, and a file that is none."""
    found = [entry_of(case) for case in cases("validation", "large", 5, (0.05, 0.05), "read", 910_000)]
    found += [entry_of(case) for case in cases("validation", "medium", 7, (0.05, 0.05), "where_text", 920_000)]
    broken = Entry("lost", "lost.jpg", None, "Read the text on the red sign.", "A", ())
    return write_archive(folder, [*found, broken]), found


def test_a_run_takes_up_what_was_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So few rows teach nothing worth having; every stage is there all the same."""
    for module, names in (
        (course, ("LEAST_QUERIES", "LEAST_HELD_OUT", "LEAST_JUDGED")),
        (heads, ("LEAST_QUERIES", "LEAST_HELD_OUT")),
        (isotonic, ("LEAST_ROWS", "LEAST_OF_EACH", "LEAST_HELD_OUT")),
        (focus_layer, ("LEAST_ROWS",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, 0 if name == "LEAST_OF_EACH" else 1)
    manifest, entries = labelled(tmp_path / "archive")
    output = tmp_path / "made"
    more = ["--set", "refine.method=rel_att", "--set", "views.max_crops=0", "--sample", "3", "--set", "select.samples=4"]
    assert calibrate.main(asked(manifest, output, *more)) == 0
    said = capsys.readouterr()
    assert "12 labelled rows on 12 pictures; 1 files could not be had" in said.err
    assert "## Layer to look at" in said.out and "## Strategies" in said.out and "after." in said.out
    profile = Profile.model_validate_json((output / "profile.json").read_bytes())
    assert sorted(path.name for path in output.iterdir()) == sorted(
        ["profile.json", *[REGRESSOR] * (profile.regressor is not None)]
    )
    assert profile.model == weights_digest(EMBEDDED)
    assert profile.focus is not None and profile.under.refine.layer == profile.focus.layer
    assert profile.strategy is not None and "refine.method" not in profile.strategy.settings, "it was given"
    assert "answer" in profile.confidences, profile.left_out

    assert calibrate.main(asked(manifest, output, *more)) == 2, "a profile is never written over another"
    assert "has a profile.json already" in capsys.readouterr().err

    picture = Picture(np.asarray(Image.open(tmp_path / "archive" / "pictures" / entries[0].file).convert("RGB")), "one")
    given = {"refine": {"method": "rel_att"}, "select": {"samples": 4}}
    names = {"manifest": "", "output": "", "profile": str(output / "profile.json"), **given}
    run = JobSettings.model_validate(names)
    known = profile.model_copy(update={"confidences": {}})
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "profile.json").write_text(known.model_dump_json())
    if profile.regressor is not None:
        (tmp_path / "bare" / REGRESSOR).write_bytes((output / REGRESSOR).read_bytes())
    bare = run.model_copy(update={"profile": str(tmp_path / "bare" / "profile.json")})
    told, raw = (Actor(one).answer({0: Asked(picture, entries[0].question)})[0].perception for one in (run, bare))
    assert told.calibrated and not raw.calibrated
    assert told.answer == raw.answer
    for name, map_ in profile.confidences.items():
        before = getattr(raw, f"{name}_confidence")
        assert getattr(told, f"{name}_confidence") == (None if before is None else map_.of(before))
    assert json.loads((output / "profile.json").read_text())["version"] == 1
