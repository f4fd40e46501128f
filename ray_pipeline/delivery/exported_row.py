"""One row of a finished run as every export format takes it, and what a format says of its work."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.result import Region


@dataclass(frozen=True)
class ExportedRow:
    """`number` is the 0-based place in the results, from which files get their names.

    `columns` is the whole result row. `regions` are the answer's box and the row's regions; `image` says where the picture
    is: the manifest's address, or the name of a copy relative to the export.
    """

    number: int
    columns: dict[str, Any]
    regions: tuple[Region, ...]
    image: str

    @property
    def id(self) -> str:
        return str(self.columns["id"])

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
    """How many rows and regions a format has put into its files."""

    rows: int
    regions: int


# Takes the file or folder to write (a folder is there and empty), the rows in order, and their origin.
Writer = Callable[[Path, Iterable[ExportedRow], Origin], Written]


def exported_row(number: int, columns: dict[str, Any], least_confidence: float | None, image: str) -> ExportedRow:
    """The row without the regions, and without the box of the answer, that are not known to be sure enough."""
    kept = columns
    if least_confidence is not None:
        sure = [one for one in columns["regions"] or [] if _sure(one["confidence"], least_confidence)]
        kept = columns | {"regions": None if columns["regions"] is None else sure}
        if not _sure(columns["box_confidence"], least_confidence):
            kept |= {"box": None, "box_confidence": None}
    return ExportedRow(number, kept, regions_of(kept), image)


def regions_of(columns: dict[str, Any]) -> tuple[Region, ...]:
    """The answer's box, as a region of kind `answer`, then the row's regions; not twice, where one of them is that box."""
    regions = tuple(
        Region(_box(one["box"]), one["label"], one["text"], one["confidence"], one["kind"]) for one in columns["regions"] or ()
    )
    if columns["box"] is None or _box(columns["box"]) in {region.box_px for region in regions}:
        return regions
    return (Region(_box(columns["box"]), None, columns["answer"], columns["box_confidence"], "answer"), *regions)


def category(region: Region) -> str:
    """The class of a region in formats that sort regions into classes: its label, or else its kind."""
    return region.label or region.kind or "region"


def _sure(confidence: float | None, least: float) -> bool:
    return confidence is not None and confidence >= least


def _box(value: dict[str, float]) -> tuple[float, float, float, float]:
    return value["x0"], value["y0"], value["x1"], value["y1"]
