"""Many conversations side by side: every row ends once, and a failing one is alone."""

import numpy as np
import pytest
import torch

from ray_pipeline.batching import RowLimit, _call, converse
from ray_pipeline.perceiver import Plan, Seen, perceive
from schemas.methods import RefineSettings
from schemas.model import PromptSettings, ViewSettings
from schemas.picture import Picture
from schemas.status import RowFailure, Status
from tests.stand_ins.planted_model import PlantedModel


def planted(width: int, height: int, box: tuple[int, int, int, int]) -> Picture:
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = (255, 0, 255)
    return Picture(pixels, "0" * 64)


def plan(**refine: object) -> Plan:
    return Plan(ViewSettings(), RefineSettings.model_validate(refine), PromptSettings(), PlantedModel.defaults)


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (640, 480, (503, 43, 561, 72)),
        (300, 1100, (23, 905, 71, 990)),
        (1700, 700, (805, 333, 871, 352)),
        (512, 512, (0, 0, 40, 40)),
    ],
)
def test_the_zoom_finds_the_planted_thing_and_its_box_is_sharper_than_the_first(
    width: int, height: int, box: tuple[int, int, int, int]
) -> None:
    picture = planted(width, height, box)
    seen = converse(PlantedModel(), {0: perceive(picture, "where?", plan())})[0]
    assert isinstance(seen, Seen)
    said = seen.perception
    assert said.refinement.used and said.baseline_answer is not None and said.views == 2
    crop = said.refinement.crops_px[0]
    assert crop[0] <= box[0] and crop[1] <= box[1] and crop[2] >= box[2] and crop[3] >= box[3]
    assert said.box_px is not None
    assert max(abs(a - b) / side for a, b, side in zip(said.box_px, box, (width, height, width, height), strict=True)) < 0.02
    first = said.candidates[0].box_px
    assert first is not None
    assert sum(abs(a - b) for a, b in zip(said.box_px, box, strict=True)) <= sum(
        abs(a - b) for a, b in zip(first, box, strict=True)
    )


def test_grid_of_crops_gives_the_same_place() -> None:
    picture, box = planted(1200, 800, (700, 500, 760, 530)), (700, 500, 760, 530)
    looked = Plan(ViewSettings(max_crops=9), RefineSettings(), PromptSettings(), PlantedModel.defaults)
    seen = converse(PlantedModel(), {0: perceive(picture, "where?", looked)})[0]
    assert isinstance(seen, Seen)
    crop = seen.perception.refinement.crops_px[0]
    assert crop[0] <= box[0] and crop[1] <= box[1] and crop[2] >= box[2] and crop[3] >= box[3]
    assert 2 < seen.perception.views <= 11 and seen.perception.visual_tokens == 144 * seen.perception.views


@pytest.mark.parametrize(("bad", "status"), [("raise", Status.MODEL_CRASH)])
def test_a_failing_row_is_alone(bad: str, status: Status) -> None:
    questions = ["a", "b", bad, "c", "d"]
    talks = {k: perceive(planted(200, 160, (20, 30, 60, 50)), text, plan()) for k, text in enumerate(questions)}
    ended = converse(PlantedModel(), talks)
    assert sorted(ended) == [0, 1, 2, 3, 4]
    failure = ended[2]
    assert isinstance(failure, RowFailure) and failure.status is status and "planted failure" in failure.message
    assert all(isinstance(ended[k], Seen) for k in (0, 1, 3, 4))


def test_out_of_memory_halves_the_batch_until_it_fits() -> None:
    talks = {k: perceive(planted(200, 160, (20, 30, 60, 50)), "out of memory", plan()) for k in range(5)}
    assert all(isinstance(end, Seen) for end in converse(PlantedModel(), talks).values())


def test_what_one_half_learns_about_memory_the_other_half_heeds() -> None:
    held, limit = [], RowLimit(16)

    def call(requests: list[int]) -> list[int]:
        held.append(len(requests))
        if len(requests) > 2:
            raise torch.OutOfMemoryError("planted")
        return [-one for one in requests]

    assert _call(call, list(range(16)), limit) == [-k for k in range(16)]
    assert held[:4] == [16, 8, 4, 2] and max(held[4:]) <= 3  # the limit grows by one with each full call that went well
    assert limit.rows <= 3


def test_batched_rows_equal_single_rows() -> None:
    boxes = [(20, 30, 60, 50), (100, 100, 130, 140), (5, 5, 90, 20)]
    together = converse(PlantedModel(), {k: perceive(planted(200, 160, box), "q", plan()) for k, box in enumerate(boxes)})
    for k, box in enumerate(boxes):
        alone = converse(PlantedModel(), {0: perceive(planted(200, 160, box), "q", plan())})[0]
        other = together[k]
        assert isinstance(alone, Seen) and isinstance(other, Seen) and alone.perception == other.perception


@pytest.mark.parametrize(
    ("refine", "used", "reason"),
    [
        ({"method": "none"}, False, "switched off"),
        ({"gate": 0.4}, False, "first answer is sure: 0.500, gate 0.400"),
        ({"gate": 0.6}, True, "surer than the first answer"),
        ({"keep": "refined", "first_answer": False}, True, "window"),
    ],
)
def test_whether_to_zoom_is_decided_and_recorded(refine: dict[str, object], used: bool, reason: str) -> None:
    seen = converse(PlantedModel(), {0: perceive(planted(400, 300, (40, 60, 80, 90)), "q", plan(**refine))})[0]
    assert isinstance(seen, Seen)
    assert seen.perception.refinement.used is used and reason in seen.perception.refinement.reason
    assert (seen.perception.baseline_answer is None) == (refine.get("method") == "none" or refine.get("first_answer") is False)
