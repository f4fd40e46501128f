"""What workers tell: rows counted once, parts held back while others have work, a run that nobody can do recognised."""

import pytest

from ray_pipeline import tally as module
from ray_pipeline.tally import FIT, LOADING, UNFIT, Tally


def test_a_part_told_again_counts_once() -> None:
    tally = Tally()
    tally.tell(0, {"ok": 4}, False)
    tally.tell(1, {"ok": 1, "fetch_failed": 1}, False)
    tally.tell(0, {"ok": 7, "model_crash": 1}, False)
    assert tally.look()["counts"] == {"ok": 8, "fetch_failed": 1, "model_crash": 1}
    tally.tell(0, {"ok": 2}, False)  # its worker died, and another began it again
    assert tally.look()["counts"] == {"ok": 3, "fetch_failed": 1}
    tally.tell(0, {"ok": 8}, True)
    assert tally.look()["counts"] == {"ok": 9, "fetch_failed": 1} and list(tally.open) == [1]
    tally.begin(1, 1)
    tally.tell(1, {"ok": 2}, True)  # in another pass
    assert tally.look()["counts"] == {"ok": 10}


def test_a_part_is_held_until_nobody_else_has_any() -> None:
    tally = Tally()
    tally.begin(parts=4, workers=2)
    tally.enter("a", "n1", UNFIT, "no device")
    tally.enter("b", "n2", FIT)
    assert not tally.hands_back(0) and not tally.hands_back(1)
    tally.tell(2, {"ok": 3}, True)
    assert not tally.hands_back(0)
    tally.tell(3, {"ok": 3}, True)
    assert tally.hands_back(0) and tally.hands_back(1)
    assert tally.fit_nodes() == [("n2", 1)] and tally.look()["stuck"] is None


def test_a_part_is_held_for_a_worker_that_still_loads() -> None:
    tally = Tally()
    tally.begin(parts=1, workers=2)
    tally.enter("a", "n1", UNFIT, "no device")
    assert not tally.hands_back(0), "the other one has not even come"
    tally.enter("b", "n2", LOADING)
    assert not tally.hands_back(0)
    tally.enter("b", "n2", FIT)
    assert tally.hands_back(0)


def test_a_long_silence_ends_the_holding(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    tally.begin(parts=3, workers=2)
    tally.enter("a", "n1", UNFIT, "no device")
    tally.enter("b", "n2", FIT)
    monkeypatch.setattr(module, "HOLD_S", 0.0)
    assert tally.hands_back(0)


STATES = [  # expected workers, those that have come, whether the run is stuck
    (1, [UNFIT], True),
    (2, [UNFIT, UNFIT], True),
    (2, [UNFIT, FIT], False),
    (2, [UNFIT, LOADING], False),
    (2, [UNFIT], False),
    (1, [LOADING], False),
    (1, [FIT], False),
    (1, [], False),
]


@pytest.mark.parametrize(("expected", "states", "stuck"), STATES)
def test_a_run_is_stuck_when_nobody_is_left_who_can_work(expected: int, states: list[str], stuck: bool) -> None:
    tally = Tally()
    tally.begin(5, expected)
    for number, state in enumerate(states):
        tally.enter(str(number), "n", state, "no device" if state == UNFIT else "")
    seen = tally.look()
    assert (seen["stuck"] == "no device") is stuck and len(seen["unfit"]) == states.count(UNFIT)


def test_workers_that_do_not_come_are_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    tally.begin(5, 2)
    tally.enter("a", "n", UNFIT, "no device")
    assert tally.look()["stuck"] is None
    monkeypatch.setattr(module, "GRACE_S", -1.0)
    assert tally.look()["stuck"] == "no device"


def test_a_worker_that_can_work_again_counts_as_such() -> None:
    tally = Tally()
    tally.begin(5, 1)
    tally.enter("a", "n", UNFIT, "no device")
    tally.enter("a", "n", FIT)
    assert tally.look() == {"counts": {}, "unfit": {}, "stuck": None} and tally.fit_nodes() == [("n", 1)]
