"""Batches by themselves: fixed whatever arrives first, few files and documents held, nothing left open."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from ray_pipeline import page_batches
from ray_pipeline.intake.document import Document
from ray_pipeline.page_batches import Fetched, Loaded, Opened, PageBatches, sliced
from schemas.manifest import Key, ManifestRow, Part
from schemas.picture import Picture
from schemas.status import RowFailure, Status

SIZE = 3
PICTURE = Picture(np.zeros((1, 1, 3), np.uint8), "")
PAGES = [1, 5, 0, 9, 1, 2, 1, 7]  # of the rows' documents; 0: it cannot be fetched
ROWS = [ManifestRow(20 + k, f"r{k}", "") for k in range(len(PAGES))]
PART = Part(2, 20, len(PAGES))
EXPECTED: list[list[Key]] = [
    [(20, 0), (21, 0), 22], [(23, 0), (24, 0), (25, 0)], [(26, 0), (27, 0)],
    [(21, 1), (21, 2), (21, 3)], [(21, 4)], [(23, 1), (23, 2), (23, 3)], [(23, 4), (23, 5), (23, 6)], [(23, 7), (23, 8)],
    [(25, 1)], [(27, 1), (27, 2), (27, 3)], [(27, 4), (27, 5), (27, 6)],
]  # fmt: skip


class Archive:
    """Source and demand in one: files of so many bytes, after so long a wait; `done` is there from before."""

    def __init__(self, file_bytes: int = 10, wait_s: float = 0.0, done: frozenset[Key] = frozenset()) -> None:
        self.fetching, self.decoding = ThreadPoolExecutor(4), ThreadPoolExecutor(2)
        self.file_bytes, self.wait_s, self.done = file_bytes, wait_s, done
        self.documents: list[Document] = []
        self.fetched, self.opened, self.lock = 0, 0, threading.Lock()
        self.most_ahead = 0

    def fetch(self, row: ManifestRow) -> Fetched:
        time.sleep(random.random() * self.wait_s)
        with self.lock:
            self.fetched += 1
            self.most_ahead = max(self.most_ahead, self.fetched - self.opened)
        missing = RowFailure(Status.FETCH_NOT_FOUND, "gone")
        return row, bytes([row.number]) * self.file_bytes if PAGES[row.number - 20] else missing

    def open(self, fetched: Fetched, known: str | None) -> Opened:
        row, got = fetched
        with self.lock:
            self.opened += 1
        if isinstance(got, RowFailure):
            return Opened(row, [Loaded(row.number, row, got)])
        document = Document(got)
        document.pages = PAGES[row.number - 20]
        self.documents.append(document)
        return Opened(row, [] if document.sha256 == known else [self.page(row, document, 0)], document)

    def page(self, row: ManifestRow, document: Document, page: int) -> Loaded:
        assert document.descriptor >= 0, "the document was closed before its pages were read"
        return Loaded((row.number, page), row, PICTURE)

    def known(self, row: ManifestRow) -> str | None:
        with Document(bytes([row.number]) * self.file_bytes) as same:
            return same.sha256 if (row.number, 0) in self.done else None

    def further(self, row: ManifestRow, document: Document) -> list[int]:
        return [page for page in range(1, document.pages) if (row.number, page) not in self.done]

    def batches(self, ahead: int = 64) -> PageBatches:
        return PageBatches(self, self, sliced(PART, ROWS, SIZE), SIZE, ahead)

    def open_documents(self) -> int:
        return sum(document.descriptor >= 0 for document in self.documents)

    def close(self) -> None:
        self.fetching.shutdown()
        self.decoding.shutdown()


@pytest.fixture
def archive() -> Iterator[Archive]:
    with closing(Archive()) as made:
        yield made


def keys(batches: Iterator[list[Loaded]] | PageBatches) -> list[list[Key]]:
    return [[loaded.key for loaded in batch] for batch in batches]


@pytest.mark.parametrize("wait_s", [0.0, 0.02])
def test_batches_are_the_same_whatever_comes_first(wait_s: float) -> None:
    with closing(Archive(wait_s=wait_s)) as archive:
        assert sorted(keys(archive.batches()), key=str) == sorted(EXPECTED, key=str)
        assert archive.open_documents() == 0


def test_what_is_there_leaves_gaps_and_moves_nothing() -> None:
    done: frozenset[Key] = frozenset([(21, 0), (21, 1), (21, 2), (21, 3), (23, 2), (25, 1), (26, 0)])
    with closing(Archive(done=done)) as archive:
        expected = [kept for batch in EXPECTED if (kept := [key for key in batch if key not in done])]
        assert sorted(keys(archive.batches()), key=str) == sorted(expected, key=str)
        assert archive.open_documents() == 0


@pytest.mark.parametrize("taken", range(len(EXPECTED) + 1))
def test_nothing_stays_open_when_a_part_is_left_in_the_middle(archive: Archive, taken: int) -> None:
    batches = iter(archive.batches())
    for _ in range(taken):
        next(batches)
    batches.close()
    assert archive.open_documents() == 0


@pytest.mark.parametrize("fails", ["open", "page"])
def test_what_a_source_raises_ends_the_part_and_closes_all(archive: Archive, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = archive.page

    def broken(row: ManifestRow, document: Document, number: int) -> Loaded:
        if row.number == 23 and number == (0 if fails == "open" else 5):
            document.close() if number == 0 else None  # whoever opens one closes it, unless it is handed over
            raise OSError("no decoder")
        return page(row, document, number)

    monkeypatch.setattr(archive, "page", broken)
    with pytest.raises(OSError, match="no decoder"):
        keys(archive.batches())
    assert archive.open_documents() == 0


def test_large_files_are_fetched_a_slice_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_batches, "AHEAD_BYTES", 1000)
    ahead = {}
    for file_bytes in (1, 400):
        with closing(Archive(file_bytes)) as archive:
            for _ in archive.batches():
                time.sleep(0.01)  # time to fetch whatever may be fetched
            ahead[file_bytes] = archive.most_ahead
    assert ahead[1] > 2 * SIZE - 1 and ahead[400] <= 2 * SIZE
