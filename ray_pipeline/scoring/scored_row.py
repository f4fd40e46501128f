"""What one result row is worth against its truth: plain numbers, and the groups it is counted in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ray_pipeline.scoring.average_precision import Page
from ray_pipeline.scoring.share import Share


class Sureness(NamedTuple):
    """A confidence the model gave of an `answer`, a `box` or a `line`, and whether that was right."""

    of: str
    confidence: float
    right: bool


class Groups(NamedTuple):
    """Which rows a row is counted with. `picture` is what it shares with the other rows of its picture."""

    picture: str
    size: str
    method: str
    refined: str


@dataclass(frozen=True)
class ScoredRow:
    """One row; `scores` holds names of MEASURES.

    `before` are the scores of the answer before refinement; `studies` what `scoring.studies` says of it; `boxes` is there
    for a page whose regions are compared with reference boxes.
    """

    id: str
    page: int | None
    status: str
    groups: Groups
    scores: Mapping[str, Share]
    before: Mapping[str, Share] = field(default_factory=dict)
    studies: Mapping[str, Share] = field(default_factory=dict)
    sureness: tuple[Sureness, ...] = ()
    boxes: Page | None = None

    @property
    def labelled(self) -> bool:
        """Whether the manifest says what would be right."""
        return bool(self.scores)
