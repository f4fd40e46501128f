"""Names of files come from counters: whatever ids and addresses say, a run writes its own few files and no other."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ray_pipeline.worker
from jobs.run import execute, prepare
from ray_pipeline.delivery.commit import NAME, Output
from ray_pipeline.intake.manifest import ManifestRefused, open_manifest
from schemas.job import JobSettings
from schemas.manifest import Part
from tests.faults.hostile_names import ADDRESSES, COPIED, IDS, OWN, files_below, foreign_files, parts_alone, usable_ids, written
from tests.faults.naughty_strings import NAUGHTY
from tests.stand_ins.planted_model import load_planted


def whole_run(settings: JobSettings) -> int:
    """Everything, with Ray; how many files it must have made."""
    assert execute(prepare(settings, ("question",))) == 0
    index = json.loads((Path(settings.output) / "index.json").read_text())
    return len(index["parts"]) + 3


def check_files(folder: Path, do: Callable[[JobSettings], int]) -> None:
    ids = usable_ids()
    addresses = [*ADDRESSES, *["a.jpg"] * (len(ids) - len(ADDRESSES))]
    settings = written(folder, ids, addresses)
    before = files_below(folder)
    expected = do(settings)
    assert foreign_files(folder, before) == []
    assert len([name for name in files_below(folder) if OWN.fullmatch(name)]) == expected
    rows = pq.read_table(folder / "out" / "results").to_pylist()
    assert [(row["id"], row["image_uri"], row[COPIED]) for row in rows] == list(zip(ids, addresses, ids, strict=True))
    assert {row["status"] for row in rows[len(ADDRESSES) :]} == {"ok"}


def test_parts_are_the_only_files_a_worker_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_files(tmp_path, parts_alone)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_session")
def test_a_whole_run_writes_its_own_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pipeline.worker.WorkOrder.__init__, "__defaults__", (False, load_planted))
    monkeypatch.chdir(tmp_path)
    check_files(tmp_path, whole_run)


def test_there_are_names_that_look_alike_and_long_ones() -> None:
    ids = usable_ids()
    folded = [unicodedata.normalize("NFKC", name).casefold() for name in ids]
    assert len(ids) > 150 and len(set(folded)) < len(ids) and max(map(len, ids)) == 4096


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "\x1b[2J", "a\u2028b", "\x7f", "\x85"])
def test_ids_with_control_characters_are_refused(name: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [name], "image_uri": ["a.jpg"], "question": ["q"]}), tmp_path / "manifest.parquet")
    with pytest.raises(ManifestRefused, match="control character") as refused:
        open_manifest(str(tmp_path / "manifest.parquet"), None, ("question",), ())
    assert str(refused.value).isprintable()


def test_no_text_names_a_file_of_the_output(tmp_path: Path) -> None:
    """Even if one found its way there, the output takes names of counters and fixed words only."""
    (tmp_path / "inner").mkdir()
    output = Output(str(tmp_path / "inner" / "out"))
    for text in [*NAUGHTY, *IDS, *ADDRESSES]:
        for name in (text, f"results/{text}", f"results/{text}.parquet"):
            if NAME.fullmatch(name):
                continue  # a plain word
            for use in (
                lambda name=name: output.create(name, b""),
                lambda name=name: output.replace(name, b""),
                lambda name=name: output.read(name),
            ):
                with pytest.raises(ValueError, match="expected|committed once"):
                    use()
    assert files_below(tmp_path) == {"inner": (0, 0)}


def test_parts_are_named_by_their_number() -> None:
    names = [Part(number, number * 7, 7).name for number in (0, 1, 99_999, 100_000, 12_345_678)]
    assert names == [
        "part-00000.parquet",
        "part-00001.parquet",
        "part-99999.parquet",
        "part-100000.parquet",
        "part-12345678.parquet",
    ]
    assert len(set(names)) == len(names)
