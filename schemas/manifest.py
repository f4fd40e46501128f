"""Rows of a manifest, as the pipeline sees them (the columns are in interface: id, image_uri, page, question, ...)."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ManifestRow:
    """One row. `number` is its 0-based place in manifest order; `extra` holds the pass-through columns."""

    number: int
    id: str
    image_uri: str
    page: int | None = None
    question: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Consecutive rows [first_row, first_row + rows) of the manifest: the unit of work and of commit."""

    number: int
    first_row: int
    rows: int

    @property
    def name(self) -> str:
        return f"part-{self.number:05d}.parquet"
