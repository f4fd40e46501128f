"""The batches of one part: which rows and pages share one is fixed; only their order follows the arrival of files.

A part is cut into slices of `run.batch` rows. The pictures of a slice and the first pages of its documents are one batch;
the further pages of each document follow in batches of their own. So what shares a batch depends neither on timing nor on
what was done before a kill, which only leaves out what is there already.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from ray_pipeline.intake.document import Document
from schemas.manifest import Key, ManifestRow, Part
from schemas.picture import Picture
from schemas.status import RowFailure

DECODED_AHEAD = 2  # batches: one is decoded while another is answered
AHEAD_BYTES = 256 << 20  # of files fetched ahead beyond the next slice: documents may be a hundred times as large as pictures
Fetched = tuple[ManifestRow, bytes | RowFailure]


@dataclass(frozen=True)
class Loaded:
    """A row or page that is ready for the model, or why it is not. `row` names the page that it stands for in the results.

    `sha256` is that of the document whose page this is, else null.
    """

    key: Key
    row: ManifestRow
    got: Picture | RowFailure
    sha256: str | None = None


@dataclass(frozen=True)
class Opened:
    """What a fetched file came to: what is ready at once, and the document whose further pages are to follow."""

    row: ManifestRow
    ready: Sequence[Loaded]
    document: Document | None = None


class Source(Protocol):
    """Where files and pages come from. The methods are called in the threads of the pools; what they raise ends the part."""

    fetching: ThreadPoolExecutor
    decoding: ThreadPoolExecutor

    def fetch(self, row: ManifestRow) -> Fetched:
        """The row's file."""

    def open(self, fetched: Fetched, known: str | None) -> Opened:
        """Its picture or its first page; `known` is the digest of the file whose first page is not needed any more."""

    def page(self, row: ManifestRow, document: Document, page: int) -> Loaded:
        """A further page."""


class Demand(Protocol):
    """What a part still needs."""

    def known(self, row: ManifestRow) -> str | None:
        """The digest of the row's document, where its first page is there already."""

    def further(self, row: ManifestRow, document: Document) -> Sequence[int]:
        """The pages after the first that are to be read, in order."""


@dataclass
class _Slice:
    """Rows whose files are being opened."""

    opening: list[Future[Opened]]


@dataclass
class _Further:
    """A batch of further pages; the last one of its document closes it."""

    row: ManifestRow
    document: Document
    pages: Sequence[int]
    last: bool
    loading: Sequence[Future[Loaded]] = ()


class PageBatches:
    """The batches of some rows of a part, none of them empty. Use it once.

    Files of `ahead` rows are fetched ahead, fewer where they are large. Pages go before new slices, so that few documents are
    held at a time, and decoded are never more than two batches besides the one that is answered.
    """

    def __init__(self, source: Source, demand: Demand, slices: Sequence[list[ManifestRow]], size: int, ahead: int) -> None:
        self._source, self._demand, self._size, self._ahead = source, demand, size, ahead
        self._waiting = deque(slices)
        self._fetching: list[list[Future[Fetched]]] = []
        self._further: deque[_Further] = deque()
        self._decoding: deque[_Slice | _Further] = deque()
        self._files, self._bytes = 0, 0  # opened so far
        self.waited_s = 0.0

    def __iter__(self) -> Iterator[list[Loaded]]:
        try:
            while self._waiting or self._fetching or self._further or self._decoding:
                self._fetch_ahead()
                while len(self._decoding) < DECODED_AHEAD and (self._begin_pages() or self._begin_slice()):
                    pass
                if batch := self._next():
                    yield batch
        finally:
            self._close()

    def _fetch_ahead(self) -> None:
        while self._waiting and (not self._fetching or self._has_room(sum(map(len, self._fetching)))):
            self._fetching.append([self._source.fetching.submit(self._source.fetch, row) for row in self._waiting.popleft()])

    def _has_room(self, rows: int) -> bool:
        """Whether a further slice may be fetched: by rows, and by what files have weighed so far, of which one must be known."""
        held = [_weight(file.result()) for files in self._fetching for file in files if file.done()]
        files, weight = self._files + len(held), self._bytes + sum(held)
        return rows < self._ahead and files > 0 and weight * (rows + len(self._waiting[0])) <= AHEAD_BYTES * files

    def _begin_pages(self) -> bool:
        if not self._further:
            return False
        one, source = self._further.popleft(), self._source
        one.loading = [source.decoding.submit(source.page, one.row, one.document, page) for page in one.pages]
        self._decoding.append(one)
        return True

    def _begin_slice(self) -> bool:
        """Of those whose files are all there."""
        ready = next((files for files in self._fetching if all(file.done() for file in files)), None)
        if ready is None:
            return False
        self._fetching.remove(ready)
        fetched = [file.result() for file in ready]
        self._files, self._bytes = self._files + len(fetched), self._bytes + sum(map(_weight, fetched))
        opening = [self._source.decoding.submit(self._source.open, one, self._demand.known(one[0])) for one in fetched]
        self._decoding.append(_Slice(opening))
        return True

    def _next(self) -> list[Loaded]:
        started = time.monotonic()
        try:
            if not self._decoding:
                wait([file for files in self._fetching for file in files if not file.done()], return_when=FIRST_COMPLETED)
                return []
            one = self._decoding[0]  # taken off once all of it is there: what is left is closed if the part ends here
            loaded = self._opened(one) if isinstance(one, _Slice) else self._loaded(one)
            self._decoding.popleft()
            return loaded
        finally:
            self.waited_s += time.monotonic() - started

    def _opened(self, one: _Slice) -> list[Loaded]:
        ended = [opening.result() for opening in one.opening]
        for opened in ended:
            if opened.document is not None:
                self._expect(opened.row, opened.document)
        return [loaded for opened in ended for loaded in opened.ready]

    def _expect(self, row: ManifestRow, document: Document) -> None:
        groups: dict[int, list[int]] = {}
        for page in self._demand.further(row, document):
            groups.setdefault((page - 1) // self._size, []).append(page)
        if not groups:
            document.close()
        last = max(groups, default=0)
        self._further.extend(_Further(row, document, pages, group == last) for group, pages in sorted(groups.items()))

    def _loaded(self, one: _Further) -> list[Loaded]:
        loaded = [page.result() for page in one.loading]
        if one.last:
            one.document.close()
        return loaded

    def _close(self) -> None:
        """Whatever is open when the part is left in the middle."""
        for one in self._decoding:
            for opening in one.opening if isinstance(one, _Slice) else ():
                if not opening.cancel() and opening.exception() is None and (document := opening.result().document):
                    document.close()
        for further in [*self._further, *(one for one in self._decoding if isinstance(one, _Further))]:
            for page in further.loading:
                if not page.cancel():
                    page.exception()  # it looks at the document until it has ended
            further.document.close()


def _weight(fetched: Fetched) -> int:
    return len(fetched[1]) if isinstance(fetched[1], bytes) else 0


def sliced(part: Part, rows: Sequence[ManifestRow], size: int) -> list[list[ManifestRow]]:
    """These rows of the part in its fixed slices of `size` rows; what is missing leaves gaps."""
    slices: dict[int, list[ManifestRow]] = {}
    for row in rows:
        slices.setdefault((row.number - part.first_row) // size, []).append(row)
    return list(slices.values())
