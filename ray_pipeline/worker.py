"""One part of the manifest from rows to committed file, inside one model process.

Pictures are fetched and decoded ahead by a few threads, each with its own decoding child process; batches are fixed
slices of the part, so that what shares a batch does not depend on timing. Whatever happens to a row becomes its result
row; whatever happens to the whole part comes back as a value, since an exception here would end or repeat others' work.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from ray_pipeline.actor import Actor, Asked, Load
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.formats.parquet import results_bytes, results_rows
from ray_pipeline.delivery.rows import PictureFacts, failed_row, ok_row
from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.decode import Decoder
from ray_pipeline.intake.fetch import Fetcher
from ray_pipeline.models.families import load_family
from ray_pipeline.perceiver import Seen
from schemas.job import JobSettings
from schemas.manifest import ManifestRow, Part
from schemas.picture import Picture
from schemas.status import RETRYABLE, RowFailure, Status


@dataclass(frozen=True)
class WorkOrder:
    """Everything a worker needs to know about the run; travels to the model processes once."""

    settings: JobSettings
    manifest_base: str
    manifest_remote: bool
    passthrough: pa.Schema
    retry_failed: bool = False
    load: Load = load_family


@dataclass
class PartOutcome:
    """What became of a part. `failure` is set where it could not be committed; rows are then not accounted for."""

    part: int
    rows: int
    statuses: dict[str, int] = field(default_factory=dict)
    committed: bool = False
    failure: str | None = None
    seconds: float = 0.0
    model_seconds: float = 0.0
    waiting_seconds: float = 0.0


Loaded = tuple[ManifestRow, Picture | RowFailure]


class Worker:
    """A model with its own intake and its own way to the output folder."""

    def __init__(self, order: WorkOrder) -> None:
        settings = order.settings
        self.order = order
        self.actor = Actor(settings, order.load)
        self.output = Output(settings.output)
        policy = AddressPolicy.from_settings(settings.fetch, order.manifest_base, order.manifest_remote)
        self.fetcher = Fetcher(settings.fetch, policy)
        self.local = threading.local()
        self.pool = ThreadPoolExecutor(settings.fetch.concurrency, thread_name_prefix="intake")

    def run(self, part: Part, rows: list[ManifestRow]) -> PartOutcome:
        """Answer and commit one part; never raises."""
        outcome, started = PartOutcome(part.number, len(rows)), time.monotonic()
        try:
            self._run(part, rows, outcome)
        except Exception as error:
            outcome.failure = f"{type(error).__name__}: {error}"
        outcome.seconds = time.monotonic() - started
        return outcome

    def _run(self, part: Part, rows: list[ManifestRow], outcome: PartOutcome) -> None:
        name = f"results/{part.name}"
        kept = self._kept(name) if self.order.retry_failed else {}
        done: list[dict[str, object]] = []
        for batch in self._batches([row for row in rows if row.id not in kept], outcome):
            started = time.monotonic()
            done += self._answer(batch)
            outcome.model_seconds += time.monotonic() - started
        new = {str(row["id"]): row for row in done}
        done = [kept.get(row.id) or new[row.id] for row in rows]
        for row in done:
            status = str(row["status"])
            outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
        data = results_bytes(done, self.order.passthrough)
        created = self.output.create(name, data)  # False: another worker committed the same rows; theirs stands
        if not created and self.order.retry_failed:
            self.output.supersede(name, data)
        outcome.committed = True

    def _kept(self, name: str) -> dict[str, dict[str, object]]:
        """Rows of a committed part whose end is final, by id; none where the part is not committed yet."""
        if not self.output.exists(name):
            return {}
        return {str(row["id"]): row for row in results_rows(self.output.read(name)) if Status(row["status"]) not in RETRYABLE}

    def _batches(self, rows: list[ManifestRow], outcome: PartOutcome) -> Iterator[list[Loaded]]:
        """Fixed slices of the part in manifest order, loaded at most two batches ahead."""
        size = self.order.settings.run.batch
        slices = [rows[start : start + size] for start in range(0, len(rows), size)]
        ahead: list[list[Future[Loaded]]] = []
        for number in range(len(slices)):
            while len(ahead) < 2 and number + len(ahead) < len(slices):
                ahead.append([self.pool.submit(self._load, row) for row in slices[number + len(ahead)]])
            started = time.monotonic()
            batch = [future.result() for future in ahead.pop(0)]
            outcome.waiting_seconds += time.monotonic() - started
            yield batch

    def _load(self, row: ManifestRow) -> Loaded:
        if not (row.question or "").strip():
            return row, RowFailure(Status.SKIPPED, f"question is {row.question!r}; expected a text")
        stage = Status.FETCH_FAILED
        try:
            data = self.fetcher.fetch(row.image_uri)
            stage = Status.DECODE_CRASH
            return row, self._decoder().decode(data, row.page)
        except RowFailure as failure:
            return row, failure
        except Exception as error:
            return row, RowFailure(stage, f"{type(error).__name__}: {error}")

    def _decoder(self) -> Decoder:
        decoder: Decoder | None = getattr(self.local, "decoder", None)
        if decoder is None:
            decoder = self.local.decoder = Decoder(self.order.settings.fetch)
        return decoder

    def _answer(self, batch: list[Loaded]) -> list[dict[str, object]]:
        asked = {k: Asked(got, row.question or "") for k, (row, got) in enumerate(batch) if isinstance(got, Picture)}
        ended = self.actor.answer(asked)
        return [self._result(row, got, ended.get(k)) for k, (row, got) in enumerate(batch)]

    @staticmethod
    def _result(row: ManifestRow, got: Picture | RowFailure, ended: Seen | RowFailure | None) -> dict[str, object]:
        if isinstance(got, RowFailure):
            return failed_row(row, got, None)
        facts = PictureFacts(got.width, got.height, got.sha256)
        if isinstance(ended, Seen):
            return ok_row(row, facts, ended.perception)
        missing = RowFailure(Status.MODEL_CRASH, "the model process gave no answer for this row")
        return failed_row(row, ended or missing, facts)
