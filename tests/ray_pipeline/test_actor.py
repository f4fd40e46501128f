"""What shares a call with what: whole batches, or one row at a time where the run is strict; less where memory runs out."""

import numpy as np
import pytest
import torch

from ray_pipeline.actor import Actor, Asked
from ray_pipeline.models.contract import Encode, VisualTokens
from ray_pipeline.perceiver import Seen
from schemas.job import JobSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Picture
from tests.stand_ins.planted_model import PlantedModel
from tests.stand_ins.reading_model import ReadingModel, drawn


class Counting(PlantedModel):
    """Notes how many rows each call of the tower held; more than `most` are too many for its memory."""

    def __init__(self, most: int) -> None:
        self.most, self.calls = most, list[int]()

    def encode(self, requests: list[Encode]) -> list[VisualTokens]:  # type: ignore[override]
        self.calls.append(len(requests))
        if len(requests) > self.most:
            raise torch.OutOfMemoryError("planted")
        return super().encode(requests)


def actor_of(model: PlantedModel, **run: object) -> Actor:
    chosen = {"manifest": "m", "output": "o", "run": run, "refine": {"method": "none"}}
    return Actor(JobSettings.model_validate(chosen), lambda *settings: model)


def rows(count: int) -> dict[int, Asked]:
    return {k: Asked(Picture(np.full((30 + k, 40, 3), 80, np.uint8), ""), "q") for k in range(count)}


@pytest.mark.parametrize(("strict", "calls"), [(False, [6]), (True, [1] * 6)])
def test_a_strict_run_shows_the_model_one_row_at_a_time(strict: bool, calls: list[int]) -> None:
    model = Counting(99)
    ended = actor_of(model, strict=strict, batch=6).answer(rows(6))
    assert model.calls == calls and all(isinstance(one, Seen) for one in ended.values()) and set(ended) == set(range(6))


def test_pages_are_read_without_questions_and_with_the_familys_own_words() -> None:
    loaded: list[PromptSettings] = []

    def load(model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> ReadingModel:
        loaded.append(prompt)
        return ReadingModel()

    settings = JobSettings.model_validate({"manifest": "m", "output": "o", "task": "ocr", "ocr": {"max_rereads": 0}})
    pages = {k: Asked(drawn(200, 100, [(10, 10, f"page {k}")])) for k in range(3)}
    ended = Actor(settings, load).answer(pages)
    assert {k: seen.perception.answer for k, seen in ended.items() if isinstance(seen, Seen)} == {
        k: f"page {k}" for k in range(3)
    }
    assert loaded == [PromptSettings(template="plain")]


def test_calls_shrink_when_memory_runs_out_and_grow_again_one_by_one() -> None:
    model = Counting(3)
    actor = actor_of(model, batch=8)
    assert all(isinstance(one, Seen) for one in actor.answer(rows(8)).values())
    assert model.calls == [8, 4, 2, 2, 3, 1], "halved until it fits, then what has been learned plus one"
    model.calls.clear()
    model.most = 99  # somebody else's memory came free
    for _ in range(4):
        assert all(isinstance(one, Seen) for one in actor.answer(rows(8)).values())
    assert max(model.calls) == 8 and model.calls[0] < 8 and sum(model.calls) == 32
