"""JSON lines: one object per result row, all columns, in manifest order. Nothing is lost but NaN, which becomes null."""

from collections.abc import Iterable
from pathlib import Path

from ray_pipeline.delivery.exported_row import ExportedRow, Origin, Written
from ray_pipeline.delivery.formats.json_text import json_text, plain
from schemas.result import RESULT_COLUMNS

_OURS = frozenset(RESULT_COLUMNS.names)


def write_jsonl(path: Path, rows: Iterable[ExportedRow], origin: Origin) -> Written:
    """Write the file. Counted regions are the boxes of `regions` and the `box` of the answer."""
    count = regions = attributes = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json_text({name: plain(value, name in _OURS) for name, value in row.columns.items()}) + "\n")
            count, regions, attributes = count + 1, regions + len(row.regions), attributes + row.answered
    return Written(count, regions, attributes)
