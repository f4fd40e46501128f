"""One part of the manifest from rows to committed file: fetch and decode ahead, ask the model process, journal, commit.

Files are fetched ahead by many threads, pictures decoded by a few, each with a child process of its own; the model lives in
a process too. Batches are fixed slices of the part, so that what shares a batch does not depend on timing; the one whose
files are there first goes first, so that a slow file holds up its own batch alone. Finished batches are journalled: a kill
costs at most those in flight. Whatever happens to a row becomes its result row; whatever happens to the whole part comes
back as a value, since an exception here would end or repeat others' work.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ray_pipeline import events
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.delivery.formats.parquet import results_bytes, results_rows
from ray_pipeline.delivery.journal import Journal
from ray_pipeline.delivery.rows import PictureFacts, failed_row
from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.decode import Decoder
from ray_pipeline.intake.fetch import Fetcher
from ray_pipeline.isolation import History, isolated
from ray_pipeline.model_process import Answered, ModelProcess, ModelUnavailable
from schemas.floors import check_floors
from schemas.job import JobSettings
from schemas.manifest import ManifestRow, Part
from schemas.picture import Picture
from schemas.status import RETRYABLE, RowFailure, Status


@dataclass(frozen=True)
class WorkOrder:
    """Everything a worker needs to know about the run; travels to the workers once.

    `load` takes the place of the families' own loader: a function of a module that the model process can import.
    """

    settings: JobSettings
    manifest_base: str
    manifest_remote: bool
    passthrough: pa.Schema
    retry_failed: bool = False
    load: Callable[..., Any] | None = None


@dataclass
class PartOutcome:
    """What became of a part. `failure` is set where it could not be committed; rows are then not accounted for.

    `recovered` rows were there from an earlier worker; `starts` counts model processes that were started anew.
    """

    part: int
    rows: int
    statuses: dict[str, int] = field(default_factory=dict)
    committed: bool = False
    failure: str | None = None
    recovered: int = 0
    starts: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0
    waiting_seconds: float = 0.0
    journal_seconds: float = 0.0
    commit_seconds: float = 0.0


Fetched = tuple[ManifestRow, bytes | RowFailure]
Loaded = tuple[ManifestRow, Picture | RowFailure]
Row = dict[str, Any]
Tell = Callable[[int, Mapping[str, int]], None]  # part number and how many of its rows have ended so far, by status


def tell_nobody(part: int, statuses: Mapping[str, int]) -> None:
    """For workers whose progress nobody follows."""


class Worker:
    """A model process with its own intake and its own way to the output folder. Parts may be run in several threads at once.

    Raises:
        ModelUnavailable: on creation, when the model cannot be loaded.
    """

    def __init__(self, order: WorkOrder, tell: Tell = tell_nobody) -> None:
        check_floors()  # other nodes may have other versions than the driver's
        settings = order.settings
        self.order, self.tell = order, tell
        self.log = events.logger(actor="worker")
        self.output = Output(settings.output)
        policy = AddressPolicy.from_settings(settings.fetch, order.manifest_base, order.manifest_remote)
        self.fetcher = Fetcher(settings.fetch, policy)
        self.local, self.decoders = threading.local(), list[Decoder]()
        self.fetching = ThreadPoolExecutor(settings.fetch.concurrency, thread_name_prefix="fetch")
        self.decoding = ThreadPoolExecutor(settings.fetch.decoders, thread_name_prefix="decode")
        self.model, self.model_turn = ModelProcess(settings, order.load), threading.Lock()
        self.model.start()

    def run(self, part: Part, rows: list[ManifestRow]) -> PartOutcome:
        """Answer and commit one part; never raises."""
        outcome, started = PartOutcome(part.number, len(rows)), time.monotonic()
        try:
            _OpenPart(self, part, rows, outcome).work()
        except ModelUnavailable as error:
            outcome.failure = one_line(str(error))
        except Exception as error:
            outcome.failure = one_line(f"{type(error).__name__}: {error}")
        outcome.seconds = time.monotonic() - started
        log = self.log.info if outcome.committed else self.log.error
        log("part_ended", **{name: value for name, value in outcome.__dict__.items() if value is not None})
        return outcome

    def close(self) -> None:
        """End the threads and the processes. A worker that is closed is not used again."""
        self.fetcher.close()
        self.fetching.shutdown(cancel_futures=True)
        self.decoding.shutdown(cancel_futures=True)
        for decoder in self.decoders:
            decoder.close()
        self.model.end()

    def fetch(self, row: ManifestRow) -> Fetched:
        """The row's file, or why there is none."""
        if not (row.question or "").strip():
            return row, RowFailure(Status.SKIPPED, f"question is {row.question!r}; expected a text")
        try:
            return row, self.fetcher.fetch(row.image_uri)
        except RowFailure as failure:
            return row, failure
        except Exception as error:
            return row, RowFailure(Status.FETCH_FAILED, f"{type(error).__name__}: {error}")

    def decode(self, fetched: Fetched) -> Loaded:
        """The row's picture, or why there is none."""
        row, got = fetched
        if isinstance(got, RowFailure):
            return row, got
        try:
            return row, self._decoder().decode(got, row.page)
        except RowFailure as failure:
            return row, failure
        except Exception as error:
            return row, RowFailure(Status.DECODE_CRASH, f"{type(error).__name__}: {error}")

    def _decoder(self) -> Decoder:
        decoder: Decoder | None = getattr(self.local, "decoder", None)
        if decoder is None:
            decoder = self.local.decoder = Decoder(self.order.settings.fetch)
            self.decoders.append(decoder)
        return decoder


