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
from dataclasses import dataclass
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
from ray_pipeline.model_process import ModelUnavailable
from ray_pipeline.tally import FIT, LOADING, UNFIT, Tally
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
Warn = Callable[[str], None]  # one line about a worker that cannot work; once for each


class RunBroken(RuntimeError):
    """The run cannot go on: no worker can work, no row ends, or the cluster went away. What is committed stays."""


@dataclass(frozen=True)
class _Team:
    """Workers of one pass over the parts that are left; on one node, where only such nodes are known to be fit."""

    workers: int
    node: str | None = None


def warn_nobody(line: str) -> None:
    """For runs whose workers nobody watches."""


def run_parts(
    manifest: Manifest, parts: list[Part], order: WorkOrder, follow: Follow, warn: Warn = warn_nobody
) -> Iterator[PartOutcome]:
    """Work on all parts and yield what became of each, as they finish. A part that never comes back is not yielded.

    A part whose worker was unfit is yielded as such and then done by others. `follow` is called about once a second with the
    rows that have ended, those of open parts included.

    Raises:
        RunBroken: no worker can work, Ray gave up on the whole run, or no row ended for `run.idle_timeout_s`; one line says
            why.
    """
    _use_safe_context()
    tally, settings, team = _tally(), order.settings.run, _Team(min(order.settings.run.actors, len(parts)))
    while parts:
        tally.begin.remote(len(parts), team.workers)
        back: dict[int, str | None] = {}
        done = 0
        for outcome in _watched(_dataset(manifest, parts, order, tally, team), tally, follow, settings.idle_timeout_s, warn):
            if outcome.unfit:
                back[outcome.part] = outcome.failure
            done += not outcome.unfit
            yield outcome
        if not back:
            return
        fit: list[tuple[str, int]] = ray.get(tally.fit_nodes.remote())
        if not fit or (team.node and not done):
            raise RunBroken(f"no worker can work: {next(iter(back.values()))}")
        parts = [part for part in parts if part.number in back]
        team = _Team(min(len(parts), fit[0][1]), fit[0][0])


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


def run_nothing(manifest: Manifest, order: WorkOrder, workers: int) -> float:
    """Seconds that Ray needs for a pass over a part a worker that loads nothing: what it costs to begin and to end one.

    Raises:
        RunBroken: Ray cannot do that; one line says why.
    """
    _use_safe_context()
    started = time.monotonic()
    first_row = [Part(number, 0, 1) for number in range(workers)]
    dataset = _dataset(manifest, first_row, order, _tally(), _Team(workers), _IdleWorker)
    try:
        for _ in dataset.iter_rows():
            pass
    except RayError as error:
        raise RunBroken(_last_line(error)) from error
    return time.monotonic() - started


def _tally() -> Any:
    """An actor that lives as long as the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(Tally).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()


def _dataset(
    manifest: Manifest, parts: list[Part], order: WorkOrder, tally: Any, team: _Team, worker: type | None = None
) -> Dataset:
    settings = order.settings.run
    # Less than one CPU each, so that there is room for both on a node that has one; more than none, so that a head
    # without CPUs gets no work.
    source = ray.data.read_datasource(_ManifestSource(manifest, parts), override_num_blocks=len(parts), num_cpus=0.5)
    with warnings.catch_warnings():
        # Without these two a part that kills its worker is tried for ever; Ray offers no named parameters for them yet.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        dataset: Dataset = source.map_batches(
            worker or _PartWorker,
            fn_constructor_args=(order, tally),
            batch_size=1,  # a part
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=_workers(team.workers),
            num_cpus=0 if settings.gpus_per_actor else 0.01,  # with the default of 1, workers can starve the read tasks for ever
            num_gpus=settings.gpus_per_actor,
            max_restarts=-1,  # the pool must not run dry; what bounds repetition is the next line
            max_task_retries=TRIES_PER_PART - 1,
            **({"scheduling_strategy": NodeAffinitySchedulingStrategy(team.node, soft=True)} if team.node else {}),
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


def _watched(dataset: Dataset, tally: Any, follow: Follow, idle_timeout_s: float, warn: Warn) -> Iterator[PartOutcome]:
    """Outcomes as Ray delivers them, while rows are counted and a standstill is noticed."""
    arrivals: queue.SimpleQueue[PartOutcome | BaseException | object | None] = queue.SimpleQueue()
    threading.Thread(target=_deliver, args=(dataset, arrivals), name="outcomes", daemon=True).start()
    known: Mapping[str, int] = {}
    seen: Mapping[str, Any] = {"counts": known, "unfit": {}, "stuck": None}
    warned: set[str] = set()
    changed_s = looked_s = time.monotonic()
    while True:
        try:
            arrived = arrivals.get(timeout=LOOK_EVERY_S)
        except queue.Empty:
            arrived = _NOTHING
        if time.monotonic() - looked_s >= LOOK_EVERY_S or arrived is None:
            looked_s, seen = time.monotonic(), _look(tally, seen)
            if seen["counts"] != known:
                known, changed_s = seen["counts"], looked_s
            follow(known)
            for worker in seen["unfit"].keys() - warned:
                warn(f"a worker cannot work: {seen['unfit'][worker]}")
            warned |= seen["unfit"].keys()
        if arrived is None:
            return
        if isinstance(arrived, RayError):
            raise RunBroken(_last_line(arrived)) from arrived
        if isinstance(arrived, BaseException):
            raise arrived
        if isinstance(arrived, PartOutcome):
            changed_s = time.monotonic()
            yield arrived
        elif seen["stuck"]:
            raise RunBroken(f"no worker can work: {seen['stuck']}")
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


def _look(tally: Any, seen: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the tally shows, or what it showed last where its node has just gone."""
    try:
        shown: dict[str, Any] = ray.get(tally.look.remote(), timeout=5.0)
    except RayError:
        return seen
    return shown


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


