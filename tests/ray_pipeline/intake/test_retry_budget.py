"""However requests and answers are mixed, retries stay below their share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.intake.retry_budget import RESERVE, SHARE, TRICKLE_PER_S, RetryBudget


def test_the_reserve_then_a_share_of_answers() -> None:
    budget = RetryBudget(0)
    assert [budget.spend(0) for _ in range(21)] == [True] * 20 + [False]
    budget.earn()
    assert not budget.spend(0)
    budget.earn()
    assert (budget.spend(0), budget.spend(0)) == (True, False)


@pytest.mark.parametrize(("seconds", "allowed"), [(0.9, 0), (1, 1), (3.5, 3), (1000, 20)])
def test_time_fills_it_slowly(seconds: float, allowed: int) -> None:
    budget = RetryBudget(0)
    while budget.spend(0):
        pass
    assert sum(budget.spend(seconds) for _ in range(30)) == allowed


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=200))
def test_the_bound(events: list[tuple[bool, float]]) -> None:
    budget, now_s, earned, spent = RetryBudget(0), 0.0, 0, 0
    for answered, pause_s in events:
        now_s += pause_s
        if answered:
            budget.earn()
            earned += 1
        else:
            spent += budget.spend(now_s)
    assert spent <= RESERVE + SHARE * earned + TRICKLE_PER_S * now_s + 1e-6
