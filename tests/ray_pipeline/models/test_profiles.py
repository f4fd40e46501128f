"""Profiles are found, checked against the weights, and choose boxes in a real conversation with the embedded model."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_pipeline.actor import Actor, Asked
from ray_pipeline.methods.box_regressor import AirB
from ray_pipeline.models.families import load_family
from ray_pipeline.models.mc_llava_checkpoint import is_published
from ray_pipeline.models.profiles import PROFILE, REGRESSOR, find_profile, profile_digests, regressor_bytes, weights_digest
from ray_pipeline.models.weights import EMBEDDED, LINE_FINDER, LINE_READER, ModelRefused, model_folder
from ray_pipeline.synthesis.evaluation import Case, cases
from schemas.job import JobSettings
from schemas.methods import SelectSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Picture
from schemas.profile import HeadProfile, ProfiledHead
from schemas.result import Perception


def written(folder: Path, kind: str = "mc-llava") -> Path:
    """A profile of one head in a folder whose weights are a few bytes."""
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    for name in ("model.safetensors", LINE_FINDER, LINE_READER):
        (folder / name).write_bytes(b"weights")
    head = ProfiledHead(coordinate="x0", layer=1, head=2, mu=0.5, sigma=0.1, auroc=0.7)
    profile = HeadProfile(
        model=weights_digest(folder), transformers="5.23.0", dtype="float32", prompt_sha256="1" * 64,
        calibrated_on="made by hand", date="2026-11-21", heads=(head,),
    )  # fmt: skip
    (folder / PROFILE).write_text(profile.model_dump_json())
    return folder / PROFILE


@pytest.mark.parametrize("method", ["greedy", "medoid", "cluster", "likeliest", "least_entropy", "mean", "median", "random"])
def test_agreement_needs_no_profile(tmp_path: Path, method: str) -> None:
    assert find_profile(tmp_path, SelectSettings(method=method)) is None
    assert regressor_bytes(tmp_path, SelectSettings(method=method)) is None


@pytest.mark.parametrize("method", ["acs_free", "inside_mass"])
def test_a_profile_beside_the_weights_is_found(tmp_path: Path, method: str) -> None:
    written(tmp_path)
    found = find_profile(tmp_path, SelectSettings(method=method))
    assert found is not None
    assert [(head.layer, head.head) for head in found.heads] == [(1, 2)]
    assert regressor_bytes(tmp_path, SelectSettings(method=method)) is None


def test_a_profile_elsewhere_is_found_and_counted(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "model", tmp_path / "calibrated"
    folder.mkdir()
    elsewhere.mkdir()
    shutil.move(written(folder), elsewhere / "mine.json")
    (elsewhere / REGRESSOR).write_bytes(b"regressor")
    select = SelectSettings(method="acs_learned", profile=str(elsewhere / "mine.json"))
    assert find_profile(folder, select) is not None
    assert regressor_bytes(folder, select) == b"regressor"
    assert sorted(profile_digests(folder, select)) == ["select.profile/iou_regressor.safetensors", "select.profile/mine.json"]
    assert profile_digests(folder, SelectSettings(method="acs_learned")) == {}


def _missing(folder: Path) -> None:
    (folder / PROFILE).unlink()


def _no_json(folder: Path) -> None:
    (folder / PROFILE).write_bytes(b"\xff{")


def _unknown_field(folder: Path) -> None:
    stored = json.loads((folder / PROFILE).read_text())
    (folder / PROFILE).write_text(json.dumps({**stored, "eyes": 2}))


def _no_spread(folder: Path) -> None:
    stored = json.loads((folder / PROFILE).read_text())
    stored["heads"][0]["sigma"] = 0
    (folder / PROFILE).write_text(json.dumps(stored))


def _other_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"trained on")


def _one_file_more(folder: Path) -> None:
    (folder / "model-00002.safetensors").write_bytes(b"a shard")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_missing, "without a profile"),
        (_no_json, "expected a head profile"),
        (_unknown_field, "eyes"),
        (_no_spread, "sigma"),
        (_other_weights, "expected a profile of its own"),
        (_one_file_more, "expected a profile of its own"),
    ],
)
def test_profiles_that_do_not_fit_are_refused(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    written(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ModelRefused, match=message):
        find_profile(tmp_path, SelectSettings(method="acs_free"))


def test_a_missing_regressor_is_refused_only_where_it_is_read(tmp_path: Path) -> None:
    written(tmp_path)
    assert find_profile(tmp_path, SelectSettings(method="acs_free")) is not None
    with pytest.raises(ModelRefused, match="without a regressor"):
        find_profile(tmp_path, SelectSettings(method="acs_learned"))


def test_a_regressor_is_no_weight(tmp_path: Path) -> None:
    written(tmp_path)
    before = weights_digest(tmp_path)
    (tmp_path / REGRESSOR).write_bytes(b"regressor")
    assert weights_digest(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    assert weights_digest(tmp_path) != before


@pytest.mark.parametrize("other", [LINE_FINDER, LINE_READER])
def test_who_reads_beside_a_model_is_a_part_of_it_where_it_sees_what_was_read(tmp_path: Path, other: str) -> None:
    select = SelectSettings(method="acs_free")
    written(tmp_path, "mc-llava")
    (tmp_path / other).write_bytes(b"trained on")
    assert find_profile(tmp_path, select) is not None
    written(tmp_path, "line-llava")
    assert find_profile(tmp_path, select) is not None
    (tmp_path / other).write_bytes(b"trained on")
    with pytest.raises(ModelRefused, match="expected a profile of its own"):
        find_profile(tmp_path, select)


@pytest.mark.parametrize("name", ["embedded", "documents"])
def test_the_shipped_profile_fits_the_shipped_weights(name: str) -> None:
    select, folder = SelectSettings(method="acs_learned"), model_folder(name)
    profile = find_profile(folder, select)
    regressor = AirB.from_bytes(regressor_bytes(folder, select) or b"")
    assert profile is not None
    assert profile.model == weights_digest(folder)
    assert regressor.layers == profile.regressor_layers
    assert (regressor.heads, regressor.tokens) == (6, profile.tokens)
    told = (*profile.heads, *profile.pointing)
    assert profile.pointing and all(head.layer < 4 and head.head < 6 and head.auroc >= 0.58 for head in told)
    assert bool(profile.heads) is (profile.joint is not None and profile.joint.entropy > 0)
    assert "x0" not in {head.coordinate for head in profile.heads}, "its row is the same for all candidates of a question"
    assert find_profile(folder, SelectSettings(method="acs_free")) == profile


def test_files_beside_the_weights_are_not_loaded_as_weights(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(EMBEDDED, bare, ignore=shutil.ignore_patterns(PROFILE, REGRESSOR))
    models = [load_family(ModelSettings(name=name), ViewSettings(), PromptSettings()) for name in ("embedded", str(bare))]
    with_profile, without = (family.model.state_dict() for family in models)
    assert with_profile.keys() == without.keys()
    assert all(torch.equal(tensor, without[name]) for name, tensor in with_profile.items())
    assert not is_published(EMBEDDED)


@cache
def small_case() -> Case:
    """A text whose boxes differ from candidate to candidate."""
    return next(cases("validation", "medium", 1, (0.2, 0.2), "where_text", first=900_000))


@cache
def chosen(method: str, seed: int = 0, refine: str = "none") -> Perception:
    job = JobSettings.model_validate(
        {"manifest": "", "output": "", "select": {"method": method}, "refine": {"method": refine}, "run": {"seed": seed}}
    )
    case = small_case()
    picture = Picture(np.asarray(case.rendering.image.convert("RGB")), "a small picture")
    return Actor(job).answer({0: Asked(picture, case.question.text)})[0].perception


@pytest.mark.parametrize("refine", ["none", "rel_att"])
@pytest.mark.parametrize("method", ["acs_free", "acs_learned"])
def test_a_box_is_chosen_by_attention(method: str, refine: str) -> None:
    perception = chosen(method, refine=refine)
    picked = [record for record in perception.candidates if record.chosen]
    assert len({record.box_px for record in perception.candidates}) > 2
    assert len(picked) == 1
    assert perception.box_px == picked[0].box_px
    scored = [record.entropy if method == "acs_free" else record.predicted_iou for record in perception.candidates]
    assert all(value is not None for record, value in zip(perception.candidates, scored, strict=True) if record.box_px)
    assert len(set(scored)) > 2
    if method == "acs_learned":
        assert picked[0].predicted_iou == max(value for value in scored if value is not None)
        assert perception.box_confidence == picked[0].predicted_iou


def test_the_seed_decides_what_is_drawn_and_nothing_else_does() -> None:
    first, again, other = chosen("acs_free"), chosen.__wrapped__("acs_free"), chosen("acs_free", seed=1)
    assert first == again
    assert first.candidates[0].box_px == other.candidates[0].box_px  # greedy
    assert [record.box_px for record in first.candidates] != [record.box_px for record in other.candidates]


def test_all_selectors_see_the_same_candidates() -> None:
    drawn = {method: [record.box_px for record in chosen(method).candidates] for method in ("acs_free", "acs_learned", "medoid")}
    assert drawn["acs_free"] == drawn["acs_learned"] == drawn["medoid"]
