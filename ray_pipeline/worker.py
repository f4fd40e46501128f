"""One part of the manifest from rows to committed file: fetch and decode ahead, ask the model process, journal, commit.

Files are fetched ahead by many threads, pictures decoded by a few, each with a child process of its own; the model lives in
a process too. The batches are fixed (`page_batches`); the one whose files are there first goes first, so that a slow file
holds up its own batch alone. Documents are taken apart here, where the task asks for it: each page becomes a row of its own.
Finished batches are journalled: a kill costs at most those in flight. Whatever happens to a row becomes its result row;
whatever happens to the whole part comes back as a value, since an exception here would end or repeat others' work.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pyarrow as pa

from ray_pipeline import events
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.committed_part import read_part
from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.delivery.formats.parquet import results_bytes, results_rows
from ray_pipeline.delivery.journal import Journal
from ray_pipeline.delivery.rows import PictureFacts, failed_row
from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.decode import Decoder, DecoderUnavailable
from ray_pipeline.intake.document import Document
from ray_pipeline.intake.fetch import Fetcher
from ray_pipeline.isolation import History, isolated
from ray_pipeline.model_process import Answered, ModelProcess, ModelUnavailable
from ray_pipeline.models.weights import ModelRefused, model_digests, model_folder
from ray_pipeline.page_batches import Fetched, Loaded, Opened, PageBatches, sliced
from ray_pipeline.part_rows import PartRows, Row
from schemas.floors import check_floors
from schemas.job import JobSettings
from schemas.manifest import Key, ManifestRow, Part
from schemas.picture import Picture
from schemas.status import RETRYABLE, RowFailure, Status


@dataclass(frozen=True)
class WorkOrder:
    """Everything a worker needs to know about the run; travels to the workers once.

    `load` takes the place of the families' own loader: a function of a module that the model process can import.
    `model_sha256`: digests of the model's files as the driver found them, by name; empty = not compared.
    """

    settings: JobSettings
    manifest_base: str
    manifest_remote: bool
    passthrough: pa.Schema
    retry_failed: bool = False
    load: Callable[..., Any] | None = None
    model_sha256: Mapping[str, str] = field(default_factory=dict, kw_only=True)


@dataclass
class PartOutcome:
    """What became of a part. `failure` is set where it could not be committed; rows are then not accounted for.

    `rows` are those of the manifest, and once they are committed those of the results, pages counted one by one.
    `unfit`: the failure is the worker's own, which can start no model or no decoder here; another may well do the part.
    `recovered` rows were there from an earlier worker; `starts` counts model processes that were started anew.
    """

    part: int
    rows: int
    statuses: dict[str, int] = field(default_factory=dict)
    committed: bool = False
    failure: str | None = None
    unfit: bool = False
    recovered: int = 0
    starts: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0
    waiting_seconds: float = 0.0
    journal_seconds: float = 0.0
    commit_seconds: float = 0.0


_T = TypeVar("_T")
Tell = Callable[[int, Mapping[str, int]], None]  # part number and how many of its rows have ended so far, by status
FURTHER = "further pages"  # told beside the statuses: known rows beyond those of the manifest, ended or not


def tell_nobody(part: int, statuses: Mapping[str, int]) -> None:
    """For workers whose progress nobody follows."""


def told(statuses: Mapping[str, int], further: int) -> dict[str, int]:
    """What is told of a part: rows by status, and the further pages of its documents where there are any."""
    return dict(statuses) | ({FURTHER: further} if further else {})


class Worker:
    """A model process with its own intake and its own way to the output folder. Parts may be run in several threads at once.

    Raises:
        ModelUnavailable: on creation, when the model cannot be loaded, or its files are not those that the driver has.
    """

    def __init__(self, order: WorkOrder, tell: Tell = tell_nobody) -> None:
        check_floors()  # other nodes may have other versions than the driver's
        _refuse_other_model(order)
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
        except (ModelUnavailable, DecoderUnavailable) as error:
            outcome.failure, outcome.unfit = one_line(str(error)), True
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
        if unasked := _unasked(row, self.order.settings):
            return row, RowFailure(Status.SKIPPED, unasked)
        try:
            return row, self.fetcher.fetch(row.image_uri)
        except RowFailure as failure:
            return row, failure
        except Exception as error:
            return row, RowFailure(Status.FETCH_FAILED, f"{type(error).__name__}: {error}")

    def apart(self, row: ManifestRow) -> bool:
        """Whether the row's file is a document of which each page becomes a row of its own."""
        return self.order.settings.task == "ocr" and row.page is None

    def open(self, fetched: Fetched, known: str | None) -> Opened:
        """The row's picture, or why there is none; of a document its first page, unless it is `known` by its digest."""
        row, got = fetched
        if isinstance(got, RowFailure):
            return Opened(row, [Loaded(row.number, row, got)])
        if not self.apart(row):
            return Opened(row, [Loaded(row.number, row, _decoded(lambda: self._decoder().decode(got, row.page)))])
        document = _decoded(lambda: self._counted(got))
        if isinstance(document, RowFailure):
            return Opened(row, [Loaded(row.number, row, document)])
        try:
            return Opened(row, [] if document.sha256 == known else [self.page(row, document, 0)], document)
        except BaseException:
            document.close()
            raise

    def page(self, row: ManifestRow, document: Document, page: int) -> Loaded:
        """A page of an opened document, or why there is none."""
        got = _decoded(lambda: self._decoder().page(document, page))
        return Loaded((row.number, page), _bare(row, row.number, page), got, document.sha256)

    def _counted(self, data: bytes) -> Document:
        document = Document(data)
        try:
            self._decoder().open(document)
        except BaseException:
            document.close()
            raise
        return document

    def _decoder(self) -> Decoder:
        decoder: Decoder | None = getattr(self.local, "decoder", None)
        if decoder is None:
            decoder = self.local.decoder = Decoder(self.order.settings.fetch)
            self.decoders.append(decoder)
        return decoder


