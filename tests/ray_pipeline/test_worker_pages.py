"""Documents in a worker: each page a row of its own, accounted for whatever breaks, whoever is killed, whatever is retried."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.delivery.audit import Expected, verify_output
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.committed_part import CommittedPart, read_part
from ray_pipeline.delivery.fingerprint import fingerprint
from ray_pipeline.delivery.index import complete
from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.fetch import Fetcher
from ray_pipeline.intake.manifest import Manifest, cut_parts, open_manifest, read_rows
from ray_pipeline.model_process import Answered, ModelProcess
from ray_pipeline.worker import FURTHER, PartOutcome, Worker, WorkOrder, tell_nobody
from schemas.job import JobSettings
from schemas.manifest import ManifestRow
from schemas.picture import Picture
from tests.ray_pipeline.intake import hostile_images as hostile
from tests.stand_ins.hash_model import load_hash
from tests.stand_ins.made_documents import RED, PdfSheet, encrypted_pdf, pdf, striped, tiff

BATCH, PART_ROWS = 3, 6
LONG = 11
ARCHIVE: list[tuple[str, bytes, int | None, list[int | None]]] = [  # name, file, page asked for, pages in the results
    ("letter.tif", tiff([striped(40 + k, 30, RED) for k in range(LONG)]), None, list(range(LONG))),
    ("photo.png", hostile.saved(hostile.noise(20, 20), "PNG"), None, [0]),
    ("report.pdf", pdf([PdfSheet(100 + 9 * k, 80) for k in range(3)], lost=[1]), None, [0, 1, 2]),
    ("letter.tif", b"", 4, [4]),
    ("locked.pdf", encrypted_pdf(), None, [None]),
    ("gone.tif", b"", None, [None]),
    ("moves.gif", hostile.animation("GIF", 3), None, [0, 1, 2]),
    ("photo.png", b"", 0, [0]),
]
PAGES = [(f"r{number}", page) for number, (_, _, _, found) in enumerate(ARCHIVE) for page in found]
FAILED = {("r2", 1): "decode_corrupt", ("r4", None): "decode_unsupported", ("r5", None): "fetch_not_found"}


@dataclass(frozen=True)
class Finished:
    """Rows, calls of the model, digests of the parts, the parts read back, what the audit found, the index, what was told."""

    rows: list[dict[str, Any]]
    asked: list[list[tuple[str, int | None]]]
    files: list[str]
    parts: list[CommittedPart]
    proof: list[str]
    index: dict[str, Any]
    told: dict[int, list[dict[str, int]]]

    def computed(self) -> list[tuple[str, int | None]]:
        return [one for call in self.asked for one in call]


def write_archive(folder: Path) -> Path:
    for name, data, _, _ in ARCHIVE:
        if data:
            (folder / name).write_bytes(data)
    columns = {
        "id": [f"r{number}" for number in range(len(ARCHIVE))],
        "image_uri": [name for name, _, _, _ in ARCHIVE],
        "page": pa.array([page for _, _, page, _ in ARCHIVE], pa.int32()),
        "question": [f"row {number}" for number in range(len(ARCHIVE))],
        "shelf": [f"s{number}" for number in range(len(ARCHIVE))],
    }
    pq.write_table(pa.table(columns), folder / "manifest.parquet")
    return folder / "manifest.parquet"


class Bench:
    """A worker on an output folder, with what was asked of its model, in order. The model process is one for all of them."""

    def __init__(self, worker: Worker, manifest: Path, output: Path, retry_failed: bool = False, task: str = "ocr") -> None:
        self.worker, self.settings, self.manifest = worker, settings(manifest, output, task), opened(manifest)
        worker.order, worker.output = order(self.settings, self.manifest, retry_failed), Output(str(output))
        worker.fetcher = Fetcher(self.settings.fetch, AddressPolicy.from_settings(self.settings.fetch, self.manifest.base, False))
        self.parts = cut_parts(self.manifest.rows, PART_ROWS)
        self.asked: list[list[tuple[str, int | None]]] = []
        self.before_call: Callable[[], None] = lambda: None
        self.afterwards: Callable[[ManifestRow, dict[str, Any]], dict[str, Any]] = lambda _, row: row

    def answer(self, asked: Sequence[tuple[ManifestRow, Picture]]) -> Answered:
        self.before_call()
        self.asked.append([(row.id, row.page) for row, _ in asked])
        answered = ModelProcess.answer(self.worker.model, asked)
        return Answered({place: self.afterwards(asked[place][0], row) for place, row in answered.rows.items()}, answered.death)

    def run(self) -> list[PartOutcome]:
        return [self.run_part(number) for number in range(len(self.parts))]

    def run_part(self, number: int) -> PartOutcome:
        part = self.parts[number]
        self.worker.model.answer = self.answer
        return self.worker.run(part, read_rows(self.manifest, part.first_row, part.rows))

    def rows(self) -> list[dict[str, Any]]:
        return [row for part in self.parts for row in pq.read_table(self.worker.output.uri + f"/results/{part.name}").to_pylist()]

    def files(self) -> list[str]:
        return [hashlib.sha256(self.worker.output.read(f"results/{part.name}")).hexdigest() for part in self.parts]

    def proof(self) -> list[str]:
        """Complete the folder as a driver does, and what its audit then finds."""
        facts = fingerprint(self.settings, self.manifest.digest, {})
        run = {"settings": self.settings.model_dump(mode="json"), "fingerprint": facts}
        self.worker.output.replace("run.json", json.dumps(run).encode())
        self.worker.output.reopen()
        complete(self.worker.output, self.parts, self.manifest.digest, facts)
        rows = read_rows(self.manifest, 0, self.manifest.rows)
        return verify_output(self.worker.output, Expected(self.manifest.digest, [r.id for r in rows], [r.page for r in rows]))

    def computed(self) -> list[tuple[str, int | None]]:
        return [one for call in self.asked for one in call]


def settings(manifest: Path, output: Path, task: str) -> JobSettings:
    run = {"batch": BATCH, "part_rows": PART_ROWS, "call_timeout_s": 60.0}
    chosen = {"manifest": str(manifest), "output": str(output), "run": run, "refine": {"method": "none"}, "task": task}
    return JobSettings.model_validate(chosen | {"passthrough": ["shelf"], "fetch": {"pdf": True, "pdf_dpi": 72}})


def opened(manifest: Path) -> Manifest:
    return open_manifest(str(manifest), None, ("question",), ("shelf",))


def order(chosen: JobSettings, manifest: Manifest, retry_failed: bool = False) -> WorkOrder:
    return WorkOrder(chosen, manifest.base, manifest.remote, manifest.passthrough, retry_failed, load_hash)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="module")
def worker(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with closing(Worker(order(settings(manifest, tmp_path_factory.mktemp("unused"), "ocr"), opened(manifest)))) as made:
        yield made


@pytest.fixture(scope="module")
def sound(worker: Worker, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """What one undisturbed run came to."""
    bench = Bench(worker, manifest, tmp_path_factory.mktemp("sound"))
    told: dict[int, list[dict[str, int]]] = {0: [], 1: []}
    worker.tell = lambda part, statuses: told[part].append(dict(statuses))
    outcomes = bench.run()
    worker.tell = tell_nobody
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert [outcome.rows for outcome in outcomes] == [18, 4]
    parts = [read_part(bench.worker.output.read(f"results/{part.name}")) for part in bench.parts]
    proof = bench.proof()
    return Finished(
        bench.rows(), bench.asked, bench.files(), parts, proof, json.loads(bench.worker.output.read("index.json")), told
    )


def test_each_page_is_a_row_in_the_order_of_manifest_and_pages(sound: Finished) -> None:
    rows = sound.rows
    assert [(row["id"], row["page"]) for row in rows] == PAGES
    assert {(row["id"], row["page"]): row["status"] for row in rows if row["status"] != "ok"} == FAILED
    assert sorted(sound.computed(), key=str) == sorted((page for page in PAGES if page not in FAILED), key=str)
    assert [row["shelf"] for row in rows] == [f"s{row['id'][1:]}" for row in rows]


def test_each_page_is_read_from_its_own_pixels(sound: Finished) -> None:
    rows = {(row["id"], row["page"]): row for row in sound.rows}
    assert [rows["r0", page]["image_width"] for page in range(LONG)] == [40 + page for page in range(LONG)]
    assert len({rows["r0", page]["answer"] for page in range(LONG)}) == LONG
    assert rows["r0", 4]["answer"] == rows["r3", 4]["answer"]  # asked for by number
    assert (rows["r2", 2]["image_width"], rows["r2", 2]["image_height"]) == (118, 80)


def test_all_pages_carry_the_digest_of_their_file(sound: Finished) -> None:
    files = {f"r{number}": hashlib.sha256(data).hexdigest() for number, (_, data, _, _) in enumerate(ARCHIVE) if data}
    for row in sound.rows:
        if row["page"] is not None and row["id"] in files:
            assert row["image_sha256"] == files[row["id"]]


def test_a_part_says_how_many_pages_its_documents_have_and_is_proven(sound: Finished) -> None:
    assert [part.documents for part in sound.parts] == [{0: LONG, 2: 3}, {6: 3}]
    assert sound.proof == []
    assert [(part["rows"], part["first_row"], part["documents"]) for part in sound.index["parts"]] == [
        (18, 0, {"0": LONG, "2": 3}), (4, 6, {"6": 3}),
    ]  # fmt: skip


def test_progress_hears_of_pages_as_soon_as_they_are_known(sound: Finished) -> None:
    """All documents of a slice are opened before its first batch ends."""
    first = next(one for one in sound.told[0] if FURTHER in one)
    assert first[FURTHER] == 12 and sum(first.values()) <= 12 + PART_ROWS
    assert sound.told[0][-1] == {"ok": 15, "decode_corrupt": 1, "decode_unsupported": 1, "fetch_not_found": 1, FURTHER: 12}
    assert sound.told[1][-1] == {"ok": 4, FURTHER: 2}


def test_what_shares_a_batch_is_fixed(sound: Finished) -> None:
    """First pages of a slice of the manifest together, further pages of each document among themselves."""
    calls = [sorted(call, key=str) for call in sound.asked]
    assert sorted(calls, key=str) == sorted(
        [
            [("r0", 0), ("r1", 0), ("r2", 0)], [("r3", 4)], [("r2", 2)],
            [("r0", 1), ("r0", 2), ("r0", 3)], [("r0", 4), ("r0", 5), ("r0", 6)], [("r0", 7), ("r0", 8), ("r0", 9)],
            [("r0", 10)], [("r6", 0), ("r7", 0)], [("r6", 1), ("r6", 2)],
        ],
        key=str,
    )  # fmt: skip


class Killed(BaseException):
    """Nothing in a worker catches it, as nothing catches a signal 9."""


def killed_after(calls: int) -> Callable[[], None]:
    left = [calls]

    def before_call() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    return before_call


@pytest.mark.parametrize("calls", [1, 3, 5])
def test_a_kill_costs_the_pages_in_flight_alone(
    worker: Worker, sound: Finished, manifest: Path, tmp_path: Path, calls: int
) -> None:
    first = Bench(worker, manifest, tmp_path)
    first.before_call = killed_after(calls)
    with pytest.raises(Killed):
        first.run()
    second = Bench(worker, manifest, tmp_path)
    outcomes = second.run()
    assert outcomes[0].failure is None and outcomes[0].recovered >= calls
    assert second.files() == sound.files
    assert sorted(first.computed() + second.computed(), key=str) == sorted(sound.computed(), key=str)


def test_a_document_that_was_finished_is_not_even_fetched_again(
    worker: Worker, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(worker, manifest, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(worker.output, "create", lambda *_: 1 / 0)
        assert "ZeroDivisionError" in (bench.run_part(1).failure or "")
    monkeypatch.setattr(worker.fetcher, "fetch", lambda uri: pytest.fail(f"{uri} was fetched"))
    outcome = bench.run_part(1)
    assert (outcome.failure, outcome.recovered, outcome.rows) == (None, 4, 4)


def test_retrying_takes_up_pages_and_documents(worker: Worker, tmp_path: Path) -> None:
    """A page that failed passingly, and a document that was not there; everything else is kept as it is."""
    archive, output = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    own = write_archive(archive)
    (archive / "photo.png").write_bytes(tiff([striped(25, 20, RED)] * 4))
    crashing = {("r0", 2), ("r1", 3)}
    first = Bench(worker, own, output)
    planted = {"status": "model_crash", "error": "planted"}
    first.afterwards = lambda asked, row: row | planted if (asked.id, asked.page) in crashing else row
    assert [outcome.failure for outcome in first.run()] == [None, None]
    assert first.proof() == []
    before = {(row["id"], row["page"]): row for row in first.rows()}
    assert {before[key]["status"] for key in crashing} == {"model_crash"}
    (archive / "gone.tif").write_bytes(tiff([striped(33, 22, RED), striped(34, 22, RED)]))
    (archive / "photo.png").unlink()  # pages that are there stay; the one that is missing cannot be had
    second = Bench(worker, own, output, retry_failed=True)
    second.worker.output.reopen()
    assert second.run_part(0).failure is None
    assert sorted(second.computed()) == [("r0", 2), ("r5", 0), ("r5", 1)]
    assert second.proof() == []
    after = {(row["id"], row["page"]): row for row in second.rows()}
    assert after["r0", 2]["status"] == "ok" and after["r5", 1]["image_width"] == 34 and ("r5", None) not in after
    assert after["r1", 3]["status"] == "fetch_not_found"
    changed = crashing | {("r5", None), ("r5", 0), ("r5", 1)}
    assert {key: after[key] for key in after.keys() - changed} == {key: before[key] for key in before.keys() - changed}


def test_a_document_that_has_changed_since_is_read_anew(worker: Worker, tmp_path: Path) -> None:
    archive, output = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    own = write_archive(archive)
    first = Bench(worker, own, output)
    first.before_call = killed_after(3)
    with pytest.raises(Killed):
        first.run()
    assert ("r0", 0) in first.computed()
    (archive / "letter.tif").write_bytes(tiff([striped(60 + k, 30, RED) for k in range(5)]))
    second = Bench(worker, own, output)
    assert second.run()[0].failure is None
    letter = [row for row in second.rows() if row["id"] == "r0"]
    assert [(row["page"], row["image_width"]) for row in letter] == [(k, 60 + k) for k in range(5)]
    assert len({row["image_sha256"] for row in letter}) == 1 and second.proof() == []


def test_other_tasks_take_the_first_page(worker: Worker, manifest: Path, tmp_path: Path) -> None:
    bench = Bench(worker, manifest, tmp_path, task="answer")
    bench.run()
    rows = bench.rows()
    assert [(row["id"], row["page"]) for row in rows] == [(f"r{k}", page) for k, (_, _, page, _) in enumerate(ARCHIVE)]
    assert rows[0]["image_width"] == 40 and rows[2]["image_width"] == 100
    assert bench.proof() == []
