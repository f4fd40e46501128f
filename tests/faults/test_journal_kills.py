"""Kills at every named point and at random moments, also while a run recovers: each row once, nothing partial, little lost."""

import itertools
import json
import os
import random
import threading
from pathlib import Path

import pytest

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.fail_points import NAMES
from tests.faults.delivery_runs import BATCH, FAILING, ROWS, DeliveryRuns, findings, recomputed, watch

KILLED = -9
RECORDS = 16  # of a whole run: two per batch
RETRIED = len(FAILING)
HITS = {"stage": (1, 3, 5), "commit": (1, 3, 5), "journal": (1, 7, RECORDS), "index": (1,), "recover": (1,)}
SWEEP = [f"{name}:{hit}" for name in NAMES for hit in HITS.get(name.partition(".")[0], ())]
AGAIN = [
    "recover.scan:1",
    "recover.delete:1",
    "journal.before_write:2",
    "journal.middle:1",
    "commit.after_create:2",
    "index.before:1",
]


@pytest.mark.parametrize("point", SWEEP)
def test_a_kill_at_any_point_loses_a_batch_at_most(runs: DeliveryRuns, folder: Path, point: str) -> None:
    assert runs.run(folder, point) == [KILLED]
    assert runs.run(folder) == [0]
    assert findings(folder) == []
    assert recomputed(folder) <= BATCH


def killed_twice(runs: DeliveryRuns, folder: Path, first: str, second: str) -> None:
    kills = [runs.run(folder, first), runs.run(folder, second)].count([KILLED])
    assert runs.run(folder) == [0]
    assert findings(folder) == []
    assert recomputed(folder) <= BATCH * kills


@pytest.mark.parametrize(("first", "second"), list(zip(SWEEP[1::3], itertools.cycle(AGAIN), strict=False)))
def test_a_second_kill_while_recovering_does_no_more_harm(runs: DeliveryRuns, folder: Path, first: str, second: str) -> None:
    killed_twice(runs, folder, first, second)


@pytest.mark.slow
@pytest.mark.parametrize("second", AGAIN)
def test_any_point_after_any_point(runs: DeliveryRuns, folder: Path, second: str) -> None:
    for first in SWEEP:
        killed_twice(runs, folder / first, first, second)


RETRY_HITS = {"stage": (1, 3), "journal": (1, 5), "supersede": (1, 2, 3), "recover": (1, 2), "index": (1,)}
RETRY_SWEEP = [f"{name}:{hit}" for name in NAMES for hit in RETRY_HITS.get(name.partition(".")[0], ())]


@pytest.mark.parametrize("point", RETRY_SWEEP)
def test_a_kill_while_failed_rows_are_tried_again(runs: DeliveryRuns, folder: Path, point: str) -> None:
    assert runs.run(folder) == [0]
    first = Output(str(folder / "out")).read("index.json")
    assert json.loads(first)["statuses"] == {"fetch_timeout": RETRIED, "ok": ROWS - RETRIED}
    assert runs.run(folder, point, again=True) == [KILLED]
    assert runs.run(folder, again=True) == [0]
    assert findings(folder, again=True) == []
    assert json.loads(Output(str(folder / "out")).read("index.json"))["statuses"] == {"ok": ROWS}
    assert recomputed(folder) <= RETRIED + BATCH


def test_each_row_once_and_nothing_partial_under_random_kills(runs: DeliveryRuns, folder: Path) -> None:
    chance, stop = random.Random(3), folder / "stop"
    for trial in range(6):
        place, seen = folder / str(trial), list[str]()
        (place / "out").mkdir(parents=True)
        reader = threading.Thread(target=lambda place=place, seen=seen: seen.extend(watch(place, stop)))
        reader.start()
        try:
            kills = [runs.run(place, kill_s=chance.uniform(0, 0.1), pause_s=0.001) for _ in range(4)].count([KILLED])
            assert runs.run(place) == [0]
        finally:
            stop.touch()
            reader.join()
            stop.unlink()
        assert findings(place) == []
        assert [line for line in seen if not line.startswith("looked")] == []
        assert recomputed(place) <= BATCH * kills


def test_a_finished_run_does_nothing_again(runs: DeliveryRuns, folder: Path) -> None:
    assert runs.run(folder) == [0] and recomputed(folder) == 0
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*") if path.is_file()}
    assert runs.run(folder) == [0] and recomputed(folder) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*") if path.is_file()} == before
    assert sorted(os.listdir(folder / "out")) == [".journal", ".staging", "index.json", "results", "run.json"]