class _OpenPart:
    """A part on its way from rows to committed file."""

    def __init__(self, worker: Worker, part: Part, rows: list[ManifestRow], outcome: PartOutcome) -> None:
        self.worker, self.part, self.manifest_rows, self.outcome = worker, part, rows, outcome
        self.journal, self.rows = Journal(worker.output, part), PartRows(rows, worker.apart)

    def work(self) -> None:
        """Do what is missing of the part and commit it."""
        if self._committed_by_another():
            return
        recovered = self.journal.read()
        self._keep()
        self.rows.take(self._usable(recovered.rows), recovered.pages)
        self.outcome.recovered = len(self.rows)
        self._tell()
        history, settings = History(recovered.suspects), self.worker.order.settings
        slices = sliced(self.part, self.rows.unfinished(), settings.run.batch)
        batches = PageBatches(self.worker, self.rows, slices, settings.run.batch, settings.fetch.ahead)
        for batch in batches:
            self._end(self._answered(batch, history))
        self.outcome.waiting_seconds = batches.waited_s
        self._commit()

    def _committed_by_another(self) -> bool:
        """A worker that died between its commit and its word to Ray, or another driver: their file stands."""
        name = f"results/{self.part.name}"
        if self.worker.order.retry_failed or not self.worker.output.exists(name):
            return False
        committed = read_part(self.worker.output.read(name))
        self.outcome.statuses = dict(committed.statuses)
        self.worker.tell(self.part.number, told(self.outcome.statuses, committed.rows - len(self.manifest_rows)))
        self.outcome.recovered, self.outcome.rows, self.outcome.committed = committed.rows, committed.rows, True
        self.journal.clear()
        return True

    def _usable(self, rows: Mapping[Key, Row]) -> dict[Key, Row]:
        """Rows that an earlier worker finished; where failures are retried, not those that failed passingly."""
        retried = RETRYABLE if self.worker.order.retry_failed else frozenset()
        return {key: row for key, row in rows.items() if Status(row["status"]) not in retried}

    def _keep(self) -> None:
        """Take the rows of a part to be retried whose end is final; none where the part is not committed yet."""
        name = f"results/{self.part.name}"
        if not self.worker.order.retry_failed or not self.worker.output.exists(name):
            return
        data = self.worker.output.read(name)
        ours, documents = {row.id: row for row in self.manifest_rows}, read_part(data).documents
        kept: dict[Key, Row] = {}
        pages: dict[int, int] = {}
        for old in results_rows(data):
            row = ours[str(old["id"])]
            if self.worker.apart(row) and old["page"] is not None:
                kept[row.number, int(old["page"])], pages[row.number] = old, documents.get(row.number, 1)
            else:
                kept[row.number] = old
        self.rows.take(self._usable(kept), pages)

    def _end(self, new: dict[Key, Row]) -> None:
        started = time.monotonic()
        self.journal.finish(new, self.rows.pages(new))
        self.outcome.journal_seconds += time.monotonic() - started
        self.rows.end(new)
        self._tell()

    def _tell(self) -> None:
        self.outcome.statuses = {status: count for status, count in self.rows.statuses.items() if count}
        further = sum(pages - 1 for pages in self.rows.pages().values())
        self.worker.tell(self.part.number, told(self.outcome.statuses, further))

    def _commit(self) -> None:
        started, output, name = time.monotonic(), self.worker.output, f"results/{self.part.name}"
        rows = self.rows.in_order()
        data = results_bytes(rows, self.worker.order.passthrough, self.rows.pages())
        created = output.create(name, data)  # False: another worker committed the same rows; theirs stands
        if not created and self.worker.order.retry_failed:
            output.supersede(name, data)
        self.outcome.committed, self.outcome.rows = True, len(rows)
        self.journal.clear()
        self.outcome.commit_seconds = time.monotonic() - started

    def _answered(self, batch: list[Loaded], history: History) -> dict[Key, Row]:
        """Every row and page of the batch with its end."""
        done = {key: row for one in batch if isinstance(one.got, RowFailure) for key, row in self._failed(one, one.got)}
        asked = {one.key: (one.row, one.got) for one in batch if isinstance(one.got, Picture)}
        condemned = [key for key in asked if history.condemned(key)]
        innocent = [key for key in asked if key not in condemned]
        answered, quarantined = isolated(innocent, lambda keys: self._hand_over(keys, [asked[key] for key in keys]), history)
        reasons = {key: (death.status, death.reason) for key, death in quarantined.items()}
        reasons |= dict.fromkeys(condemned, (Status.MODEL_CRASH, "its worker died each time this row was alone with the model"))
        for key, (row, picture) in asked.items():
            status, reason = reasons.get(key, (Status.MODEL_CRASH, "the model process gave no answer for this row"))
            facts = PictureFacts(picture.width, picture.height, picture.sha256)
            done[key] = answered.get(key) or failed_row(_bare(row, 0, row.page), RowFailure(status, reason), facts)
        return done

    def _failed(self, one: Loaded, failure: RowFailure) -> list[tuple[Key, Row]]:
        """The end of what could not be read: a row, a page, or all missing pages of a document that could be read before."""
        if isinstance(one.key, tuple):
            return [(one.key, failed_row(one.row, failure, None) | {"image_sha256": one.sha256})]
        ends = self.rows.lacking(one.key)
        return [(key, failed_row(_bare(one.row, one.key, page), failure, None)) for key, page in ends]

    def _hand_over(self, keys: Sequence[Key], asked: Sequence[tuple[ManifestRow, Picture]]) -> Answered:
        """The model's answers, when it is this part's turn. The model process knows rows by their place in the batch."""
        placed = [(_bare(row, place, row.page), picture) for place, (row, picture) in enumerate(asked)]
        with self.worker.model_turn:
            started = time.monotonic()
            self.journal.suspect(keys)
            self.outcome.journal_seconds += time.monotonic() - started
            started, starts = time.monotonic(), self.worker.model.starts
            try:
                answered = self.worker.model.answer(placed)
            except ModelUnavailable:
                self.journal.release(keys)  # no model ever saw them
                raise
            finally:
                self.outcome.model_seconds += time.monotonic() - started
                self.outcome.starts += self.worker.model.starts - starts
        rows = {keys[place]: row for place, row in answered.rows.items() if isinstance(place, int)}
        if answered.death is not None:
            held = [key for key in keys if key not in rows]
            self.worker.log.warning("model_process_died", part=self.part.number, rows=held, reason=answered.death.reason)
        return Answered(rows, answered.death)


