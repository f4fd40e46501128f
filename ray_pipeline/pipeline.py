"""The run on one screen: manifest -> parts -> fetch -> decode -> perceive -> commit, spread by Ray Data.

Ray Data reads the manifest one part per read task and hands each part to a fixed pool of workers. Only ids, addresses and
questions pass through the object store; pixels stay on the machine that decodes them, and results go from there to the
output folder. What comes back is one small row of counts per part; a tally follows the rows in between.
"""

import json
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.exceptions import RayError
from ray.util.metrics import Counter
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.intake.manifest import Manifest, read_rows
from ray_pipeline.trial import Trial, try_out
from ray_pipeline.worker import FURTHER, PartOutcome, Worker, WorkOrder, told
from schemas.manifest import ManifestRow, Part

# Workers outlive what kills the model; a part that took so many of them along is given up and reported. Each try goes on
# from the journal, and a row needs at most log2(batch) + 4 of them to be found and set aside.
TRIES_PER_PART = 20
OPEN_PARTS = 2
LOOK_EVERY_S = 1.0
_NOTHING = object()
Follow = Callable[[Mapping[str, int]], None]  # rows that have ended in this run so far, by status, and `FURTHER` pages


class RunBroken(RuntimeError):
    """Ray ended the run: no model process could start, or the cluster went away. What is committed stays."""


def run_parts(manifest: Manifest, parts: list[Part], order: WorkOrder, follow: Follow) -> Iterator[PartOutcome]:
    """Work on all parts and yield what became of each, as they finish. A part that never comes back is not yielded.

    `follow` is called about once a second with the rows that have ended, those of open parts included.

    Raises:
        RunBroken: Ray gave up on the whole run, or no row ended for `run.idle_timeout_s`; one line says why.
    """
    _use_safe_context()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # it lives as long as the driver
    tally = ray.remote(_Tally).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
    yield from _watched(_dataset(manifest, parts, order, tally), tally, follow, order.settings.run.idle_timeout_s)


def run_trials(order: WorkOrder, samples: Sequence[list[list[ManifestRow]]]) -> list[Trial]:
    """One worker per sample, side by side, each with the resources that a worker of the run has.

    Raises:
        RunBroken: a worker could not start, or a block could not be worked on; one line says why.
    """
    settings = order.settings.run
    task = ray.remote(try_out).options(num_cpus=0.01, num_gpus=settings.gpus_per_actor, max_retries=0)
    started = [task.remote(order, blocks) for blocks in samples]
    try:
        trials: list[Trial] = ray.get(started, timeout=settings.load_timeout_s + settings.idle_timeout_s)
    except RayError as error:
        raise RunBroken(_last_line(error)) from error
    return trials


def _dataset(manifest: Manifest, parts: list[Part], order: WorkOrder, tally: Any) -> Dataset:
    settings = order.settings.run
    # Less than one CPU each, so that there is room for both on a node that has one; more than none, so that a head
    # without CPUs gets no work.
    source = ray.data.read_datasource(_ManifestSource(manifest, parts), override_num_blocks=len(parts), num_cpus=0.5)
    with warnings.catch_warnings():
        # Without these two a part that kills its worker is tried for ever; Ray offers no named parameters for them yet.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        dataset: Dataset = source.map_batches(
            _PartWorker,
            fn_constructor_args=(order, tally),
            batch_size=1,  # a part
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=_workers(min(settings.actors, len(parts))),
            num_cpus=0 if settings.gpus_per_actor else 0.01,  # with the default of 1, workers can starve the read tasks for ever
            num_gpus=settings.gpus_per_actor,
            max_restarts=-1,  # the pool must not run dry; what bounds repetition is the next line
            max_task_retries=TRIES_PER_PART - 1,
        )
    return dataset


