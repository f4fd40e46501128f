"""The run on one screen: manifest -> parts -> fetch -> decode -> perceive -> commit, spread by Ray Data.

Ray Data reads the manifest one part per read task and hands each part to a fixed pool of model processes. Only ids,
addresses and questions pass through the object store; pixels stay in the process that decodes them, and results go
from there to the output folder. What comes back is one small row of counts per part.
"""

import json
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.exceptions import RayError

from ray_pipeline.intake.manifest import Manifest, read_rows
from ray_pipeline.worker import PartOutcome, Worker, WorkOrder
from schemas.manifest import ManifestRow, Part

TRIES_PER_PART = 3  # a part whose process died so often is given up and reported, not tried for ever


class RunBroken(RuntimeError):
    """Ray ended the run: no model process could start, or the cluster went away. What is committed stays."""


def run_parts(manifest: Manifest, parts: list[Part], order: WorkOrder) -> Iterator[PartOutcome]:
    """Work on all parts and yield what became of each, as they finish. A part that never comes back is not yielded.

    Raises:
        RunBroken: Ray gave up on the whole run; one line says why.
    """
    settings = order.settings.run
    _use_safe_context()
    source = ray.data.read_datasource(_ManifestSource(manifest, parts), override_num_blocks=len(parts))
    with warnings.catch_warnings():
        # Without these two a part that kills its process is tried for ever; Ray offers no named parameters for them yet.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        dataset = source.map_batches(
            _PartWorker,
            fn_constructor_args=(order,),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            # One part at a time: what waits behind a part that kills its process would use up its own tries.
            compute=ActorPoolStrategy(size=min(settings.actors, len(parts)), max_tasks_in_flight_per_actor=1),
            num_cpus=0,  # with the default of one CPU each, actors can starve the read tasks and nothing ever starts
            num_gpus=settings.gpus_per_actor,
            max_restarts=-1,  # the pool must not run dry; what bounds repetition is the next line
            max_task_retries=TRIES_PER_PART - 1,
        )
    try:
        for row in dataset.iter_rows():
            yield PartOutcome(**json.loads(row["outcome"]))
    except RayError as error:
        raise RunBroken(_last_line(error)) from error


def _last_line(error: BaseException) -> str:
    """What Ray's many lines of remote traceback end with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:500]


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
        {"number": row.number, "id": row.id, "image_uri": row.image_uri, "page": row.page, "question": row.question}
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
        rows = [ManifestRow(**row, extra=extras[k] if extras else {}) for k, row in enumerate(payload)]
        parts.append((Part(line["part"], line["first_row"], len(rows)), rows))
    return parts


class _PartWorker:
    """Ray Data's view of a worker: tables of parts in, tables of outcomes out."""

    def __init__(self, order: WorkOrder) -> None:
        self.worker = Worker(order)

    def __call__(self, table: pa.Table) -> pa.Table:
        outcomes = [self.worker.run(part, rows) for part, rows in table_part(table)]
        return pa.table({"outcome": [json.dumps(outcome.__dict__) for outcome in outcomes]})
