"""Every study on a handful of pictures that the embedded model was made for, in a small size."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from ray_pipeline.models.families import load_family
from ray_pipeline.perceiver import Plan
from ray_pipeline.studies.conversations import studied
from ray_pipeline.studies.names import STUDIES
from ray_pipeline.studies.subject import Studied, Subject
from ray_pipeline.synthesis.evaluation import Case, cases
from schemas.methods import RefineSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture
from schemas.status import RowFailure, Status
from tests.stand_ins.family_facts import LoadedFamily
from tests.stand_ins.made_pictures import coloured_blocks
from tests.stand_ins.planted_model import PlantedModel

COUNT = 3
Run = Callable[[str, str], list[tuple[Case, Studied]]]


def boxes_of(case: Case) -> tuple[Box, ...]:
    return tuple(case.rendering.thing_boxes_px[k] for k in case.question.counted) or (case.question.box_px,)


@pytest.fixture(scope="module")
def run() -> Run:
    family = load_family(ModelSettings(), ViewSettings(), PromptSettings())
    plan = Plan(ViewSettings(), RefineSettings(looks=2, hold_answer=True), PromptSettings(max_new_tokens=16), family.defaults)

    def outcomes(study: str, bucket: str) -> list[tuple[Case, Studied]]:
        several = study == "several"
        task, count, first = ("count", COUNT, 2) if several else ("read", COUNT, 0)
        some = list(cases("validation", bucket, count, (0.1, 0.15), task, first))
        pictures = [Picture(np.asarray(case.rendering.image.convert("RGB")), str(case.seed)) for case in some]
        subjects = {
            case.seed: Subject(picture, case.question.text, boxes_of(case), case.seed)
            for case, picture in zip(some, pictures, strict=True)
        }
        ended = studied(family, STUDIES[study], subjects, plan)
        whole = [(case, end) for case in some if isinstance(end := ended[case.seed], Studied)]
        assert len(whole) == count, ended
        return whole

    return outcomes


def right(outcomes: list[tuple[Case, Studied]], condition: str) -> int:
    return sum(end.answers[condition].text == case.question.answer for case, end in outcomes)


def test_it_looks_at_the_thing_far_more_than_chance(run: Run) -> None:
    found = run("attention", "medium")
    assert fmean(end.figures["attention_ratio"] for _, end in found) > 4
    pointed, chance = (fmean(end.figures[name] for _, end in found) for name in ("pointed", "pointed_chance"))
    assert pointed > 3 * chance


def test_hiding_the_thing_costs_the_answer_and_hiding_anything_else_does_not(run: Run) -> None:
    found = run("occlusion", "large")
    assert right(found, "whole") >= 2
    assert right(found, "thing_hidden") == 0
    assert right(found, "top_hidden") <= right(found, "random_hidden")


def test_small_texts_are_read_behind_crops(run: Run) -> None:
    found = run("zooming", "small")
    assert right(found, "whole") == 0
    assert right(found, "true_crop") >= 2
    assert sum(end.figures["held_zoomed"] for _, end in found) >= 2


def test_several_things_are_held_by_several_crops(run: Run) -> None:
    found = run("several", "small")
    assert all(len(end.answers) == 4 for _, end in found)
    assert fmean(e.figures["held_crop_each"] for _, e in found) > fmean(e.figures["held_one_crop"] for _, e in found)


@pytest.mark.parametrize("name", ["instructblip", "llava_next"])
def test_families_with_queries_or_tiles_are_studied_alike(name: str, tmp_path: Path) -> None:
    family = LoadedFamily(name, tmp_path / "model").family
    plan = Plan(ViewSettings(), RefineSettings(layer=0, gate=1.0), PromptSettings(max_new_tokens=2), family.defaults)
    subject = Subject(
        coloured_blocks(200, 150), "What is on the red sign?", ((20.0, 30.0, 60.0, 50.0), (120.0, 80.0, 190.0, 140.0))
    )
    for study in STUDIES:
        ended = studied(family, STUDIES[study], {0: subject}, plan)[0]
        assert isinstance(ended, Studied), ended
        assert ended.answers.keys() >= {"whole"} and all(np.isfinite(value) for value in ended.figures.values())


def test_a_failure_ends_its_subject_alone() -> None:
    plan = Plan(ViewSettings(), RefineSettings(), PromptSettings(), PlantedModel.defaults)
    picture = Picture(np.full((300, 400, 3), 90, np.uint8), "a" * 64)
    subjects = {q: Subject(picture, q, ((10.0, 10.0, 50.0, 50.0),)) for q in ("raise", "where?")}
    ended = studied(PlantedModel(), STUDIES["zooming"], subjects, plan)
    assert isinstance(ended["raise"], RowFailure) and ended["raise"].status == Status.MODEL_CRASH
    assert isinstance(ended["where?"], Studied)
