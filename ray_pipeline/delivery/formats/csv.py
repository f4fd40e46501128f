"""A table for spreadsheets (RFC 4180, UTF-8): one line per row, boxes as four columns, lists as JSON in one cell.

Text that a spreadsheet would take for a formula gets a leading apostrophe; NUL becomes U+FFFD, and null an empty cell.
This cannot be undone with certainty; jsonl keeps everything. A spreadsheet may cut cells after 32,767 characters.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ray_pipeline.delivery.exported_row import ExportedRow, Origin, Written
from ray_pipeline.delivery.formats.json_text import json_text, plain
from schemas.result import RESULT_COLUMNS

# Programs skip white space before the sign, and East Asian ones know the wide forms.
_FORMULA = re.compile("[\t\r\n]|[\\s\x00-\x1f\ufeff\u200b]*[=+\\-@\uff1d\uff0b\uff0d\uff20]")
_EDGES = ("x0", "y0", "x1", "y1")
_REFINEMENT = ("method", "crops", "used", "reason")
_OURS = frozenset(RESULT_COLUMNS.names)


def write_csv(path: Path, rows: Iterable[ExportedRow], origin: Origin) -> Written:
    """Write the file.

    Raises:
        ValueError: a pass-through column has the name of one that is made here, such as `box_x0`.
    """
    names = [flat for name in origin.columns for flat in _flat_names(name)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"columns {twice} would stand twice in the table; expected other names of pass-through columns")
    count = regions = attributes = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\r\n")
        table.writerow([_safe(name) for name in names])
        for row in rows:
            table.writerow([cell for name in origin.columns for cell in _cells(name, row.columns[name])])
            count, regions, attributes = count + 1, regions + len(row.regions), attributes + row.answered
    return Written(count, regions, attributes)


def _flat_names(name: str) -> list[str]:
    if name == "box":
        return [f"box_{edge}" for edge in _EDGES]
    return [f"refinement_{key}" for key in _REFINEMENT] if name == "refinement" else [name]


def _cells(name: str, value: Any) -> Iterator[str]:
    if name in ("box", "refinement"):
        for key in _EDGES if name == "box" else _REFINEMENT:
            yield _cell(None if value is None else value[key], True)
    else:
        yield _cell(value, name in _OURS)


def _cell(value: Any, single: bool) -> str:
    value = plain(value, single)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return _safe(value if isinstance(value, str) else json_text(value))


def _safe(text: str) -> str:
    text = text.replace("\0", "\ufffd")
    return f"'{text}" if _FORMULA.match(text) else text
