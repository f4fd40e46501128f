"""What a manifest says is right about a row, in its columns `references` and `reference_boxes`."""

from dataclasses import dataclass

from schemas.picture import Box


@dataclass(frozen=True)
class TrueBox:
    """A reference box in pixels of the upright picture; `label` is "" where the manifest has none."""

    box_px: Box
    label: str


@dataclass(frozen=True)
class Truth:
    """Of the row `number` (0-based, in manifest order). Null and empty columns alike are ()."""

    number: int
    id: str
    page: int | None
    references: tuple[str, ...]
    boxes: tuple[TrueBox, ...]
