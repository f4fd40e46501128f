"""Suspicion, proof, probing and giving up, told by hand-made times."""

import itertools

import pytest

from ray_pipeline.intake.outage import Outage, State


def suspected(patience_s: float = 300) -> Outage:
    outage = Outage(patience_s, draw=lambda: 1.0)
    for second in range(1, 5):
        outage.failed(second, second + 0.5)
    return outage


def test_four_failures_in_a_row_are_a_suspicion() -> None:
    outage = Outage(300)
    for second in (1, 2, 3):
        outage.failed(second, second)
        assert outage.state is State.ANSWERS
    outage.failed(4, 4)
    assert outage.state is State.SUSPECTED


def test_two_silences_are_enough() -> None:
    outage = Outage(300)
    outage.failed(0, 20, silent=True)
    assert outage.state is State.ANSWERS
    outage.failed(20, 40, silent=True)
    assert outage.state is State.SUSPECTED


def test_an_answer_starts_anew() -> None:
    outage = Outage(300)
    for second in range(20):
        outage.failed(second, second + 0.4)
        if second % 3 == 2:
            outage.answered(second + 0.5)
        assert outage.state is State.ANSWERS


def test_who_began_before_an_answer_says_nothing() -> None:
    """Ten addresses hang while the host answers others."""
    outage = Outage(300)
    outage.answered(5)
    for began_s in range(6):
        outage.failed(began_s, 20, silent=True)
    assert outage.state is State.ANSWERS


def test_the_witness_decides() -> None:
    outage = suspected()
    assert not outage.probe_due(1000)  # it is being asked
    outage.answered(5)
    assert outage.state is State.ANSWERS
    outage = suspected()
    outage.confirm(5)
    assert (outage.state, outage.shown(14.5)) == (State.OUT, "the host has been out for 10 s")


def test_a_late_witness_does_not_revive_a_suspicion() -> None:
    outage = suspected()
    outage.answered(5)
    outage.confirm(6)
    assert outage.state is State.ANSWERS


def test_probes_come_ever_more_seldom() -> None:
    outage = suspected()
    outage.confirm(10)
    times_s, now_s = [], 10.0
    for _ in range(8):
        while not outage.probe_due(now_s):
            now_s += 0.25
        times_s.append(now_s)
        outage.probing(now_s)
    gaps_s = [late - early for early, late in itertools.pairwise(times_s)]
    assert (times_s[0], gaps_s) == (10.5, [1, 2, 4, 5, 5, 5, 5])


@pytest.mark.parametrize(("asked_s", "due_s"), [(0, 10.5), (0.1, 10.5), (30, 40), (10**9, 310)])
def test_the_host_s_own_wish(asked_s: float, due_s: float) -> None:
    outage = suspected()
    outage.confirm(10, asked_s)
    assert not outage.probe_due(due_s - 0.01)
    assert outage.probe_due(due_s)


def test_given_up_and_back() -> None:
    outage = suspected(60)
    outage.confirm(10)
    assert not outage.given_up(64)
    assert outage.given_up(64.5)
    outage.answered(70)
    assert not outage.given_up(1000)


def test_without_patience_nothing_is_suspected() -> None:
    assert suspected(0).state is State.ANSWERS


def test_probes_of_many_processes_are_not_in_step() -> None:
    early, late = (Outage(300, draw) for draw in (lambda: 0.0, lambda: 1.0))
    for one in (early, late):
        for second in range(1, 5):
            one.failed(second, second)
        one.confirm(10)
    assert (early.next_probe_s, late.next_probe_s) == (10.25, 10.5)
