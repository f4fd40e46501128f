"""A worker's parts: nothing is computed twice, nothing waits for a slow file but its own batch, two parts share one model."""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.journal import Journal
from ray_pipeline.intake import decode
from ray_pipeline.intake.manifest import Manifest, cut_parts, open_manifest, read_rows
from ray_pipeline.model_process import ModelUnavailable
from ray_pipeline.models.weights import model_digests, model_folder
from ray_pipeline.worker import Fetched, PartOutcome, Worker, WorkOrder, _refuse_other_model, tell_nobody
from schemas.job import JobSettings
from schemas.manifest import ManifestRow, Part
from tests.faults.small_archive import write_small_archive
from tests.stand_ins.hash_model import load_hash

ROWS, BATCH = 16, 4


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_archive(tmp_path_factory.mktemp("archive"), 2 * ROWS)


@pytest.fixture(scope="module")
def worker(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Its model process serves all tests. What it computes is noted in one file, which each test begins anew."""
    folder = tmp_path_factory.mktemp("worker")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HASH_MODEL_LEDGER", str(folder / "ledger"))
        with closing(Worker(order(archive, folder))) as made:
            yield made


def order(manifest_file: Path, output: Path) -> WorkOrder:
    run = {"batch": BATCH, "part_rows": ROWS, "call_timeout_s": 60.0}
    chosen = {"manifest": str(manifest_file), "output": str(output), "run": run, "refine": {"method": "none"}}
    manifest = open_manifest(str(manifest_file), None, ("question",), ())
    settings = JobSettings.model_validate(chosen)
    return WorkOrder(settings, manifest.base, manifest.remote, manifest.passthrough, False, load_hash)


class Bench:
    """The worker on a fresh output folder, with the ledger of what its model computed."""

    def __init__(self, worker: Worker, manifest_file: Path, folder: Path, ledger_file: Path) -> None:
        self.worker, self.output, self.ledger_file = worker, folder / "out", ledger_file
        worker.order, worker.output, worker.tell = order(manifest_file, self.output), Output(str(self.output)), tell_nobody
        self.manifest: Manifest = open_manifest(str(manifest_file), None, ("question",), ())
        self.parts = cut_parts(self.manifest.rows, ROWS)
        ledger_file.unlink(missing_ok=True)

    def run(self, part: Part) -> PartOutcome:
        return self.worker.run(part, read_rows(self.manifest, part.first_row, part.rows))

    def computed(self) -> list[str]:
        """Questions in the order in which the model met them."""
        return [line.split("\t")[0] for line in self.ledger_file.read_text().splitlines()] if self.ledger_file.exists() else []

    def rows(self, part: Part) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = pq.read_table(self.output / "results" / part.name).to_pylist()
        return found


@pytest.fixture
def bench(worker: Worker, archive: Path, tmp_path: Path) -> Bench:
    return Bench(worker, archive, tmp_path, Path(os.environ["HASH_MODEL_LEDGER"]))


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


def test_what_a_worker_lacks_is_no_row_s_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No decoder starts, then no model: nothing is written, and once both are there the part is done as ever."""
    part = bench.parts[0]
    monkeypatch.setattr(decode, "_PAUSE_S", 0.0)
    for decoder in bench.worker.decoders:
        decoder.close()
    with monkeypatch.context() as patch:
        patch.setattr(decode, "_command", lambda pdf: [sys.executable, "-I", "-c", "import nothing_of_the_kind"])
        outcome = bench.run(part)
    assert outcome.unfit and "decoder process does not start: ModuleNotFoundError" in (outcome.failure or "")

    def refuse() -> None:
        raise ModelUnavailable("no such device")

    with monkeypatch.context() as patch:
        patch.setattr(bench.worker.model, "start", refuse)
        outcome = bench.run(part)
    assert (outcome.unfit, outcome.failure, outcome.statuses) == (True, "no such device", {})
    assert not (bench.output / "results" / part.name).exists()
    outcome = bench.run(part)
    assert (outcome.statuses, outcome.failure, outcome.unfit) == ({"ok": ROWS}, None, False)


def test_a_worker_with_other_weights_than_the_driver_refuses() -> None:
    settings = JobSettings.model_validate({"manifest": "m", "output": "o"})
    own = model_digests(model_folder("embedded"))
    name = next(name for name in own if name.endswith(".safetensors"))
    _refuse_other_model(WorkOrder(settings, "", False, pa.schema([]), model_sha256=own))
    wrong = {
        rf"found another {name} here \({own[name][:12]}\), expected {'0' * 12}": own | {name: "0" * 64},
        r"found another more\.json here \(absent\), expected 0": own | {"more.json": "0" * 64},
        rf"found another {name} here \({own[name][:12]}\), expected absent": {k: v for k, v in own.items() if k != name},
    }
    for said, expected in wrong.items():
        with pytest.raises(ModelUnavailable, match=said):
            _refuse_other_model(WorkOrder(settings, "", False, pa.schema([]), model_sha256=expected))
    settings = JobSettings.model_validate({"manifest": "m", "output": "o", "model": {"name": "/nowhere/at/all"}})
    with pytest.raises(ModelUnavailable, match="no folder there"):
        _refuse_other_model(WorkOrder(settings, "", False, pa.schema([]), model_sha256=own))


def test_a_slow_file_holds_up_its_own_batch_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    others_done = threading.Event()

    def tell(part: int, statuses: Mapping[str, int]) -> None:
        if sum(statuses.values()) == ROWS - BATCH:
            others_done.set()

    fetch = bench.worker.fetch

    def slow(row: ManifestRow) -> Fetched:
        if row.number == 1:
            assert others_done.wait(60.0), "the other batches wait for this file"
        return fetch(row)

    monkeypatch.setattr(bench.worker, "tell", tell)
    monkeypatch.setattr(bench.worker, "fetch", slow)
    outcome = bench.run(bench.parts[0])
    assert outcome.statuses == {"ok": ROWS} and [row["id"] for row in bench.rows(bench.parts[0])] == [
        f"r{k}" for k in range(ROWS)
    ]
    assert bench.computed()[-BATCH:] == [f"row {k}" for k in range(BATCH)]


def test_two_parts_at_once_share_one_model(bench: Bench) -> None:
    outcomes: list[PartOutcome] = []
    bench.worker.model.start()
    starts = bench.worker.model.starts
    threads = [threading.Thread(target=lambda part=part: outcomes.append(bench.run(part))) for part in bench.parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((outcome.part, outcome.statuses["ok"]) for outcome in outcomes) == [(0, ROWS), (1, ROWS)]
    assert bench.worker.model.starts == starts and sorted(bench.computed()) == sorted(f"row {k}" for k in range(2 * ROWS))