class _IdleWorker:
    """Takes the place of a worker where only the way there and back is looked at."""

    def __init__(self, order: WorkOrder, tally: Any) -> None:
        ray.get(tally.look.remote())

    def __call__(self, table: pa.Table) -> pa.Table:
        return pa.table({"outcome": [""] * table.num_rows})


class _PartWorker:
    """Ray Data's view of a worker: tables of parts in, tables of outcomes out, counters for Prometheus beside them."""

    def __init__(self, order: WorkOrder, tally: Any) -> None:
        self.tally, self.state = tally, ""
        self.name, self.node = ray.get_runtime_context().get_actor_id(), ray.get_runtime_context().get_node_id()
        self.rows = Counter("fovea_rows", "Rows that have ended", tag_keys=("status",))
        self.seconds = Counter("fovea_stage_seconds", "Time spent", tag_keys=("stage",))
        self.starts = Counter("fovea_model_starts", "Model processes started, those after a death included")
        self.known: dict[int, dict[str, int]] = {}
        self._enter(LOADING)
        self.worker: Worker | None = None
        self.why = ""
        try:
            self.worker = Worker(order, self._tell)
            _add(self.starts, self.worker.model.starts)
            self._enter(FIT)
        except Exception as error:  # whatever this node lacks; raised here, it would end the run for all
            self.why = one_line(str(error) if isinstance(error, ModelUnavailable) else f"{type(error).__name__}: {error}")
            self._enter(UNFIT, self.why)

    def __call__(self, table: pa.Table) -> pa.Table:
        outcomes = [self._run(part, rows) for part, rows in table_part(table)]
        return pa.table({"outcome": [json.dumps(outcome.__dict__) for outcome in outcomes]})

    def _run(self, part: Part, rows: list[ManifestRow]) -> PartOutcome:
        if self.worker is None:
            return self._held(PartOutcome(part.number, len(rows), failure=self.why, unfit=True))
        outcome = self.worker.run(part, rows)
        self.known.pop(part.number, None)
        if outcome.unfit:
            return self._held(outcome)
        if outcome.committed:
            self._enter(FIT)
        self.tally.tell.remote(part.number, told(outcome.statuses, outcome.rows - len(rows)), True)
        stages = {"waiting": outcome.waiting_seconds, "model": outcome.model_seconds, "journal": outcome.journal_seconds}
        for stage, seconds in (stages | {"commit": outcome.commit_seconds, "all": outcome.seconds}).items():
            _add(self.seconds, seconds, stage=stage)
        _add(self.starts, outcome.starts)
        return outcome

    def _enter(self, state: str, why: str = "") -> None:
        if state != self.state:
            self.state = state
            shown = f"{why} (on {ray.util.get_node_ip_address()})" if why else ""
            ray.get(self.tally.enter.remote(self.name, self.node, state, shown))

    def _held(self, outcome: PartOutcome) -> PartOutcome:
        """The part that this worker cannot do, once nobody else has anything left."""
        self._enter(UNFIT, outcome.failure or "")
        while not ray.get(self.tally.hands_back.remote(outcome.part)):
            time.sleep(LOOK_EVERY_S)
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
