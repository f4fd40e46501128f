"""What the driver sees while workers work: rows counted once, a standstill noticed, Ray's words passed on."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pytest
from ray.exceptions import RayError

import ray_pipeline.pipeline as pipeline
from jobs.run import TooManyErrors, _refuse_errors
from ray_pipeline.worker import FURTHER, PartOutcome, WorkOrder
from schemas.job import JobSettings
from schemas.manifest import Part


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
    dataset: Any, counts: Mapping[str, int], monkeypatch: pytest.MonkeyPatch, idle_s: float, **shown: Any
) -> tuple[list[Any], list[Any]]:
    """Outcomes, and what was followed or warned of."""
    seen = {"counts": counts, "unfit": {}, "stuck": None} | shown
    monkeypatch.setattr(pipeline, "_look", lambda tally, before: seen)
    followed: list[Mapping[str, int] | str] = []
    return list(pipeline._watched(dataset, None, followed.append, idle_s, followed.append)), followed


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


def test_a_run_that_nobody_can_do_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for_ever = threading.Event()
    with pytest.raises(pipeline.RunBroken, match="^no worker can work: no device$"):
        watched(Given(OUTCOMES, for_ever), {}, monkeypatch, 60.0, unfit={"a": "no device"}, stuck="no device")
    for_ever.set()


def test_each_worker_that_cannot_work_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pause = threading.Event()
    threading.Timer(0.2, pause.set).start()
    _, followed = watched(Given(OUTCOMES, pause), {}, monkeypatch, 60.0, unfit={"a": "no device", "b": "too old"})
    warned = [line for line in followed if isinstance(line, str)]
    assert sorted(warned) == ["a worker cannot work: no device", "a worker cannot work: too old"] and len(followed) > 4


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Runs parts 0 to 3 with the outcomes given for each pass; what was yielded, and the teams and parts of the passes."""

    def run(given: list[list[PartOutcome]], fit: list[list[tuple[str, int]]]) -> list[Any]:
        met: list[Any] = []
        waiting, nodes = list(given), list(fit)
        calls = type("Call", (), {"begin": Remote(lambda *_: None), "fit_nodes": Remote(lambda: nodes.pop(0))})()
        actor = type("Class", (), {"options": lambda *_, **__: actor, "remote": lambda *_: calls})()
        facts = type("Facts", (), {"get_node_id": lambda _: "0" * 56})()
        monkeypatch.setattr(pipeline.ray, "remote", lambda _: actor)
        monkeypatch.setattr(pipeline.ray, "get", lambda value: value)
        monkeypatch.setattr(pipeline.ray, "get_runtime_context", lambda: facts)
        monkeypatch.setattr(pipeline, "_use_safe_context", lambda: None)
        monkeypatch.setattr(
            pipeline, "_dataset", lambda _, parts, *__: met.append(([part.number for part in parts], __[-1].workers, __[-1].node))
        )
        monkeypatch.setattr(pipeline, "_watched", lambda *_: iter(waiting.pop(0)))
        settings = JobSettings.model_validate({"manifest": "m", "output": "o", "run": {"actors": 3}})
        order = WorkOrder(settings, "", False, pa.schema([]))
        parts = [Part(number, 2 * number, 2) for number in range(4)]
        met += list(pipeline.run_parts(None, parts, order, lambda _: None))
        return met

    return run


class Remote:
    """What a method of a Ray actor looks like from outside."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


def done(part: int) -> PartOutcome:
    return PartOutcome(part, 2, {"ok": 2}, True)


def unfit(part: int) -> PartOutcome:
    return PartOutcome(part, 2, failure="no device", unfit=True)


def test_parts_of_unfit_workers_are_done_where_workers_are_fit(passes: Callable[..., list[Any]]) -> None:
    first, second = [done(2), done(0), unfit(1), unfit(3)], [done(1), done(3)]
    met = passes([first, second], [[("far", 1), ("near", 1)]])
    assert met == [([0, 1, 2, 3], 3, None), ([1, 3], 1, "far"), *first, *second]
    none_at_first = [unfit(part) for part in range(4)]  # handed back before the other worker had loaded
    met = passes([none_at_first, [done(part) for part in range(4)]], [[("far", 2)]])
    assert met[1] == ([0, 1, 2, 3], 2, "far")


@pytest.mark.parametrize(
    ("given", "fit"),
    [
        ([[unfit(part) for part in range(4)]], [[]]),
        ([[done(0), done(1), done(2), unfit(3)], [unfit(3)]], [[("far", 2)], [("far", 2)]]),
    ],
)
def test_a_pass_that_ends_nothing_is_the_last(
    given: list[list[PartOutcome]], fit: list[list[tuple[str, int]]], passes: Callable[..., list[Any]]
) -> None:
    with pytest.raises(pipeline.RunBroken, match="^no worker can work: no device$"):
        passes(given, fit)


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
