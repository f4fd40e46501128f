"""A clock that can stand still, for so long as it may."""

import threading
import time
from collections.abc import Iterator

import pytest

from ray_pipeline.intake.deadline import Deadline, Expired, Workers


class Clock:
    now_s = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr("ray_pipeline.intake.deadline.time.monotonic", lambda: made.now_s)
    yield made


def test_own_time_runs(clock: Clock) -> None:
    deadline = Deadline(10, 5)
    assert (deadline.remaining_s(), deadline.most_s()) == (10, 15)
    clock.now_s += 4
    assert (deadline.remaining_s(), deadline.most_s()) == (6, 11)
    clock.now_s += 7
    assert deadline.remaining_s() == 0


def test_standing_uses_the_spare_time_and_no_more(clock: Clock) -> None:
    deadline = Deadline(10, 5)
    with deadline.standing():
        clock.now_s += 3
        assert deadline.remaining_s() == 10
    assert deadline.remaining_s() == 10
    with deadline.standing():
        clock.now_s += 4
        assert deadline.remaining_s() == 8  # two of them were spare
    assert deadline.remaining_s() == deadline.most_s() == 8


def test_without_spare_time_it_never_stands(clock: Clock) -> None:
    deadline = Deadline(10)
    with deadline.standing():
        clock.now_s += 3
    assert deadline.remaining_s() == 7


@pytest.mark.parametrize(("back_s", "left_s"), [(3, 9), (4, 10), (100, 11)])
def test_time_given_back(clock: Clock, back_s: float, left_s: float) -> None:
    deadline = Deadline(10, 5)
    clock.now_s += 4
    deadline.give_back(back_s)
    assert deadline.remaining_s() == left_s


def test_expiry_cuts_once_and_at_once(clock: Clock) -> None:
    deadline, cuts = Deadline(10, 100), []
    deadline.on_expiry(lambda: cuts.append("early"))
    deadline.expire()
    deadline.expire()
    deadline.on_expiry(lambda: cuts.append("late"))
    assert (cuts, deadline.remaining_s(), deadline.most_s()) == (["early", "late"], 0, 0)


def test_work_that_stands_is_waited_for() -> None:
    """Its own time is far too short for it; the caller waits as long as the clock stands."""
    deadline = Deadline(0.2, 60)

    def work() -> str:
        with deadline.standing():
            time.sleep(0.6)
        return "done"

    assert Workers(1).run(deadline, work) == "done"


@pytest.mark.parametrize("spare_s", [0.0, 0.2])
def test_but_not_for_ever(spare_s: float) -> None:
    deadline, over = Deadline(0.1, spare_s), threading.Event()
    deadline.on_expiry(over.set)

    def work() -> None:
        with deadline.standing():
            over.wait()

    with pytest.raises(Expired):
        Workers(1).run(deadline, work)
    assert over.is_set()
