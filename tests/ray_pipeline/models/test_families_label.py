"""What a model must be able to do for `label`: read pages, write boxes, or either, as `label.find` says."""

from pathlib import Path
from typing import Any

import pytest

from ray_pipeline.models.families import check_family, load_family, ways
from ray_pipeline.models.instructblip import InstructBlip
from ray_pipeline.models.weights import ModelRefused
from schemas.job import JobSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings

READ, LOCATE, BOTH, ZOOM = (True, False), (False, True), (True, True), {"refine": {"layer": 1}}


def settings(folder: Path, find: str, **sections: Any) -> JobSettings:
    chosen = {"manifest": "m", "output": "o", "model": {"name": str(folder)}, "task": "label", "label": {"find": find}}
    return JobSettings.model_validate(chosen | sections)


@pytest.mark.parametrize(
    ("name", "find", "sections", "found"),
    [
        ("embedded", "auto", {}, BOTH),
        ("embedded", "read", {}, READ),
        ("embedded", "locate", {"select": {"method": "medoid"}}, LOCATE),
        ("qwen3_vl", "auto", ZOOM, BOTH),
        ("qwen3_vl", "read", {}, READ),
        ("qwen3_vl", "locate", {"refine": {"method": "none"}, "prompt": {"template": "locate"}}, LOCATE),
        ("llava_next", "auto", {}, READ),  # it writes no boxes
    ],
)
def test_phrases_are_found_as_the_model_can(
    folders: dict[str, Path], name: str, find: str, sections: dict[str, Any], found: tuple[bool, bool]
) -> None:
    chosen = settings(folders[name], find, **sections)
    assert check_family(chosen) == folders[name] and ways(chosen) == found


@pytest.mark.parametrize(
    ("name", "find", "sections", "said"),
    [
        ("llava_next", "locate", {}, "label.find 'locate' with llava_next; it writes no boxes, expected 'read'"),
        ("qwen3_vl", "auto", {}, "refine.layer is null"),
        ("qwen3_vl", "auto", ZOOM | {"prompt": {"question": "where"}}, "expected a text that holds {question}"),
        ("llava_next", "auto", {"select": {"method": "medoid"}}, "it writes no boxes to choose among"),
        ("embedded", "read", {"views": {"zoom_px": 5}}, "views.zoom_px 5"),
    ],
)
def test_what_the_model_cannot_is_refused(
    folders: dict[str, Path], name: str, find: str, sections: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelRefused) as refused:
        check_family(settings(folders[name], find, **sections))
    assert said in str(refused.value)


def test_what_neither_reads_nor_writes_boxes_finds_nothing(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    able = InstructBlip.abilities
    folder = folders["instructblip"]
    monkeypatch.setattr(InstructBlip, "abilities", lambda config: able(config).__class__(**vars(able(config)) | {"reads": False}))
    for find in ("auto", "read"):
        with pytest.raises(ModelRefused, match="reads no pages"):
            check_family(settings(folder, find))


@pytest.mark.parametrize(
    ("name", "words"), [("embedded", "Where is the "), ("qwen3_vl", "bbox"), ("llava", "bounding box"), ("internvl", "<ref>")]
)
def test_families_say_how_they_are_asked_for_a_place(folders: dict[str, Path], name: str, words: str) -> None:
    """With the plain template that pages are read with."""
    family = load_family(ModelSettings(name=str(folders[name]), device="cpu"), ViewSettings(), PromptSettings(template="plain"))
    assert words in family.defaults.locate and family.defaults.locate.count("{question}") == 1
