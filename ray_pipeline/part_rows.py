"""The result rows of a part as they come together, and what is still missing: rows, and pages of documents taken apart."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_pipeline.intake.document import Document
from schemas.manifest import Key, ManifestRow

Row = dict[str, Any]


@dataclass
class _Whole:
    """A document as far as it is known: its pages, and the digest that all their rows must share."""

    pages: int
    sha256: str | None


class PartRows:
    """Each row of the manifest becomes one result row, or one for each page where `apart` says so.

    The pages of a document are of one and the same file: where it has changed since, the earlier ones count for nothing.
    """

    def __init__(self, rows: Sequence[ManifestRow], apart: Callable[[ManifestRow], bool]) -> None:
        self._rows = rows
        self._apart = {row.number for row in rows if apart(row)}
        self._whole = {row.number for row in rows} - self._apart
        self._done: dict[Key, Row] = {}
        self._documents: dict[int, _Whole] = {}
        self.statuses: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._done)

    def take(self, rows: Mapping[Key, Row], pages: Mapping[int, int]) -> None:
        """Rows of earlier workers, as far as they fit together; `pages` as the journal has them. Later ones win."""
        found: dict[int, dict[Key, Row]] = {}
        for key, row in rows.items():
            found.setdefault(key[0] if isinstance(key, tuple) else key, {})[key] = row
        for number, own in found.items():
            if number in self._apart:
                self._take_apart(number, own, pages.get(number))
            elif number in self._whole and number in own:
                self.end({number: own[number]})

    def _take_apart(self, number: int, own: dict[Key, Row], pages: int | None) -> None:
        paged: dict[Key, Row] = {k: row for k, row in own.items() if isinstance(k, tuple) and k[1] < (pages or 0)}
        digests = {row["image_sha256"] for row in paged.values()} - {None}
        if pages and paged and len(digests) <= 1:
            self._become(number, pages, next(iter(digests), None))
            self.end(paged)
        elif number in own and number not in self._documents:
            self.end({number: own[number]})

    def end(self, rows: Mapping[Key, Row]) -> None:
        """These rows have ended."""
        for key, row in rows.items():
            self._forget(key)
            if isinstance(key, tuple):
                self._forget(key[0])  # what was said of the document as a whole
            self._done[key] = row
            self.statuses[str(row["status"])] += 1

    def unfinished(self) -> list[ManifestRow]:
        """Rows of the manifest of which something is missing."""
        return [row for row in self._rows if not self._finished(row.number)]

    def known(self, row: ManifestRow) -> str | None:
        """The digest of the row's document, where its first page is there."""
        whole = self._documents.get(row.number)
        return whole.sha256 if whole and (row.number, 0) in self._done else None

    def further(self, row: ManifestRow, document: Document) -> list[int]:
        """The pages of this file, after the first, that are not there yet. From now on it is the row's document."""
        self._become(row.number, document.pages, document.sha256)
        return [page for page in range(1, document.pages) if (row.number, page) not in self._done]

    def lacking(self, number: int) -> list[tuple[Key, int | None]]:
        """What ends if the row's file cannot be had: itself, or the missing pages if some are there, with their numbers."""
        whole = self._documents.get(number)
        if whole is None:
            return [(number, None)]
        return [((number, page), page) for page in range(whole.pages) if (number, page) not in self._done]

    def pages(self, keys: Iterable[Key] | None = None) -> dict[int, int]:
        """How many pages the documents have, by row number: those of these rows, or all."""
        if keys is None:
            return {number: whole.pages for number, whole in self._documents.items()}
        return {key[0]: self._documents[key[0]].pages for key in keys if isinstance(key, tuple)}

    def in_order(self) -> list[Row]:
        """All rows, once nothing is missing: in the manifest's order, then by page, with the columns passed through."""
        return [self._done[key] | row.extra for row in self._rows for key in self._keys(row.number)]

    def _keys(self, number: int) -> list[Key]:
        whole = self._documents.get(number)
        return [number] if whole is None else [(number, page) for page in range(whole.pages)]

    def _finished(self, number: int) -> bool:
        return all(key in self._done for key in self._keys(number))

    def _become(self, number: int, pages: int, sha256: str | None) -> None:
        old = self._documents.get(number)
        same = old is None or None in (old.sha256, sha256) or old.sha256 == sha256
        for page in range(old.pages if old else 0):
            if not same or page >= pages:
                self._forget((number, page))
        self._documents[number] = _Whole(pages, sha256 or (old.sha256 if old and same else None))

    def _forget(self, key: Key) -> None:
        row = self._done.pop(key, None)
        if row is not None:
            self.statuses[str(row["status"])] -= 1
