"""A calibration's profile: checked against the weights, laid into settings, carried in them to where no file is."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.run import RunRefused, prepare
from ray_pipeline.actor import calibrated
from ray_pipeline.delivery.fingerprint import differences
from ray_pipeline.models.families import check_family
from ray_pipeline.models.profiles import PROFILE, REGRESSOR, confidence_maps, regressor_bytes, resolved, shown, weights_digest
from ray_pipeline.models.weights import EMBEDDED, ModelRefused
from schemas.job import JobSettings
from schemas.methods import FusionSettings, RefineSettings, SelectSettings
from schemas.model import PromptSettings, ViewSettings
from schemas.profile import ConfidenceMap, FittedUnder, FocusLayer, HeadProfile, Profile, RegressorFile, Strategy
from tests.faults.small_archive import write_small_archive

STORED = (EMBEDDED / REGRESSOR).read_bytes()
STRATEGY = {"refine.method": "none", "select.method": "acs_learned"}


def made(folder: Path, **changed: Any) -> Path:
    """A profile of the embedded model with everything in it, its regressor beside it."""
    own = weights_digest(EMBEDDED)
    under = FittedUnder(
        views=ViewSettings(), refine=RefineSettings(method="none", layer=1), select=SelectSettings(method="acs_learned"),
        fusion=FusionSettings(), prompt=PromptSettings(),
    )  # fmt: skip
    half = ConfidenceMap(knots=(0.0, 1.0), shares=(0.0, 0.5), rows=99, held_out=99, before=0.3, after=0.01)
    known = dict(
        model=own, manifest_sha256="3" * 64, date="2026-11-21", under=under, confidences={"answer": half, "box": half},
        focus=FocusLayer(layer=1, ratio=3.0, hit=0.5, rows=20),
        heads=HeadProfile.model_validate_json((EMBEDDED / PROFILE).read_bytes()),
        regressor=RegressorFile(
            sha256=hashlib.sha256(STORED).hexdigest(), queries=60, held_out=20, pearson=0.7, within_query=0.4
        ),
        strategy=Strategy(settings=STRATEGY, rows=10, accuracy=0.5, low=0.2, high=0.8, row_s=0.1, cost_per_row_s=None),
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / REGRESSOR).write_bytes(STORED)
    (folder / PROFILE).write_text(Profile.model_validate(known | changed).model_dump_json())
    return folder / PROFILE


def job(profile: Path | str | None, **given: Any) -> JobSettings:
    named = {"profile": str(profile)} if profile is not None else {}
    return JobSettings.model_validate({"manifest": "m.parquet", "output": "out", **named, **given})


def test_a_profile_travels_within_the_settings(tmp_path: Path) -> None:
    path = made(tmp_path / "made")
    given = job(path)
    settings, found = resolved(given, EMBEDDED)
    assert found is not None
    path.unlink()
    (path.with_name(REGRESSOR)).unlink()
    there = JobSettings.model_validate_json(settings.model_dump_json())  # as it comes to another machine
    assert (there.refine.layer, there.refine.method, there.select.method) == (1, "none", "acs_learned")
    assert check_family(there) == EMBEDDED
    assert regressor_bytes(EMBEDDED, there.select) == STORED
    again, maps = calibrated(there)
    assert again == there and sorted(maps) == ["answer", "box"]
    assert maps["answer"].of(0.8) == pytest.approx(0.4)
    assert (shown(there, given).profile, shown(there, given).select.profile) == (str(path), None)


def test_what_somebody_has_set_stays_and_takes_the_maps_away(tmp_path: Path) -> None:
    path = made(tmp_path / "made")
    settings, found = resolved(job(path, refine={"method": "auto"}, select={"samples": 10}), EMBEDDED)
    assert found is not None
    assert (settings.refine.method, settings.refine.layer, settings.select.method) == ("auto", 1, "acs_learned")
    assert confidence_maps(settings, found.profile) == ({}, ('refine.method: "none" -> "auto"',))
    located, found = resolved(job(path, task="label", label={"find": "locate", "phrases": ["a"]}), EMBEDDED)
    assert found is not None
    assert (located.refine.method, located.refine.layer, located.select.method) == ("rel_att", 1, "greedy")
    assert confidence_maps(located, found.profile)[0] == {}
    with pytest.raises(ValueError, match="profile is for answers"):
        job(path, task="ocr")


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        tree = json.loads(path.read_text())
        change(tree)
        path.write_text(json.dumps(tree))

    return spoil


def other_model(tree: dict[str, Any]) -> None:
    tree["model"] = tree["heads"]["model"] = "0" * 64


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (Path.unlink, "No such file or directory; expected what `fovea calibrate` wrote"),
        (lambda path: path.write_bytes(b"\xff{"), "expected a profile that `fovea calibrate` wrote"),
        (lambda path: path.write_bytes((EMBEDDED / PROFILE).read_bytes()), "expected a profile that"),
        (edited(other_model), r"is of weights 000000000000, this model's are [0-9a-f]{12}; expected a profile of its own"),
        (edited(lambda tree: tree["confidences"]["answer"].update(shares=[0.1, float("nan")])), "answer.shares.1: .*finite"),
        (edited(lambda tree: tree["focus"].update(ratio=float("inf"))), "focus.ratio: .*finite"),
        (edited(lambda tree: tree["heads"]["heads"][0].update(mu=float("nan"))), "heads.heads.0.mu: .*finite"),
        (edited(lambda tree: tree.update(version=2)), "version"),
        (edited(lambda tree: tree.update(eyes=2)), "eyes"),
        (edited(lambda tree: tree["strategy"]["settings"].update({"refine.mode": "officious"})), "refine.mode"),
        (edited(lambda tree: tree["strategy"]["settings"].update({"refine.eyes": 2})), "refine.eyes"),
        (lambda path: path.with_name(REGRESSOR).unlink(), "No such file"),
        (lambda path: path.with_name(REGRESSOR).write_bytes(b"other"), r"has sha256 d9298a10d1b0, expected [0-9a-f]{12}"),
    ],
)  # fmt: skip
def test_profiles_that_do_not_fit_are_refused_at_start(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    manifest = write_small_archive(tmp_path / "archive", 2)
    path = made(tmp_path / "made")
    spoil(path)
    with pytest.raises(RunRefused, match=said):
        prepare(job(path, output=str(tmp_path / "out"), manifest=str(manifest)), ("question",))
    assert not (tmp_path / "out").exists()


def test_text_in_the_place_of_an_address_must_be_a_profile() -> None:
    with pytest.raises(ModelRefused, match="profile given as text: .*expected the address"):
        resolved(job("{}"), EMBEDDED)


def test_another_profile_is_another_run(tmp_path: Path) -> None:
    manifest = write_small_archive(tmp_path / "archive", 2)
    settings = [
        job(made(tmp_path / name, date=date), output=str(tmp_path / "out"), manifest=str(manifest))
        for name, date in (("a", "2026-11-21"), ("b", "2026-11-21"), ("c", "2026-11-22"))
    ]
    first, moved, other = (prepare(one, ("question",)) for one in settings)
    assert differences(first.fingerprint, moved.fingerprint) == []
    changed = differences(first.fingerprint, other.fingerprint)
    assert [line.split(":")[0] for line in changed] == ["model.sha256.profile/profile.json"]
    assert first.run_file["settings"]["profile"] == str(tmp_path / "a" / PROFILE)
    assert first.run_file["settings"]["refine"]["layer"] == 1
    assert STORED not in json.dumps(first.run_file).encode()
    assert first.settings.profile is not None and first.settings.profile.startswith("{")
    assert first.note == "profile: calibrated confidences of answer, box"
