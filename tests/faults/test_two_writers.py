"""Two drivers of the same output, stopped and woken at random, with clocks that disagree: each name is committed once."""

from pathlib import Path

import pytest

from tests.faults.delivery_runs import DeliveryRuns, findings


@pytest.mark.parametrize("seed", range(6))
def test_two_drivers_never_commit_a_name_twice(runs: DeliveryRuns, folder: Path, seed: int) -> None:
    assert runs.run(folder, "", "", seed=seed, pause_s=0.001, clocks=(0, (-3600, 3600)[seed % 2])) == [0, 0]
    assert findings(folder) == []


@pytest.mark.parametrize("point", ["commit.before_create:3", "commit.after_create:2", "journal.after_sync:4", "recover.delete:1"])
def test_one_of_two_drivers_is_killed(runs: DeliveryRuns, folder: Path, point: str) -> None:
    killed, lived = runs.run(folder, point, "", seed=1)
    assert killed in (0, -9) and lived == 0
    assert runs.run(folder) == [0]
    assert findings(folder) == []


@pytest.mark.parametrize("seed", range(3))
def test_two_drivers_try_failed_rows_again(runs: DeliveryRuns, folder: Path, seed: int) -> None:
    """One of them may be refused, as the other has completed the folder; what counts is what is left."""
    assert runs.run(folder) == [0]
    assert set(runs.run(folder, "", "", seed=seed, again=True)) <= {0, 1}
    assert runs.run(folder, again=True) == [0]
    assert findings(folder, again=True) == []
