"""A trail: the records that one writer left about one open part. Several writers leave several; all are read together.

A record is one line of bytes and ends with a newline. What it says is the journal's matter, not the store's.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Trail:
    """All that a writer's records hold, in the order they were appended; the last line may be torn."""

    writer: str
    living: bool  # known to be at work still; where that cannot be known: False
    data: bytes


class TrailEnd(Protocol):
    """The end of this process' own trail, where it appends."""

    def append(self, record: bytes) -> None:
        """Add the record; durable at return. After an OSError the next record starts on sound ground again."""

    def close(self) -> None:
        """Stop counting as living. What was appended stays."""


class Trails(Protocol):
    """All trails of an output folder, by the stem of the part's file name: `part-00003`."""

    def start(self, stem: str) -> TrailEnd:
        """A new trail of this process. Nothing is written until the first record."""

    def read(self, stem: str) -> list[Trail]:
        """What all writers left, in no particular order."""

    def stems(self) -> list[str]:
        """The parts that have a trail, sorted."""

    def remove(self, stem: str, living: bool) -> int:
        """Delete the part's trails, those of living writers only if so asked; how many records or files that was."""
