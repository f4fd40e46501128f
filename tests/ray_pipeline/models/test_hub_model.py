"""Models by hub name: pinned, fetched without anything that could be code, through the same gate as folders."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_pipeline.models.families import check_family, load_family
from ray_pipeline.models.mc_llava import McLlava
from ray_pipeline.models.weights import ModelRefused, model_folder
from schemas.job import JobSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from tests.stand_ins.tiny_models import TINY

COMMIT = "48305173" + "0" * 32
NAME = "someone/MC-LLaVA-3b"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Lay a folder into an empty hub cache, as a download at COMMIT would have; offline, so nothing else is there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def lay(folder: Path) -> Path:
        snapshot = tmp_path / "cache" / "models--someone--MC-LLaVA-3b" / "snapshots" / COMMIT
        blobs = snapshot.parents[1] / "blobs"
        blobs.mkdir(parents=True)
        snapshot.mkdir(parents=True)
        for file in folder.iterdir():
            shutil.copy(file, blobs / file.name)
            (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
        return snapshot

    return lay


def test_a_cached_hub_model_is_checked_and_loaded(tmp_path: Path, cached: Callable[[Path], Path]) -> None:
    """The published MC-LLaVA names code of its own in config.json; our class takes its place."""
    folder = TINY["mc_llava"](tmp_path / "made", 0)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "configuration_llava.LlavaConfig"}
    (folder / "config.json").write_text(json.dumps(config))
    snapshot = cached(folder)
    settings = ModelSettings(name=NAME, revision=COMMIT, device="cpu")
    job = JobSettings.model_validate({"manifest": "m", "output": "o", "model": settings.model_dump(), "refine": {"layer": 1}})
    assert check_family(job) == snapshot
    assert isinstance(load_family(settings, ViewSettings(), PromptSettings()), McLlava)


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        (NAME, None, "model.revision None; expected the commit to pin it to"),
        (NAME, "main", "model.revision 'main'; expected the commit"),
        (NAME, COMMIT[:-1], "40 hex digits"),
        (NAME, "1" * 40, "expected it in the cache or within reach"),
        ("nowhere", COMMIT, "no folder there"),
        ("../up/and/away", COMMIT, "no folder there"),
        ("../escape", COMMIT, "no folder there"),
    ],
)
def test_refused(name: str, revision: str | None, message: str, cached: Callable[[Path], Path]) -> None:
    with pytest.raises(ModelRefused, match=message):
        model_folder(name, revision)


def test_code_keys_elsewhere_are_still_refused(tmp_path: Path, cached: Callable[[Path], Path]) -> None:
    folder = TINY["llava"](tmp_path / "made", 0)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "x.Y"}}))
    cached(folder)
    with pytest.raises(ModelRefused, match="holds 'auto_map'"):
        model_folder(NAME, COMMIT)


def test_what_the_hub_says_is_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError("401 for https://me:word@hub.example/api?token=abc, Authorization: Bearer hf_word")

    monkeypatch.setattr("ray_pipeline.models.weights.snapshot_download", refuse)
    with pytest.raises(ModelRefused) as refused:
        model_folder(NAME, COMMIT)
    assert "401 for https://hub.example/api, Authorization: Bearer [removed]; expected it" in str(refused.value)


def test_a_map_of_another_repository_is_refused_even_in_our_own_kind(tmp_path: Path, cached: Callable[[Path], Path]) -> None:
    folder = TINY["mc_llava"](tmp_path / "made", 0)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "someone/else--configuration_llava.LlavaConfig"}
    (folder / "config.json").write_text(json.dumps(config))
    cached(folder)
    with pytest.raises(ModelRefused, match="holds 'auto_map'"):
        model_folder(NAME, COMMIT)


def test_links_of_the_cache_stay_within_its_shared_files(tmp_path: Path, cached: Callable[[Path], Path]) -> None:
    snapshot = cached(TINY["llava"](tmp_path / "made", 0))
    assert model_folder(NAME, COMMIT) == snapshot
    (tmp_path / "elsewhere.json").write_text("{}")
    (snapshot / "generation_config.json").unlink(missing_ok=True)
    (snapshot / "generation_config.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ModelRefused, match="leaves the folder"):
        model_folder(NAME, COMMIT)