class _OpenPart:
    """A part on its way from rows to committed file."""

    def __init__(self, worker: Worker, part: Part, rows: list[ManifestRow], outcome: PartOutcome) -> None:
        self.worker, self.part, self.rows, self.outcome = worker, part, rows, outcome
        self.journal = Journal(worker.output, part)

    def work(self) -> None:
        """Do what is missing of the part and commit it."""
        if self._committed_by_another():
            return
        recovered = self.journal.read()
        done = self._kept() | self._usable(recovered.rows)
        self.outcome.recovered = len(done)
        self._count(done.values())
        history = History(recovered.suspects)
        for batch in self._batches([row for row in self.rows if row.number not in done]):
            new = self._answered(batch, history)
            started = time.monotonic()
            self.journal.finish(new)
            self.outcome.journal_seconds += time.monotonic() - started
            done |= new
            self._count(new.values())
        self._commit([done[row.number] | row.extra for row in self.rows])

    def _committed_by_another(self) -> bool:
        """A worker that died between its commit and its word to Ray, or another driver: their file stands."""
        name = f"results/{self.part.name}"
        if self.worker.order.retry_failed or not self.worker.output.exists(name):
            return False
        self._count(results_rows(self.worker.output.read(name)))
        self.outcome.recovered, self.outcome.committed = len(self.rows), True
        self.journal.clear()
        return True

    def _usable(self, journalled: dict[int, Row]) -> dict[int, Row]:
        """Rows that an earlier worker finished; where failures are retried, not those that failed passingly."""
        own, retried = {row.number for row in self.rows}, RETRYABLE if self.worker.order.retry_failed else frozenset()
        return {k: row for k, row in journalled.items() if k in own and Status(row["status"]) not in retried}

    def _count(self, rows: Any) -> None:
        for row in rows:
            status = str(row["status"])
            self.outcome.statuses[status] = self.outcome.statuses.get(status, 0) + 1
        self.worker.tell(self.part.number, self.outcome.statuses)

    def _commit(self, rows: list[Row]) -> None:
        started, output, name = time.monotonic(), self.worker.output, f"results/{self.part.name}"
        data = results_bytes(rows, self.worker.order.passthrough)
        created = output.create(name, data)  # False: another worker committed the same rows; theirs stands
        if not created and self.worker.order.retry_failed:
            output.supersede(name, data)
        self.outcome.committed = True
        self.journal.clear()
        self.outcome.commit_seconds = time.monotonic() - started

    def _kept(self) -> dict[int, Row]:
        """Rows of a part to be retried whose end is final; none where the part is not committed yet."""
        name = f"results/{self.part.name}"
        if not self.worker.order.retry_failed or not self.worker.output.exists(name):
            return {}
        numbers = {row.id: row.number for row in self.rows}
        old = results_rows(self.worker.output.read(name))
        return {numbers[str(row["id"])]: row for row in old if Status(row["status"]) not in RETRYABLE}

    def _batches(self, rows: list[ManifestRow]) -> Iterator[list[Loaded]]:
        """Fixed slices of the part without the rows that are done, in the order in which their files arrive.

        `fetch.ahead` rows are fetched ahead, and one batch is decoded while another is answered.
        """
        waiting, worker, settings = self._slices(rows), self.worker, self.worker.order.settings.fetch
        fetching: list[list[Future[Fetched]]] = []
        decoding: list[list[Future[Loaded]]] = []
        while waiting or fetching or decoding:
            while waiting and (not fetching or sum(map(len, fetching)) < settings.ahead):
                fetching.append([worker.fetching.submit(worker.fetch, row) for row in waiting.pop(0)])
            while len(decoding) < 2 and (ready := next((one for one in fetching if all(f.done() for f in one)), None)):
                fetching.remove(ready)
                decoding.append([worker.decoding.submit(worker.decode, file.result()) for file in ready])
            started = time.monotonic()
            batch = [picture.result() for picture in decoding.pop(0)] if decoding else None
            if batch is None:
                wait([file for one in fetching for file in one if not file.done()], return_when=FIRST_COMPLETED)
            self.outcome.waiting_seconds += time.monotonic() - started
            if batch is not None:
                yield batch

    def _slices(self, rows: list[ManifestRow]) -> list[list[ManifestRow]]:
        size, first = self.worker.order.settings.run.batch, self.part.first_row
        slices: dict[int, list[ManifestRow]] = {}
        for row in rows:
            slices.setdefault((row.number - first) // size, []).append(row)
        return list(slices.values())

    def _answered(self, batch: list[Loaded], history: History) -> dict[int, Row]:
        """Every row of the batch with its end."""
        done = {row.number: failed_row(_bare(row), got, None) for row, got in batch if isinstance(got, RowFailure)}
        asked = {row.number: (_bare(row), got) for row, got in batch if isinstance(got, Picture)}
        condemned = [number for number in asked if history.condemned(number)]
        innocent = [number for number in asked if number not in condemned]
        answered, quarantined = isolated(innocent, lambda numbers: self._hand_over([asked[k] for k in numbers]), history)
        reasons = {number: (death.status, death.reason) for number, death in quarantined.items()}
        reasons |= dict.fromkeys(condemned, (Status.MODEL_CRASH, "its worker died each time this row was alone with the model"))
        for number, (row, picture) in asked.items():
            status, reason = reasons.get(number, (Status.MODEL_CRASH, "the model process gave no answer for this row"))
            facts = PictureFacts(picture.width, picture.height, picture.sha256)
            done[number] = answered.get(number) or failed_row(row, RowFailure(status, reason), facts)
        return done

    def _hand_over(self, asked: Sequence[tuple[ManifestRow, Picture]]) -> Answered:
        """The model's answers, when it is this part's turn."""
        with self.worker.model_turn:
            started = time.monotonic()
            self.journal.suspect([row.number for row, _ in asked])
            self.outcome.journal_seconds += time.monotonic() - started
            started, starts = time.monotonic(), self.worker.model.starts
            try:
                answered = self.worker.model.answer(asked)
            except ModelUnavailable:
                self.journal.release([row.number for row, _ in asked])  # no model ever saw them
                raise
            finally:
                self.outcome.model_seconds += time.monotonic() - started
                self.outcome.starts += self.worker.model.starts - starts
        if answered.death is not None:
            held = [row.number for row, _ in asked if row.number not in answered.rows]
            self.worker.log.warning("model_process_died", part=self.part.number, rows=held, reason=answered.death.reason)
        return answered


def _bare(row: ManifestRow) -> ManifestRow:
    """The row without its pass-through columns, which may be of any type: they join the result when it is committed."""
    return ManifestRow(row.number, row.id, row.image_uri, row.page, row.question)
