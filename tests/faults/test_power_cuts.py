"""After a power cut at any moment a name holds the whole file, and what was promised to be there is there."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.journal import Journal, records
from schemas.manifest import Part
from tests.faults.power_cuts import WatchedDisk

PART, WHOLE = "results/part-00000.parquet", b"whole" * 1000


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[[Callable[[WatchedDisk], None]], WatchedDisk]]:
    """Starts to watch the empty folder `tmp_path`, and looks at the disk after each call."""
    with pytest.MonkeyPatch.context() as patch:
        yield lambda look: WatchedDisk(str(tmp_path), patch, look)


def test_a_committed_name_is_whole_at_every_moment_and_stays(tmp_path: Path, watched) -> None:
    def look(disk: WatchedDisk) -> None:
        for state in (disk.lazy(), disk.eager()):
            assert state.get(f"out/{PART}", WHOLE) == WHOLE

    disk = watched(look)
    output = Output(f"{tmp_path}/out")
    assert output.create(PART, WHOLE)
    assert disk.lazy()[f"out/{PART}"] == disk.eager()[f"out/{PART}"] == WHOLE
    assert not Output(f"{tmp_path}/out").create(PART, b"other")
    order = [call for call in disk.calls if call in ("write", "fsync", "link")]
    assert order.index("link") > order.index("fsync", order.index("write"))
    assert order[order.index("link") + 1] == "fsync"


def test_a_commit_that_is_lost_is_made_last_by_who_finds_it(tmp_path: Path, watched) -> None:
    output = Output(f"{tmp_path}/out")
    disk = watched(lambda disk: None)
    staged = tmp_path / "out" / "results"
    assert output.create("results/part-00001.parquet", b"x")
    os.close(os.open(tmp_path / "made", os.O_CREAT | os.O_WRONLY))
    os.link(tmp_path / "made", staged / "part-00000.parquet")  # a writer that died between link and sync
    assert f"out/{PART}" not in disk.lazy()
    assert not output.create(PART, WHOLE)
    assert f"out/{PART}" in disk.lazy()


def test_a_replaced_file_is_the_old_or_the_new_one(tmp_path: Path, watched) -> None:
    allowed = {b"old" * 99}

    def look(disk: WatchedDisk) -> None:
        for state in (disk.lazy(), disk.eager()):
            assert state.get("out/metrics.json", b"old" * 99) in allowed

    disk = watched(look)
    output = Output(f"{tmp_path}/out")
    output.replace("metrics.json", b"old" * 99)
    assert disk.lazy()["out/metrics.json"] == b"old" * 99
    allowed.add(b"new" * 99)
    output.replace("metrics.json", b"new" * 99)
    assert disk.lazy()["out/metrics.json"] == b"new" * 99


def test_a_withdrawn_index_stays_withdrawn(tmp_path: Path, watched) -> None:
    disk = watched(lambda disk: None)
    output = Output(f"{tmp_path}/out")
    output.create("index.json", b"{}")
    output.reopen()
    assert "out/index.json" not in disk.lazy()


def test_a_record_of_the_journal_is_there_when_its_call_returns(tmp_path: Path, watched) -> None:
    disk = watched(lambda disk: None)
    journal = Journal(Output(f"{tmp_path}/out"), Part(0, 0, 9))

    def said() -> list[dict[str, object]]:
        found = [data for name, data in disk.lazy().items() if name.startswith("out/.journal/")]
        return [record for data in found for record in records(data)]

    journal.suspect([1, 2])
    assert [record["suspect"] for record in said()] == [[1, 2]]
    journal.finish({1: {"a": 1}})
    assert said()[-1]["finish"] == {"1": {"a": 1}}


def test_the_model_of_a_disk_notices_what_was_forgotten(tmp_path: Path, watched) -> None:
    disk = watched(lambda disk: None)
    descriptor = os.open(tmp_path / "a", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"data")
    assert disk.eager() == {"a": b""} and disk.lazy() == {}
    os.fsync(descriptor)
    assert disk.eager() == {"a": b"data"} and disk.lazy() == {}
    os.close(descriptor)
    folder = os.open(tmp_path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    assert disk.eager() == disk.lazy() == {"a": b"data"}
