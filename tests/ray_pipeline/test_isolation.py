"""Whoever kills the model process is found, set aside, and costs nobody else."""

from collections.abc import Sequence
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.isolation import DEATHS_ALONE, WORKER_DEATHS_ALONE, History, isolated
from ray_pipeline.model_process import Answered, Death
from schemas.status import Status

NOBODY = History([])


class Model:
    """Answers rows in order and dies at the first killer it meets, or before it answers any, as batched calls do."""

    def __init__(self, killers: set[int], streams: bool) -> None:
        self.killers, self.streams, self.deaths = killers, streams, 0
        self.handed: list[tuple[int, ...]] = []

    def __call__(self, numbers: Sequence[int]) -> Answered:
        self.handed.append(tuple(numbers))
        answered = Answered()
        met = [number for number in numbers if number in self.killers]
        for number in numbers:
            if met and (number == met[0] or not self.streams):
                self.deaths += 1
                answered.death = Death(Status.MODEL_CRASH, f"killed by {met[0]}")
                break
            answered.rows[number] = {"number": number}
        return answered


@given(st.data(), st.integers(1, 40), st.booleans())
def test_every_row_ends_once_and_only_killers_are_set_aside(data: st.DataObject, batch: int, streams: bool) -> None:
    numbers = list(range(100, 100 + batch))
    killers = data.draw(st.sets(st.sampled_from(numbers), max_size=4))
    model = Model(killers, streams)
    rows, quarantined = isolated(numbers, model, NOBODY)
    assert set(quarantined) == killers and set(rows) == set(numbers) - killers
    assert model.deaths <= len(killers) * (ceil(log2(batch)) + DEATHS_ALONE)


def test_one_killer_among_sixteen_costs_six_processes() -> None:
    model = Model({9}, streams=False)
    isolated(range(16), model, NOBODY)
    assert model.deaths == 6  # 16, 8, 4, 2, alone, alone


GROUPS = [  # how often all eight rows were held when their worker died -> the sizes they are handed over in next
    (0, [8]),
    (1, [8]),
    (2, [4, 4]),
    (3, [2, 2, 2, 2]),
    (4, [1] * 8),
    (9, [1] * 8),
]


@pytest.mark.parametrize(("deaths", "sizes"), GROUPS)
def test_rows_that_were_there_when_workers_died_go_in_smaller_groups(deaths: int, sizes: list[int]) -> None:
    history = History([range(8)] * deaths)
    groups = list(history.groups(range(8)))
    assert [len(group) for group in groups] == sizes and [number for group in groups for number in group] == list(range(8))


def test_a_row_alone_at_so_many_deaths_is_condemned_and_its_former_neighbours_are_not() -> None:
    history = History([(1, 2), *[(1,)] * WORKER_DEATHS_ALONE])
    assert history.condemned(1) and not history.condemned(2) and not history.condemned(3)
    assert not History([(1,)] * (WORKER_DEATHS_ALONE - 1)).condemned(1)
    assert not History([(1, 2)] * 9).condemned(1), "it was never alone"


def test_a_row_that_comes_back_without_an_end_is_left_to_the_caller() -> None:
    rows, quarantined = isolated([1, 2], lambda numbers: Answered({1: {}}), NOBODY)
    assert rows == {1: {}} and not quarantined
