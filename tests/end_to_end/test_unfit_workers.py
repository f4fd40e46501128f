"""Workers on which no model loads or no decoder starts: others do their parts, and where nobody can, the run ends and says so."""

import contextlib
import os
from pathlib import Path

import pytest

from jobs import answer
from ray_pipeline.worker import WorkOrder
from schemas.model import PromptSettings
from tests.faults.small_archive import SETTINGS, write_small_archive
from tests.stand_ins.hash_model import HashModel, load_hash

pytestmark = pytest.mark.usefixtures("ray_session")
ROWS = 12


def load_but_for_one(model: object, views: object, prompt: PromptSettings) -> HashModel:
    """The worker that comes first can never load. `prompt.generic`, which nobody reads, says where that is noted."""
    worker, first = str(os.getppid()), Path(prompt.generic)
    with contextlib.suppress(FileExistsError), first.open("x") as file:
        file.write(worker)
    if first.read_text() == worker:
        raise OSError("no such device")
    return HashModel()


def command(folder: Path, *settings: str) -> list[str]:
    manifest = write_small_archive(folder / "archive", ROWS)
    words = ["--manifest", str(manifest), "--output", str(folder / "out")]
    for setting in (*SETTINGS, "run.part_rows=2", "run.batch=2", f"prompt.generic={folder / 'first'}", *settings):
        words += ["--set", setting]
    return words


def test_the_parts_of_a_worker_that_cannot_load_go_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(WorkOrder.__init__, "__defaults__", (False, load_but_for_one))
    assert answer.main(command(tmp_path, "run.actors=2")) == 0
    said = capsys.readouterr()
    assert f"complete: {ROWS} rows in 6 parts (ok {ROWS})" in said.out
    assert said.err.count("a worker cannot work: OSError: no such device (on ") == 1


@pytest.mark.slow
def test_where_no_decoder_starts_the_run_ends_and_no_row_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(WorkOrder.__init__, "__defaults__", (False, load_hash))
    assert answer.main(command(tmp_path, "fetch.decode_memory_bytes=1000000")) == 3
    assert "no worker can work: the decoder process does not start: MemoryError" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("results/*"))
    assert answer.main(command(tmp_path)) == 0
