"""A worker's parts: nothing is computed twice, nothing waits for a slow file but its own batch, two parts share one model."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ray_pipeline.delivery.journal import Journal
from ray_pipeline.intake.manifest import Manifest, cut_parts, open_manifest, read_rows
from ray_pipeline.worker import Fetched, PartOutcome, Worker, WorkOrder
from schemas.job import JobSettings
from schemas.manifest import ManifestRow, Part
from tests.faults.small_archive import write_small_archive
from tests.stand_ins.hash_model import load_hash

ROWS, BATCH = 16, 4


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_archive(tmp_path_factory.mktemp("archive"), 2 * ROWS)


class Bench:
    """A worker on a fresh output folder, with the ledger of what its model computed."""

    def __init__(self, manifest: Path, folder: Path, **tell: Any) -> None:
        self.output, self.ledger_file = folder / "out", folder / "ledger"
        os.environ["HASH_MODEL_LEDGER"] = str(self.ledger_file)
        run = {"batch": BATCH, "part_rows": ROWS, "call_timeout_s": 60.0}
        chosen = {"manifest": str(manifest), "output": str(self.output), "run": run, "refine": {"method": "none"}}
        settings = JobSettings.model_validate(chosen)
        self.manifest: Manifest = open_manifest(settings.manifest, None, ("question",), ())
        opened = self.manifest
        self.worker = Worker(WorkOrder(settings, opened.base, opened.remote, opened.passthrough, False, load_hash), **tell)
        self.parts = cut_parts(opened.rows, ROWS)

    def run(self, part: Part) -> PartOutcome:
        return self.worker.run(part, read_rows(self.manifest, part.first_row, part.rows))

    def computed(self) -> list[str]:
        """Questions in the order in which the model met them."""
        return [line.split("\t")[0] for line in self.ledger_file.read_text().splitlines()] if self.ledger_file.exists() else []

    def rows(self, part: Part) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = pq.read_table(self.output / "results" / part.name).to_pylist()
        return found

    def close(self) -> None:
        self.worker.close()


@pytest.fixture
def bench(archive: Path, tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(archive, tmp_path)) as made:
        yield made
    del os.environ["HASH_MODEL_LEDGER"]


def test_journalled_rows_are_taken_over_and_a_committed_part_is_left_alone(bench: Bench) -> None:
    first, second = bench.parts
    assert bench.run(first).statuses == {"ok": ROWS}
    done = bench.rows(first)[:6]
    (bench.output / "results" / first.name).unlink()  # as if it had never been committed
    bench.ledger_file.unlink()
    journal = Journal(bench.worker.output, first)
    journal.finish(dict(enumerate(done)))
    journal.close()
    outcome = bench.run(first)
    assert (outcome.recovered, outcome.committed, outcome.statuses) == (6, True, {"ok": ROWS})
    assert sorted(bench.computed()) == sorted(f"row {k}" for k in range(6, ROWS))
    assert bench.rows(first)[:6] == done and not list((bench.output / ".journal").iterdir())
    again = bench.run(first)
    assert (again.recovered, again.committed, again.statuses) == (ROWS, True, {"ok": ROWS})
    assert len(bench.computed()) == ROWS - 6 and not (bench.output / "results" / second.name).exists()


def test_a_row_that_was_alone_when_three_workers_died_is_not_tried_again(bench: Bench) -> None:
    part = bench.parts[0]
    for _ in range(3):
        journal = Journal(bench.worker.output, part)
        journal.suspect([5])
        journal.close()
    assert bench.run(part).statuses == {"ok": ROWS - 1, "model_crash": 1}
    row = bench.rows(part)[5]
    assert row["status"] == "model_crash" and "its worker died each time" in row["error"] and row["image_width"] is not None
    assert "row 5" not in bench.computed()


def test_a_slow_file_holds_up_its_own_batch_alone(archive: Path, tmp_path: Path) -> None:
    others_done = threading.Event()

    def tell(part: int, statuses: Mapping[str, int]) -> None:
        if sum(statuses.values()) == ROWS - BATCH:
            others_done.set()

    with closing(Bench(archive, tmp_path, tell=tell)) as bench:
        fetch = bench.worker.fetch

        def slow(row: ManifestRow) -> Fetched:
            if row.number == 1:
                assert others_done.wait(60.0), "the other batches wait for this file"
            return fetch(row)

        bench.worker.fetch = slow  # type: ignore[method-assign]
        outcome = bench.run(bench.parts[0])
        assert outcome.statuses == {"ok": ROWS} and [row["id"] for row in bench.rows(bench.parts[0])] == [
            f"r{k}" for k in range(ROWS)
        ]
        assert bench.computed()[-BATCH:] == [f"row {k}" for k in range(BATCH)]
    del os.environ["HASH_MODEL_LEDGER"]


def test_two_parts_at_once_share_one_model(bench: Bench) -> None:
    outcomes: list[PartOutcome] = []
    threads = [threading.Thread(target=lambda part=part: outcomes.append(bench.run(part))) for part in bench.parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((outcome.part, outcome.statuses["ok"]) for outcome in outcomes) == [(0, ROWS), (1, ROWS)]
    assert bench.worker.model.starts == 1 and sorted(bench.computed()) == sorted(f"row {k}" for k in range(2 * ROWS))
