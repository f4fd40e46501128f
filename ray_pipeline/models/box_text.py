"""Box notations in generated text -> numbers. Frames are the caller's business."""

import re
from dataclasses import dataclass

_LOCATION = re.compile(r"<at>((?:<loc\d{3}>)*)")
_VALUE = re.compile(r"<loc(\d{3})>")


@dataclass(frozen=True)
class LocationText:
    """Text with location tokens taken out. `values` are x0, y0, x1, y1 in 0..999 of a view, or None where none are given.

    `malformed` says that a location was begun and is not four numbers: unreadable is not the same as absent.
    """

    text: str
    values: tuple[int, int, int, int] | None
    malformed: bool


def read_locations(raw: str) -> LocationText:
    """Split `KX7<at><loc012><loc100><loc250><loc180>` into its text and its first box."""
    match = _LOCATION.search(raw)
    text = _VALUE.sub("", _LOCATION.sub("", raw)).strip()
    if match is None:
        return LocationText(text, None, malformed="<loc" in raw)
    numbers = [int(value) for value in _VALUE.findall(match.group(1))]
    if len(numbers) != 4 or numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        return LocationText(text, None, malformed=True)
    return LocationText(text, (numbers[0], numbers[1], numbers[2], numbers[3]), malformed=False)
