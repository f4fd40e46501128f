"""Labelled rows, split by picture: some to learn from, some to choose by, some to measure on and nothing else."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

from ray_pipeline.methods.labelled_queries import image_parts
from schemas.manifest import ManifestRow
from schemas.picture import Box, Picture
from schemas.status import RowFailure
from schemas.truth import Truth

Part = Literal["learn", "choose", "held"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class LabelledRow:
    """A question whose answer or place is known. `image` is the digest of its picture's file.

    `learn` and `choose` are the two halves of what is fitted on: what is chosen by a regressor must not be its training set.
    """

    row: ManifestRow
    truth: Truth
    image: str
    part: Part

    @property
    def boxes_px(self) -> tuple[Box, ...]:
        return tuple(true.box_px for true in self.truth.boxes)


Shown = Callable[[ManifestRow], Picture | RowFailure]
"""How a row's picture is had, or why it cannot be."""


def split(known: Sequence[tuple[ManifestRow, Truth, str]], fit_share: float, seed: int) -> list[LabelledRow]:
    """Rows with their pictures' digests, in the order given, all rows of a picture in one part.

    Raises:
        ValueError: fewer than three pictures, or a share that leaves a part without any.
    """
    images = {image for _, _, image in known}
    places = image_parts(images, max(1, len(images)), str(seed))
    fit = round(fit_share * len(images))
    if len(images) < 3 or not 2 <= fit < len(images):
        raise ValueError(f"{len(images)} pictures, {fit} of them to fit on; expected two or more, and one or more to measure on")

    def part(image: str) -> Part:
        place = places[image]
        return "held" if place >= fit else "learn" if place % 2 else "choose"

    return [LabelledRow(row, truth, image, part(image)) for row, truth, image in known]


def sample(rows: Sequence[LabelledRow], count: int) -> list[LabelledRow]:
    """At most so many, spread evenly over all of them: neighbours in a manifest are often alike."""
    if len(rows) <= count:
        return list(rows)
    return [rows[place * len(rows) // count] for place in range(count)]


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Consecutive groups of at most so many."""
    left = iter(items)
    while group := list(islice(left, size)):
        yield group
