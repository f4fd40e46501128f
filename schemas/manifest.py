"""Rows of a manifest, as the pipeline sees them (the columns are in interface: id, image_uri, page, question, phrases, ...)."""

from dataclasses import dataclass, field
from typing import Any

# What a result row goes by within a run: the number of its manifest row, or that number and the page where a document has
# been taken apart.
Key = int | tuple[int, int]


@dataclass(frozen=True)
class ManifestRow:
    """One row. `number` is its 0-based place in manifest order; `extra` holds the pass-through columns."""

    number: int
    id: str
    image_uri: str
    page: int | None = None
    question: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    phrases: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Part:
    """Consecutive rows [first_row, first_row + rows) of the manifest: the unit of work and of commit.

    Its file has more rows than that where documents were taken apart into pages.
    """

    number: int
    first_row: int
    rows: int

    @property
    def name(self) -> str:
        return f"part-{self.number:05d}.parquet"
