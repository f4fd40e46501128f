"""One row of a finished run as every export format takes it, and what a format says of its work."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.labelling import ATTRIBUTE
from schemas.result import Region


@dataclass(frozen=True)
class ExportedRow:
    """`number` is the 0-based place in the results, from which files get their names.

    `columns` is the whole result row. `regions` are the answer's box and the row's regions; `image` says where the picture
    is: the manifest's address, or the name of a copy relative to the export. `attributes` are not among the regions: they are
    what was said of one of them, by its place there.
    """

    number: int
    columns: dict[str, Any]
    regions: tuple[Region, ...]
    image: str
    attributes: Mapping[int, tuple[Region, ...]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return str(self.columns["id"])

    @property
    def answered(self) -> int:
        """How many attributes have an answer."""
        return sum(one.text is not None for own in self.attributes.values() for one in own)

    @property
    def page(self) -> int | None:
        page: int | None = self.columns["page"]
        return page

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the upright picture.

        Raises:
            ValueError: the row failed before its picture was decoded.
        """
        width, height = self.columns["image_width"], self.columns["image_height"]
        if width is None or height is None:
            raise ValueError(
                f"row {self.number} of status {self.columns['status']} has no picture size; expected a row that is ok"
            )
        return int(width), int(height)


@dataclass(frozen=True)
class Origin:
    """Where the rows come from: the model's name with the run's digest, the version that computed them, their columns."""

    model: str
    version: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """How many rows, regions, and answers to attributes of regions a format has put into its files."""

    rows: int
    regions: int
    attributes: int = 0


# Takes the file or folder to write (a folder is there and empty), the rows in order, and their origin.
Writer = Callable[[Path, Iterable[ExportedRow], Origin], Written]


def exported_row(number: int, columns: dict[str, Any], least_confidence: float | None, image: str) -> ExportedRow:
    """The row without the regions, and without the box of the answer, that are not known to be sure enough.

    Attributes go with their region, and alone where they are not sure themselves.
    """
    kept = columns
    if least_confidence is not None:
        sure = [
            each
            for one, attributes in with_attributes(columns["regions"] or ())
            if _sure(one["confidence"], least_confidence)
            for each in (one, *(own for own in attributes if _sure(own["confidence"], least_confidence)))
        ]
        kept = columns | {"regions": None if columns["regions"] is None else sure}
        if not _sure(columns["box_confidence"], least_confidence):
            kept |= {"box": None, "box_confidence": None}
    told = _told(kept)
    attributes = {place: own for place, (_, own) in enumerate(told) if own}
    return ExportedRow(number, kept, tuple(region for region, _ in told), image, attributes)


def _told(columns: dict[str, Any]) -> list[tuple[Region, tuple[Region, ...]]]:
    """The answer's box, as a region of kind `answer`, then the row's regions; not twice, where one of them is that box.

    With each region, what was said of it.
    """
    told = [(_region(one), tuple(map(_region, attributes))) for one, attributes in with_attributes(columns["regions"] or ())]
    if columns["box"] is None or _box(columns["box"]) in {region.box_px for region, _ in told}:
        return told
    return [(Region(_box(columns["box"]), None, columns["answer"], columns["box_confidence"], "answer"), ()), *told]


def with_attributes(regions: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """The regions of a result row, each with the attributes directly behind it, which have its box."""
    told = list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]()
    for one in regions:
        if told and one["kind"] == ATTRIBUTE and one["box"] == told[-1][0]["box"]:
            told[-1][1].append(one)
        else:
            told.append((one, []))
    return told


def category(region: Region) -> str:
    """The class of a region in formats that sort regions into classes: its label, or else its kind."""
    return region.label or region.kind or "region"


def _sure(confidence: float | None, least: float) -> bool:
    return confidence is not None and confidence >= least


def _region(one: Mapping[str, Any]) -> Region:
    return Region(_box(one["box"]), one["label"], one["text"], one["confidence"], one["kind"])


def _box(value: dict[str, float]) -> tuple[float, float, float, float]:
    return value["x0"], value["y0"], value["x1"], value["y1"]
