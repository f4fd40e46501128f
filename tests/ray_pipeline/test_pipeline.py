"""What the driver sees while workers work: rows counted once, a standstill noticed, Ray's words passed on."""

import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from ray.exceptions import RayError

import ray_pipeline.pipeline as pipeline
from jobs.run import TooManyErrors, _refuse_errors
from ray_pipeline.worker import FURTHER, PartOutcome
from schemas.job import JobSettings


def test_a_part_told_again_counts_once() -> None:
    tally = pipeline._Tally()
    tally.tell(0, {"ok": 4}, False)
    tally.tell(1, {"ok": 1, "fetch_failed": 1}, False)
    tally.tell(0, {"ok": 7, "model_crash": 1}, False)
    assert tally.counts() == {"ok": 8, "fetch_failed": 1, "model_crash": 1}
    tally.tell(0, {"ok": 2}, False)  # its worker died, and another began it again
    assert tally.counts() == {"ok": 3, "fetch_failed": 1}
    tally.tell(0, {"ok": 8}, True)
    assert tally.counts() == {"ok": 9, "fetch_failed": 1} and list(tally.open) == [1]


class Given:
    """A dataset that yields outcomes, then does what it is told."""

    def __init__(self, outcomes: list[PartOutcome], then: BaseException | threading.Event | None = None) -> None:
        self.outcomes, self.then = outcomes, then

    def iter_rows(self) -> Iterator[dict[str, str]]:
        for outcome in self.outcomes:
            yield {"outcome": json.dumps(outcome.__dict__)}
        if isinstance(self.then, threading.Event):
            self.then.wait()
        elif self.then is not None:
            raise self.then


OUTCOMES = [PartOutcome(0, 3, {"ok": 3}, True), PartOutcome(1, 2, {"ok": 1, "skipped": 1}, True)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LOOK_EVERY_S", 0.01)


def watched(
    dataset: Any, counts: Mapping[str, int], monkeypatch: pytest.MonkeyPatch, idle_s: float
) -> tuple[list[Any], list[Any]]:
    """Outcomes and what was followed."""
    monkeypatch.setattr(pipeline, "_counts", lambda tally, known: counts)
    followed: list[Mapping[str, int]] = []
    return list(pipeline._watched(dataset, None, followed.append, idle_s)), followed


def test_all_outcomes_arrive_and_the_last_counts_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, followed = watched(Given(OUTCOMES), {"ok": 4, "skipped": 1}, monkeypatch, 60.0)
    assert outcomes == OUTCOMES and followed[-1] == {"ok": 4, "skipped": 1}


def test_a_standstill_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for_ever = threading.Event()
    with pytest.raises(pipeline.RunBroken, match="no row has ended for 0.05 s"):
        watched(Given(OUTCOMES, for_ever), {"ok": 4}, monkeypatch, 0.05)
    for_ever.set()


def test_what_ray_says_last_is_passed_on_and_the_rest_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pipeline.RunBroken, match=r"^RayError: the cluster went away$"):
        watched(Given([], RayError("Traceback\n  lines\nthe cluster went away")), {}, monkeypatch, 60.0)
    with pytest.raises(ZeroDivisionError):
        watched(Given([], ZeroDivisionError()), {}, monkeypatch, 60.0)


SHARES = [  # task, failed of 200 rows, limit, whether the run goes on
    ("answer", 0, 0.0, True),
    ("answer", 1, 0.0, False),
    ("answer", 20, 0.1, True),
    ("answer", 21, 0.1, False),
    ("answer", 200, 1.0, True),
    ("ocr", 0, 0.0, True),
    ("ocr", 1, 0.0, False),
    ("ocr", 100, 0.1, True),  # each row may be a document of 5 pages
    ("ocr", 101, 0.1, False),
]


@pytest.mark.parametrize(("task", "failed", "share", "goes_on"), SHARES)
def test_a_run_that_can_only_end_over_its_limit_is_stopped(task: str, failed: int, share: float, goes_on: bool) -> None:
    chosen = {"task": task, "run": {"max_error_share": share}, "fetch": {"max_pages": 5}}

    class Facts:
        settings = JobSettings.model_validate({"manifest": "m", "output": "o"} | chosen)
        manifest = type("M", (), {"rows": 200})

    counts = {"ok": 30, "fetch_failed": failed, FURTHER: 700}
    if goes_on:
        _refuse_errors(Facts, counts)  # type: ignore[arg-type]
        return
    with pytest.raises(TooManyErrors, match=f"{failed} of {200 if task == 'answer' else 1000} rows have failed"):
        _refuse_errors(Facts, counts)  # type: ignore[arg-type]
