"""Index and audit: a sound folder is proven; each byte changed, file lost, added or swapped is found."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_pipeline.delivery.audit import Expected, verify_output
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.committed_part import PartUnreadable
from ray_pipeline.delivery.fingerprint import fingerprint
from ray_pipeline.delivery.formats.parquet import results_bytes
from ray_pipeline.delivery.index import build_index, complete, index_bytes, write_index
from ray_pipeline.delivery.rows import PictureFacts, failed_row, ok_row
from schemas.job import JobSettings
from schemas.manifest import ManifestRow, Part
from schemas.result import Perception, Refinement
from schemas.status import RowFailure, Status

DIGEST = "5a" * 32
IDS = [f"page-{number}" for number in range(17)]
PARTS = [Part(0, 0, 7), Part(1, 7, 7), Part(2, 14, 3)]
SETTINGS = JobSettings(manifest="m.parquet", output="out", passthrough=("shelf",))
FACTS = fingerprint(SETTINGS, DIGEST, {"model.safetensors": "77" * 32})
SHELF = pa.schema([("shelf", pa.string())])
FILES = ["index.json", "run.json", *(f"results/{part.name}" for part in PARTS)]


def result(number: int) -> dict[str, Any]:
    row = ManifestRow(number, IDS[number], f"{number}.png", None, "what?", {"shelf": "b"})
    if number % 6 == 5:
        return failed_row(row, RowFailure(Status.DECODE_CORRUPT, "cut off"), None)
    said = Perception(f"it is {number}", 0.5, None, None, None, None, Refinement("none", (), False, "off"), (), 1, 196)
    return ok_row(row, PictureFacts(30, 20, "00" * 32), said)


def fill(uri: str, complete: bool = True) -> Output:
    output = Output(uri)
    output.create(
        "run.json",
        json.dumps({"settings": SETTINGS.model_dump(mode="json"), "fingerprint": FACTS, "versions": {"a": "1"}}).encode(),
    )
    for part in PARTS:
        rows = [result(number) for number in range(part.first_row, part.first_row + part.rows)]
        output.create(f"results/{part.name}", results_bytes(rows, SHELF))
    if complete:
        write_index(output, build_index(output, PARTS, DIGEST, FACTS))
    return output


def audit(folder: Path, ids: list[str] | None = None, digest: str = DIGEST) -> list[str]:
    return verify_output(Output(str(folder)), Expected(digest, iter(IDS if ids is None else ids)))


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    fill(str(folder))
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "out"))


def test_a_sound_folder_is_proven(sound: Path) -> None:
    assert audit(sound) == []
    assert verify_output(Output(str(sound)), None) == []
    memory = fill("memory://audited/out")
    assert verify_output(memory, Expected(DIGEST, IDS)) == []
    assert memory.read("index.json") == (sound / "index.json").read_bytes()


def test_the_index_says_what_is_there(sound: Path) -> None:
    index = json.loads((sound / "index.json").read_bytes())
    assert index["rows"] == 17 and index["statuses"] == {"decode_corrupt": 2, "ok": 15} and index["manifest_digest"] == DIGEST
    assert [(entry["name"], entry["first_row"], entry["rows"]) for entry in index["parts"]] == [
        ("part-00000.parquet", 0, 7), ("part-00001.parquet", 7, 7), ("part-00002.parquet", 14, 3),
    ]  # fmt: skip
    assert (sound / "index.json").read_bytes().endswith(b"}\n")


def test_the_index_is_committed_once(sound: Path, folder: Path) -> None:
    output = Output(str(folder))
    again = build_index(output, PARTS, DIGEST, FACTS)
    assert index_bytes(again) == output.read("index.json")
    assert not write_index(output, {**again, "rows": 0})
    assert audit(folder) == []


def test_an_index_from_before_a_part_was_computed_again_is_replaced(folder: Path) -> None:
    output = Output(str(folder))
    old = output.read("index.json")
    assert index_bytes(complete(output, PARTS, DIGEST, FACTS)) == output.read("index.json") == old
    rows = [result(number) | {"error": "other"} for number in range(14, 17)]
    output.reopen()
    output.supersede("results/part-00002.parquet", results_bytes(rows, SHELF))
    output.create("index.json", old)  # by a driver that measured the part before
    assert audit(folder)
    complete(output, PARTS, DIGEST, FACTS)
    assert audit(folder) == [] and output.read("index.json") != old


def test_an_index_that_comes_while_a_part_is_replaced_is_withdrawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, other = Output(str(folder)), Output(str(folder))
    old, name = output.read("index.json"), "results/part-00002.parquet"
    with pytest.raises(ValueError, match=r"vouched for by index.json"):
        output.supersede(name, b"new")
    output.reopen()
    replace = output._store.replace
    monkeypatch.setattr(output._store, "replace", lambda *new: (other.create("index.json", old), replace(*new)))
    output.supersede(name, b"new")
    assert output.read(name) == b"new" and not output.exists("index.json")


def test_parts_that_never_rest_have_no_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output(str(folder))
    monkeypatch.setattr(output, "create", lambda *_: False)
    monkeypatch.setattr(output, "reopen", lambda: None)
    with pytest.raises(OSError, match="one run on this folder at a time"):
        complete(output, PARTS, DIGEST, FACTS | {"other": 1})


@pytest.mark.parametrize(
    ("part", "refusal", "says"),
    [
        (Part(9, 0, 7), FileNotFoundError, "part-00009"),
        (Part(0, 0, 8), PartUnreadable, r"results/part-00000.parquet: 7 rows; expected 8"),
    ],
)
def test_an_index_of_parts_that_are_not_as_planned_is_refused(
    folder: Path, part: Part, refusal: type[Exception], says: str
) -> None:
    with pytest.raises(refusal, match=says):
        build_index(Output(str(folder)), [part], DIGEST, FACTS)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1" * 100])
def test_an_index_of_an_unreadable_part_is_refused(folder: Path, damage: bytes) -> None:
    (folder / "results/part-00001.parquet").write_bytes(damage)
    with pytest.raises(PartUnreadable, match=r"results/part-00001.parquet: unreadable"):
        build_index(Output(str(folder)), PARTS, DIGEST, FACTS)


@functools.cache
def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, database=None
)
@given(name=st.sampled_from(FILES), share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), with_manifest=st.booleans())
def test_each_flipped_bit_is_found(sound: Path, folder: Path, name: str, share: float, bit: int, with_manifest: bool) -> None:
    data = bytearray(contents(sound)[name])
    data[int(share * len(data))] ^= 1 << bit
    (folder / name).write_bytes(data)
    try:
        assert verify_output(Output(str(folder)), Expected(DIGEST, iter(IDS)) if with_manifest else None)
    finally:
        (folder / name).write_bytes(contents(sound)[name])


def test_each_byte_of_the_side_files_counts(sound: Path, folder: Path) -> None:
    for name in ("index.json", "run.json"):
        for place in range(0, len(contents(sound)[name]), 13):
            data = bytearray(contents(sound)[name])
            data[place] ^= 1
            (folder / name).write_bytes(data)
            assert verify_output(Output(str(folder)), None), (name, place)
        (folder / name).write_bytes(contents(sound)[name])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_file_cut_short_is_found(folder: Path, name: str, kept: float) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(kept * len(data))])
    assert any(name in finding for finding in audit(folder))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_grew_is_found(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    assert any(name in finding for finding in audit(folder))


@pytest.mark.parametrize("name", FILES)
def test_a_lost_file_is_found(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert any(f"{name} is missing" in finding for finding in audit(folder))


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_a_files_place_is_found(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    assert any(f"{name} cannot be read" in finding for finding in audit(folder))


@pytest.mark.parametrize("name", ["part-00003.parquet", "part-00000.parquet.bak", "x\x1b[31m", ".hidden", "\u202efdp"])
def test_a_surplus_file_is_found_and_shown_harmlessly(folder: Path, name: str) -> None:
    (folder / "results" / name).write_bytes(b"")
    findings = audit(folder)
    assert len(findings) == 1 and findings[0].endswith("is not in the index")


def test_swapped_parts_are_found(folder: Path) -> None:
    first, second = folder / "results/part-00000.parquet", folder / "results/part-00001.parquet"
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b), second.write_bytes(a)
    assert len(audit(folder)) >= 2


Forgery = Callable[[dict[str, Any], Path], None]


def forged_part(folder: Path, index: dict[str, Any], place: int, table: pa.Table) -> None:
    """Write the table as a part and make the index agree with it."""
    from ray_pipeline.delivery.committed_part import read_part

    path = folder / "results" / index["parts"][place]["name"]
    pq.write_table(table, path)
    found = read_part(path.read_bytes())
    index["parts"][place] |= {"rows": found.rows, "bytes": found.bytes, "sha256": found.sha256}


def part_table(folder: Path, number: int) -> pa.Table:
    return pq.read_table(folder / f"results/part-{number:05d}.parquet")


def swap_rows(index: dict[str, Any], folder: Path) -> None:
    forged_part(folder, index, 1, part_table(folder, 1).take([1, 0, 2, 3, 4, 5, 6]))


def double_row(index: dict[str, Any], folder: Path) -> None:
    table = part_table(folder, 2)
    forged_part(folder, index, 2, pa.concat_tables([table, table.slice(2, 1)]))


def drop_row(index: dict[str, Any], folder: Path) -> None:
    forged_part(folder, index, 2, part_table(folder, 2).slice(0, 2))
    index["rows"] -= 1
    index["statuses"]["ok"] -= 1


def replace_column(number: int, name: str, values: list[Any], kind: Any) -> Forgery:
    def forge(index: dict[str, Any], folder: Path) -> None:
        table = part_table(folder, number)
        forged_part(folder, index, number, table.set_column(table.schema.get_field_index(name), name, pa.array(values, kind)))

    return forge


def rename_shelf(index: dict[str, Any], folder: Path) -> None:
    for number in range(3):
        forged_part(folder, index, number, part_table(folder, number).rename_columns({"shelf": "rack"}))


def no_parquet(index: dict[str, Any], folder: Path) -> None:
    import hashlib

    (folder / "results/part-00001.parquet").write_bytes(b"PAR1 no PAR1")
    index["parts"][1] |= {"bytes": 12, "sha256": hashlib.sha256(b"PAR1 no PAR1").hexdigest()}


def set_index(**change: Any) -> Forgery:
    return lambda index, folder: index.update(change)


def set_part(**change: Any) -> Forgery:
    return lambda index, folder: index["parts"][1].update(change)


def drop_last_part(index: dict[str, Any], folder: Path) -> None:
    entry = index["parts"].pop()
    (folder / "results" / entry["name"]).unlink()
    index["rows"] -= 3
    index["statuses"]["ok"] -= 3


FORGERIES: list[tuple[Forgery, str]] = [
    (swap_rows, "row 7 has id 'page-8'; the manifest has 'page-7'"),
    (double_row, "row 17 has id 'page-16'; the manifest has nothing"),
    (drop_row, "1 rows of the manifest are not in the results"),
    (drop_last_part, "3 rows of the manifest are not in the results"),
    (replace_column(2, "status", ["ok", "ok", "fine"], pa.string()), "unknown status fine in 1 rows"),
    (replace_column(2, "status", ["ok", "ok", None], pa.string()), "unknown status None in 1 rows"),
    (replace_column(2, "id", ["page-14", "page-15", None], pa.string()), "row 16 has id None"),
    (replace_column(2, "views", [1, 1, 1], pa.int64()), "other columns than the first part"),
    (replace_column(0, "views", [1] * 7, pa.int64()), "column views: int64"),
    (rename_shelf, "pass-through columns are ['rack']"),
    (no_parquet, "part-00001.parquet is unreadable"),
    (set_index(rows=18), "18 rows; its parts have 17"),
    (set_index(statuses={"ok": 17}), "rows per status"),
    (set_index(manifest_digest="00"), "manifest digest"),
    (set_index(fingerprint_sha256="00"), "its fingerprint is not the one"),
    (set_index(run_sha256="00"), "its sha256 is not the one"),
    (set_index(version=2), "version 2; expected 1"),
    (set_index(rows=True), "unreadable"),
    (set_index(rows=-1), "unreadable"),
    (set_index(parts={}), "unreadable"),
    (set_index(parts=[7]), "unreadable"),
    (set_part(rows="7"), "unreadable"),
    (set_part(rows=6), "has 7 rows; expected 6"),
    (set_part(first_row=8), "starts at row 8; expected 7"),
    (set_part(name="part-00000.parquet"), "is called part-00000.parquet"),
    (set_part(name="../run.json"), "without a folder"),
    (set_part(name="a\0b"), "without a folder"),
]  # fmt: skip


@pytest.mark.parametrize(("forge", "says"), FORGERIES, ids=range(len(FORGERIES)))
def test_a_forged_index_is_found(folder: Path, forge: Forgery, says: str) -> None:
    index = json.loads((folder / "index.json").read_bytes())
    forge(index, folder)
    (folder / "index.json").write_bytes(index_bytes(index))
    findings = audit(folder)
    assert any(says in finding for finding in findings), findings


@pytest.mark.parametrize(
    ("ids", "digest", "says"),
    [
        (IDS[:-1], DIGEST, "row 16 has id 'page-16'; the manifest has nothing"),
        ([*IDS, "page-17", "page-18"], DIGEST, "2 rows of the manifest are not in the results"),
        ([*IDS[:3], "page-3\n", *IDS[4:]], DIGEST, "row 3 has id 'page-3'"),
        ([], DIGEST, "row 0 has id 'page-0'; the manifest has nothing"),
        (IDS, "00" * 32, "manifest digest is 0000"),
    ],
)
def test_another_manifest_is_found(sound: Path, ids: list[str], digest: str, says: str) -> None:
    assert any(says in finding for finding in audit(sound, ids, digest))


@pytest.mark.parametrize("run", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"settings": 1, "fingerprint": {}}'])
def test_an_unreadable_run_file_is_found(folder: Path, run: bytes) -> None:
    (folder / "run.json").write_bytes(run)
    assert any("run.json is unreadable" in finding for finding in audit(folder))


def test_a_run_that_did_not_finish_is_found(tmp_path: Path) -> None:
    fill(str(tmp_path), complete=False)
    assert audit(tmp_path) == ["index.json is missing: the run is not complete"]
