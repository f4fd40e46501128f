"""A finished run, read back row by row in manifest order: one part in memory at a time, each checked against the index."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.committed_part import sha256_of
from ray_pipeline.delivery.escapes import one_line
from schemas.result import RESULT_COLUMNS

BATCH_ROWS = 256  # rows of a part that are Python objects at the same time


class RunUnreadable(ValueError):
    """There is no complete run, or a part is not as the index says; one line says what."""


@dataclass(frozen=True)
class FinishedRun:
    """A complete output folder: `run` is what run.json holds, `index` what index.json holds."""

    output: Output
    run: Mapping[str, Any]
    index: Mapping[str, Any]

    @property
    def total(self) -> int:
        """Rows of the run, of every status."""
        return int(self.index["rows"])

    def column_names(self) -> list[str]:
        """Result columns, then pass-through columns, as the parts have them.

        Raises:
            RunUnreadable: the first part is not as the index says.
        """
        for entry in self.index["parts"]:
            with self._opened(entry) as file:
                return list(file.schema_arrow.names)
        return list(RESULT_COLUMNS.names)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row, in manifest order, with all its columns.

        Raises:
            RunUnreadable: a part is missing, was changed, or holds another number of rows than the index says.
        """
        for entry in self.index["parts"]:
            count = 0
            with self._opened(entry) as file:
                for batch in file.iter_batches(BATCH_ROWS):
                    count += batch.num_rows
                    yield from batch.to_pylist()
            if count != entry["rows"]:
                raise RunUnreadable(f"results/{entry['name']} has {count} rows; expected {entry['rows']}, as index.json says")

    def _opened(self, entry: Mapping[str, Any]) -> pq.ParquetFile:
        label = f"results/{one_line(str(entry['name']), 100)}"
        try:
            data = self.output.read_result(entry["name"])
        except (OSError, ValueError) as error:
            raise RunUnreadable(one_line(f"{label} cannot be read: {error}")) from None
        if sha256_of(data) != entry["sha256"]:
            raise RunUnreadable(f"{label} has another sha256 than in index.json; `fovea verify` says more")
        try:
            return pq.ParquetFile(pa.BufferReader(data))
        except pa.ArrowException as error:
            raise RunUnreadable(one_line(f"{label} is unreadable: {error}", 200)) from None


def finished_run(output_uri: str) -> FinishedRun:
    """The run at this address; its parts are read and checked later, as `rows` comes to them.

    Raises:
        RunUnreadable: no complete run is there.
        ValueError: the address is none.
    """
    output = Output(output_uri)
    try:
        run, index = json.loads(output.read("run.json")), json.loads(output.read("index.json"))
        expected = isinstance(run["settings"], dict) and isinstance(run["fingerprint"], dict)
        expected &= all(isinstance(entry["name"], str) and isinstance(entry["rows"], int) for entry in index["parts"])
        expected &= isinstance(index["rows"], int) and isinstance(index["statuses"], dict)
    except FileNotFoundError as error:
        raise RunUnreadable(
            one_line(f"output {output_uri!r} holds no complete run ({error}); expected run.json and index.json")
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ImportError) as error:
        raise RunUnreadable(one_line(f"output {output_uri!r} cannot be read: {type(error).__name__}: {error}")) from None
    if not expected:
        raise RunUnreadable(one_line(f"output {output_uri!r}: run.json or index.json is not that of a run"))
    return FinishedRun(output, run, index)