def _workers(count: int) -> ActorPoolStrategy:
    """Each with two parts open: while one waits for its last slow files, the other keeps the model at work."""
    return ActorPoolStrategy(
        size=count,
        max_tasks_in_flight_per_actor=OPEN_PARTS,
        max_concurrent_calls_per_actor=OPEN_PARTS,
        enable_true_multi_threading=True,
    )


def _watched(dataset: Dataset, tally: Any, follow: Follow, idle_timeout_s: float) -> Iterator[PartOutcome]:
    """Outcomes as Ray delivers them, while rows are counted and a standstill is noticed."""
    arrivals: queue.SimpleQueue[PartOutcome | BaseException | object | None] = queue.SimpleQueue()
    threading.Thread(target=_deliver, args=(dataset, arrivals), name="outcomes", daemon=True).start()
    known: Mapping[str, int] = {}
    changed_s = looked_s = time.monotonic()
    while True:
        try:
            arrived = arrivals.get(timeout=LOOK_EVERY_S)
        except queue.Empty:
            arrived = _NOTHING
        if time.monotonic() - looked_s >= LOOK_EVERY_S or arrived is None:
            looked_s, counts = time.monotonic(), _counts(tally, known)
            if counts != known:
                known, changed_s = counts, looked_s
            follow(known)
        if arrived is None:
            return
        if isinstance(arrived, RayError):
            raise RunBroken(_last_line(arrived)) from arrived
        if isinstance(arrived, BaseException):
            raise arrived
        if isinstance(arrived, PartOutcome):
            changed_s = time.monotonic()
            yield arrived
        elif time.monotonic() - changed_s > idle_timeout_s:
            raise RunBroken(f"no row has ended for {idle_timeout_s:g} s (run.idle_timeout_s); is there room on the cluster?")


def _deliver(dataset: Dataset, arrivals: "queue.SimpleQueue[Any]") -> None:
    """Put what Ray says on the queue; None at the end. In a thread, as Ray's iterator waits without a limit."""
    try:
        for row in dataset.iter_rows():
            arrivals.put(PartOutcome(**json.loads(row["outcome"])))
        arrivals.put(None)
    except BaseException as error:  # raised again where somebody listens
        arrivals.put(error)


class _Tally:
    """Rows that have ended, by status, told by all workers. A worker that takes over a part tells its counts anew."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.open: dict[int, dict[str, int]] = {}

    def tell(self, part: int, statuses: dict[str, int], closed: bool) -> None:
        before = self.open.pop(part, {})
        for status in statuses.keys() | before.keys():
            self.totals[status] = self.totals.get(status, 0) + statuses.get(status, 0) - before.get(status, 0)
        if not closed:
            self.open[part] = statuses

    def counts(self) -> dict[str, int]:
        return {status: rows for status, rows in self.totals.items() if rows}


def _counts(tally: Any, known: Mapping[str, int]) -> Mapping[str, int]:
    """The tally's counts, or those known where its node has just gone."""
    try:
        counts: dict[str, int] = ray.get(tally.counts.remote(), timeout=5.0)
    except RayError:
        return known
    return counts


def _last_line(error: BaseException) -> str:
    """What Ray's many lines of remote traceback end with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(f"{type(error).__name__}: {lines[-1] if lines else ''}")


def _use_safe_context() -> None:
    context = DataContext.get_current()
    context.max_errored_blocks = -1  # a lost part is found by the audit; it must not end the others
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_operator_progress_bars = False


class _ManifestSource(Datasource):
    """Read tasks of one part each, through the manifest's own checks."""

    def __init__(self, manifest: Manifest, parts: list[Part]) -> None:
        super().__init__()
        self.manifest, self.parts = manifest, parts

    def get_name(self) -> str:
        return "Manifest"

    def estimate_inmemory_data_size(self) -> int:
        return 512 * sum(part.rows for part in self.parts)

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None) -> list[ReadTask]:
        return [self._task(part) for part in self.parts]

    def _task(self, part: Part) -> ReadTask:
        manifest = self.manifest

        def read() -> Iterable[pa.Table]:
            yield part_table(part, read_rows(manifest, part.first_row, part.rows))

        metadata = BlockMetadata(num_rows=1, size_bytes=512 * part.rows, exec_stats=None, input_files=None)
        return ReadTask(read, metadata)


