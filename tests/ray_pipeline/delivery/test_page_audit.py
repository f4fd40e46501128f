"""Documents taken apart: the audit misses no page, and lets none be doubled, foreign or out of place."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.delivery.audit import Expected, verify_output
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.committed_part import PartUnreadable, read_part
from ray_pipeline.delivery.fingerprint import fingerprint
from ray_pipeline.delivery.formats.parquet import PAGES_KEY, results_bytes
from ray_pipeline.delivery.index import build_index, index_bytes, write_index
from ray_pipeline.delivery.rows import failed_row
from schemas.job import JobSettings
from schemas.manifest import ManifestRow, Part
from schemas.status import RowFailure, Status

DIGEST = "5a" * 32
IDS = [f"d{number}" for number in range(7)]
PAGES: list[int | None] = [None, None, 4, None, None, None, None]  # the manifest's column
COUNTS = {0: 3, 3: 2, 5: 4}  # the others have one page, or could not be opened (6)
PARTS = [Part(0, 0, 4), Part(1, 4, 3)]
NOTHING = pa.schema([])


def facts(task: str) -> tuple[JobSettings, dict[str, Any]]:
    settings = JobSettings(manifest="m.parquet", output="out", task=task)
    return settings, fingerprint(settings, DIGEST, {})


def page_row(number: int, page: int | None) -> dict[str, Any]:
    return failed_row(ManifestRow(number, IDS[number], f"{number}.pdf", page), RowFailure(Status.DECODE_CORRUPT, "test"), None)


def rows_of(number: int) -> list[dict[str, Any]]:
    if number == 6:
        return [page_row(6, None)]
    if PAGES[number] is not None:
        return [page_row(number, PAGES[number])]
    return [page_row(number, page) for page in range(COUNTS.get(number, 1))]


def fill(folder: Path, task: str = "ocr") -> Output:
    output, (settings, digest) = Output(str(folder)), facts(task)
    output.create("run.json", json.dumps({"settings": settings.model_dump(mode="json"), "fingerprint": digest}).encode())
    for part in PARTS:
        numbers = range(part.first_row, part.first_row + part.rows)
        counts = {number: COUNTS.get(number, 1) for number in numbers if number != 6 and PAGES[number] is None}
        rows = [row for number in numbers for row in rows_of(number)]
        output.create(f"results/{part.name}", results_bytes(rows, NOTHING, counts))
    write_index(output, build_index(output, PARTS, DIGEST, digest))
    return output


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound_pages")
    fill(folder)
    return folder


def audit(folder: Path, pages: list[int | None] | None = PAGES) -> list[str]:
    return verify_output(Output(str(folder)), Expected(DIGEST, IDS, pages))


def test_a_sound_folder_is_proven(sound: Path) -> None:
    assert audit(sound) == [] and audit(sound, None) == [] and verify_output(Output(str(sound)), None) == []
    index = json.loads((sound / "index.json").read_bytes())
    assert index["rows"] == 13
    assert [(part["first_row"], part["rows"], part["documents"]) for part in index["parts"]] == [
        (0, 7, {"0": 3, "3": 2}), (4, 6, {"5": 4}),
    ]  # fmt: skip


def test_a_part_without_documents_says_nothing_of_them() -> None:
    rows = [page_row(1, 0), page_row(6, None)]
    assert results_bytes(rows, NOTHING, {1: 1}) == results_bytes(rows, NOTHING)
    assert read_part(results_bytes(rows, NOTHING)).documents == {}


Forge = Callable[[pa.Table], pa.Table]


def taken(*places: int) -> Forge:
    return lambda table: table.take(list(places))


def set_page(place: int, page: int | None) -> Forge:
    def forge(table: pa.Table) -> pa.Table:
        pages = table["page"].to_pylist()
        pages[place] = page
        return table.set_column(table.schema.get_field_index("page"), "page", pa.array(pages, pa.int32()))

    return forge


def said(counts: Any) -> Forge:
    return lambda table: table.replace_schema_metadata({PAGES_KEY: json.dumps(counts)})


def missing_and_unsaid(table: pa.Table) -> pa.Table:
    """The last page goes, and with it what speaks of it."""
    return said({"0": 2, "3": 2})(table.take([0, 1, 3, 4, 5, 6]))


FORGERIES: list[tuple[str, Forge, str]] = [  # what is done to the first part: rows d0.0 d0.1 d0.2 d1.0 d2.4 d3.0 d3.1
    ("a page is missing at the end", taken(0, 1, 3, 4, 5, 6), "has not the pages 0 to 2 for row 0"),
    ("a page is missing in the middle", taken(0, 2, 3, 4, 5, 6), "has not the pages 0 to 2 for row 0"),
    ("a page is doubled", taken(0, 1, 1, 2, 3, 4, 5, 6), "has not the pages 0 to 2 for row 0"),
    ("a page in the place of another", set_page(2, 1), "has not the pages 0 to 2 for row 0"),
    ("pages out of order", taken(1, 0, 2, 3, 4, 5, 6), "has not the pages 0 to 2 for row 0"),
    ("pages of another document", taken(0, 1, 2, 3, 4, 5, 5), "has not the pages 0 to 1 for row 3"),
    ("documents out of order", taken(5, 6, 3, 4, 0, 1, 2), "has not the pages 0 to 2 for row 0"),
    ("a page of a document that has one", set_page(3, 1), "has page 1 for row 1; the manifest has null"),
    ("another page than was asked for", set_page(4, 0), "has page 0 for row 2; the manifest has 4"),
    ("no page where one was asked for", set_page(4, None), "has page null for row 2; the manifest has 4"),
    ("fewer pages said", said({"0": 2, "3": 2}), "other documents than index.json"),
    ("nothing said", said({}), "other documents than index.json"),
    ("pages of a row of another part", said({"0": 3, "3": 2, "9": 2}), "2 pages for row 9, which is none of its own"),
    ("one page said", said({"0": 3, "3": 2, "1": 1}), "more than one page"),
    ("a list", said([3, 2]), "expected an object"),
    ("no number", said({"0": 3, "3": 2, "x": 2}), "counts of more than one page"),
    ("a page that is missing, and unsaid", missing_and_unsaid, "other documents than index.json"),
]


@pytest.mark.parametrize(("forge", "says"), [one[1:] for one in FORGERIES], ids=[one[0] for one in FORGERIES])
@pytest.mark.parametrize("column", [False, True])
def test_a_forged_part_is_found(sound: Path, tmp_path: Path, forge: Forge, says: str, column: bool) -> None:
    """Though index and digests agree with it."""
    folder = Path(shutil.copytree(sound, tmp_path / "out"))
    path = folder / "results/part-00000.parquet"
    table = pq.read_table(path)
    kept = {PAGES_KEY: table.schema.metadata[PAGES_KEY]}
    forged = forge(table)
    pq.write_table(forged if PAGES_KEY in (forged.schema.metadata or {}) else forged.replace_schema_metadata(kept), path)
    index = json.loads((folder / "index.json").read_bytes())
    data = path.read_bytes()
    index["parts"][0] |= {"rows": forged.num_rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "index.json").write_bytes(index_bytes(index))
    findings = audit(folder, PAGES if column else None)
    expected = column or "the manifest has" not in says
    assert not expected or any(says in finding for finding in findings), findings


@pytest.mark.parametrize("documents", [[], {"0": 1}, {"x": 3}, {"0": "3"}, {"0": 99}, {"0": True}])
def test_an_index_with_unreadable_documents_is_found(sound: Path, tmp_path: Path, documents: Any) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "out"))
    index = json.loads((folder / "index.json").read_bytes())
    index["parts"][0]["documents"] = documents
    (folder / "index.json").write_bytes(index_bytes(index))
    assert any("index.json is unreadable" in finding for finding in audit(folder))


def test_a_run_that_takes_no_documents_apart_has_none(tmp_path: Path) -> None:
    fill(tmp_path, "answer")
    findings = audit(tmp_path)
    assert any("takes none apart" in finding for finding in findings)


def test_an_index_of_torn_documents_is_refused(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    rows = [page_row(0, 0), page_row(0, 2), page_row(1, 0)]
    output.create("results/part-00000.parquet", results_bytes(rows, NOTHING, {0: 2}))
    with pytest.raises(PartUnreadable, match="has not the pages 0 to 1 for row 0"):
        build_index(output, [Part(0, 0, 2)], DIGEST, {})
    with pytest.raises(PartUnreadable, match="2 rows; expected 3, as planned"):
        build_index(output, [Part(0, 0, 3)], DIGEST, {})