def _refuse_other_model(order: WorkOrder) -> None:
    """Other weights would answer under the same fingerprint. Read just before they are loaded: the disk is asked once."""
    if not order.model_sha256:
        return
    model = order.settings.model
    try:
        found = model_digests(model_folder(model.name, model.revision))
    except ModelRefused as refusal:
        raise ModelUnavailable(str(refusal)) from None
    for name in sorted(order.model_sha256.keys() | found.keys()):
        here, expected = (digests.get(name, "absent") for digests in (found, order.model_sha256))
        if here != expected:
            raise ModelUnavailable(f"model {model.name!r}: found another {name} here ({here[:12]}), expected {expected[:12]}")


def _decoded(decode: Callable[[], _T]) -> _T | RowFailure:
    try:
        return decode()
    except RowFailure as failure:
        return failure
    except DecoderUnavailable:  # the worker's own trouble, of which no row may hear
        raise
    except Exception as error:
        return RowFailure(Status.DECODE_CRASH, f"{type(error).__name__}: {error}")


def _unasked(row: ManifestRow, settings: JobSettings) -> str | None:
    """Why a row asks for nothing, or None."""
    if settings.task == "answer" and not (row.question or "").strip():
        return f"question is {row.question!r}; expected a text"
    if settings.task == "label" and not any(phrase.strip() for phrase in row.phrases or settings.label.phrases):
        return "no phrase to look for: expected a text in phrases, or in label.phrases"
    return None


def _bare(row: ManifestRow, number: int, page: int | None) -> ManifestRow:
    """The row without its pass-through columns, which may be of any type: they join the result when it is committed."""
    return replace(row, number=number, page=page, extra={})