def part_table(part: Part, rows: list[ManifestRow]) -> pa.Table:
    """A part as one row, so that no regrouping of blocks can ever split it or join it with another."""
    payload = [
        {
            "number": row.number,
            "id": row.id,
            "image_uri": row.image_uri,
            "page": row.page,
            "question": row.question,
            "phrases": row.phrases,
        }
        for row in rows
    ]
    extra = pa.Table.from_pylist([row.extra for row in rows]) if rows and rows[0].extra else None
    return pa.table(
        {
            "part": pa.array([part.number], pa.int64()),
            "first_row": pa.array([part.first_row], pa.int64()),
            "rows": pa.array([json.dumps(payload)], pa.string()),
            "extra": pa.array([None if extra is None else _ipc(extra)], pa.large_binary()),
        }
    )


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def table_part(table: pa.Table) -> list[tuple[Part, list[ManifestRow]]]:
    """The inverse of `part_table`, for as many parts as the table holds."""
    parts = []
    for line in table.to_pylist():
        extras = pa.ipc.open_stream(line["extra"]).read_all().to_pylist() if line["extra"] else None
        payload = json.loads(line["rows"])
        rows = [_table_row(row, extras[k] if extras else {}) for k, row in enumerate(payload)]
        parts.append((Part(line["part"], line["first_row"], len(rows)), rows))
    return parts


def _table_row(row: dict[str, Any], extra: dict[str, Any]) -> ManifestRow:
    phrases = row.pop("phrases")
    return ManifestRow(**row, extra=extra, phrases=None if phrases is None else tuple(phrases))


class _PartWorker:
    """Ray Data's view of a worker: tables of parts in, tables of outcomes out, counters for Prometheus beside them."""

    def __init__(self, order: WorkOrder, tally: Any) -> None:
        self.tally = tally
        self.rows = Counter("fovea_rows", "Rows that have ended", tag_keys=("status",))
        self.seconds = Counter("fovea_stage_seconds", "Time spent", tag_keys=("stage",))
        self.starts = Counter("fovea_model_starts", "Model processes started, those after a death included")
        self.known: dict[int, dict[str, int]] = {}
        self.worker = Worker(order, self._tell)
        _add(self.starts, self.worker.model.starts)

    def __call__(self, table: pa.Table) -> pa.Table:
        outcomes = [self._run(part, rows) for part, rows in table_part(table)]
        return pa.table({"outcome": [json.dumps(outcome.__dict__) for outcome in outcomes]})

    def _run(self, part: Part, rows: list[ManifestRow]) -> PartOutcome:
        outcome = self.worker.run(part, rows)
        self.known.pop(part.number, None)
        self.tally.tell.remote(part.number, told(outcome.statuses, outcome.rows - len(rows)), True)
        stages = {"waiting": outcome.waiting_seconds, "model": outcome.model_seconds, "journal": outcome.journal_seconds}
        for stage, seconds in (stages | {"commit": outcome.commit_seconds, "all": outcome.seconds}).items():
            _add(self.seconds, seconds, stage=stage)
        _add(self.starts, outcome.starts)
        return outcome

    def _tell(self, part: int, statuses: Mapping[str, int]) -> None:
        self.tally.tell.remote(part, dict(statuses), False)
        ended = {status: rows for status, rows in statuses.items() if status != FURTHER}
        before = self.known.get(part, {})
        self.known[part] = ended
        for status, rows in ended.items():
            _add(self.rows, rows - before.get(status, 0), status=status)


def _add(counter: Counter, value: float, **tags: str) -> None:
    """Ray's counters refuse zero."""
    if value > 0:
        counter.inc(value, tags=tags)
