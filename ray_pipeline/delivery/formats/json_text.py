"""Result values as JSON: without NaN, and without characters that other programs take for the end of a line."""

import base64
import json
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any

import numpy as np

# Ends of lines beyond \n, C1 controls, and marks that turn the direction of reading: escaped, so that no tool acts on them.
_TRICKY = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def json_text(value: Any) -> str:
    """One line of JSON; a reader gets every text back as it was.

    Raises:
        ValueError: a number is not finite; `plain` makes null of those.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _TRICKY.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain(value: Any, single: bool = False) -> Any:
    """A column's value in JSON's few types. Numbers that are not finite become null, bytes base64, times ISO 8601.

    With `single` numbers are float32, and become the shortest decimal that is the same float32.
    """
    if isinstance(value, float):
        return None if not isfinite(value) else float(str(np.float32(value))) if single else value
    if isinstance(value, dict):
        return {str(key): plain(inner, single) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, single) for inner in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return str(value)
    return value
