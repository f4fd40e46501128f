"""What a model may say: every number, box and text of a result is checked here before it is written.

Values are checked as they will be stored, in float32. Boxes are x0, y0, x1, y1 in pixels of the upright original.
"""

import struct
from collections.abc import Sequence
from math import inf, isfinite
from numbers import Integral, Number, Real
from typing import Any

from ray_pipeline.delivery.escapes import one_line
from schemas.status import RowFailure, Status

TEXT_LIMIT = 100_000  # characters of one text
ROW_TEXT_LIMIT = 2_000_000  # characters of all texts of a row together
LIST_LIMIT = 10_000  # members of regions, candidates, crops
BOX_SLACK_PX = 1e-3  # how far rounding may push a box over the edge
SCALAR_SLACK = 1e-6  # how far rounding may push a confidence, an entropy or a log-probability over its bound


def violation(name: str, value: object, expected: str) -> RowFailure:
    """The failure of a row whose value `name` is not what is expected."""
    return RowFailure(Status.INVALID_OUTPUT, one_line(f"{name} is {one_line(_shown(value), 120)}; expected {expected}"))


def checked_number(name: str, value: object, low: float = -inf, high: float = inf) -> float:
    """The finite number as float32, clamped to [low, high] if rounding alone put it outside.

    Raises:
        RowFailure: not a number, not finite, or outside by more than rounding.
    """
    number = _float32(value)
    if number is None or not low - SCALAR_SLACK <= number <= high + SCALAR_SLACK:
        raise violation(name, value, f"a finite number{_bounds(low, high)}")
    return min(max(number, low), high) + 0.0  # + 0.0: the bytes of -0.0 differ from those of 0.0


def checked_optional(name: str, value: object, low: float = -inf, high: float = inf) -> float | None:
    """As `checked_number`, but None stays None."""
    return None if value is None else checked_number(name, value, low, high)


def checked_count(name: str, value: object) -> int:
    """A whole number that fits the int32 column, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= int(value) < 2**31:
        raise violation(name, value, "a whole number from 0 to 2147483647")
    return int(value)


def checked_flag(name: str, value: object) -> bool:
    """True or False, nothing that merely counts as such."""
    if not isinstance(value, bool):
        raise violation(name, value, "true or false")
    return value


def checked_text(name: str, value: object) -> str:
    """Text that UTF-8 can hold, otherwise raw, at most TEXT_LIMIT characters."""
    if not isinstance(value, str):
        raise violation(name, value, "text")
    if len(value) > TEXT_LIMIT:
        raise violation(name, value, f"at most {TEXT_LIMIT} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        lone = f"U+{ord(value[error.start]):04X}"
        raise violation(name, value, f"valid UTF-8, but character {error.start} is the lone surrogate {lone}") from None
    return value


def checked_box(name: str, box_px: object, width: int, height: int) -> dict[str, float]:
    """The box as a row's struct: finite, ordered, not empty, inside the picture of this size in pixels."""
    if isinstance(box_px, str | bytes) or not isinstance(box_px, Sequence) or len(box_px) != 4:
        raise violation(name, box_px, "four numbers x0, y0, x1, y1")
    numbers = [_inside(value, limit) for value, limit in zip(box_px, (width, height, width, height), strict=True)]
    x0, y0, x1, y1 = (-1.0 if number is None else number for number in numbers)
    if None in numbers or not (x0 < x1 and y0 < y1):
        raise violation(name, tuple(box_px), f"0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}")
    return {"x0": x0, "y0": y0, "x1": x1, "y1": y1}


def checked_list(name: str, values: object) -> Sequence[Any]:
    """A list or tuple of at most LIST_LIMIT members; the members are not looked at."""
    if not isinstance(values, list | tuple):
        raise violation(name, values, "a list")
    if len(values) > LIST_LIMIT:
        raise violation(f"length of {name}", len(values), f"at most {LIST_LIMIT}")
    return values


def checked_record(name: str, value: object, kind: type) -> None:
    """Refuse anything but a record of this kind where one belongs."""
    if not isinstance(value, kind):
        raise violation(name, value, f"a {kind.__name__}")


def checked_total(values: object) -> None:
    """Refuse a row whose texts, each short enough, are too much together."""
    total = _characters(values)
    if total > ROW_TEXT_LIMIT:
        raise violation("the row's text", total, f"at most {ROW_TEXT_LIMIT} characters together")


def _characters(values: object) -> int:
    if isinstance(values, str):
        return len(values)
    members = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    return sum(_characters(member) for member in members)


def _shown(value: object) -> str:
    """The value in an error message: some of it, even of what is too large or too odd to be written out."""
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if value is None or isinstance(value, Number):
        try:
            return repr(value)
        except ValueError:  # Python does not write out whole numbers of thousands of digits
            return "a number of thousands of digits"
    if isinstance(value, list | tuple) and len(value) <= 4:
        return f"[{', '.join(_shown(member) for member in value)}]"
    length = f" of {len(value)}" if isinstance(value, list | tuple | dict | bytes) else ""
    return f"a {type(value).__name__}{length}"


def _inside(value: object, limit: int) -> float | None:
    """The edge in float32, clamped to [0, limit]; None where it is no number or further outside than rounding."""
    number = _float32(value)
    if number is None or not -BOX_SLACK_PX <= number <= limit + BOX_SLACK_PX:
        return None
    return min(max(number, 0.0), float(limit)) + 0.0


def _float32(value: object) -> float | None:
    """The nearest float32, or None where there is no finite one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number: float = struct.unpack("<f", struct.pack("<f", float(value)))[0]
    except OverflowError:
        return None
    return number if isfinite(number) else None


def _bounds(low: float, high: float) -> str:
    if low == -inf and high == inf:
        return ""
    return f" in [{low:g}, {high:g}]"
