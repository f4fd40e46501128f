"""A disk that is full, over its quota or broken, at any call: an error for the caller, nothing partial for a reader."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.journal import Journal
from schemas.manifest import Part

PART, WHOLE, OTHER = "results/part-00000.parquet", b"whole" * 1000, b"other" * 1000
CALLS = {
    "write": errno.ENOSPC, "fsync": errno.EIO, "link": errno.EDQUOT, "mkdir": errno.ENOSPC, "open": errno.EDQUOT,
    "replace": errno.ENOSPC, "fdatasync": errno.EIO,
}  # fmt: skip


class Breaking:
    """Makes the n-th of these calls fail, once; `write` leaves half of its bytes behind."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, place: int) -> None:
        self.name, self.left, self.real = name, place, getattr(os, name)
        patch.setattr(os, name, self)
        patch.setattr("ray_pipeline.delivery.local_trails._sync_data", os.fdatasync)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            if self.name == "write":
                self.real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            raise OSError(CALLS[self.name], os.strerror(CALLS[self.name]))
        return self.real(*arguments, **options)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "fdatasync"])
def test_a_call_that_fails_leaves_nothing_partial(tmp_path: Path, name: str) -> None:
    failed = 0
    for place in range(1, 12):
        folder = tmp_path / str(place)
        with pytest.MonkeyPatch.context() as patch:
            Breaking(patch, name, place)
            output = Output(str(folder))
            try:
                output.replace("metrics.json", b"{}")
                output.create(PART, WHOLE)
            except OSError as error:
                failed += error.errno == CALLS[name]
        if output.exists(PART):
            assert output.read(PART) == WHOLE
        output.create(PART, OTHER)
        assert output.read(PART) in (WHOLE, OTHER)
        output.clean_staging()
        assert os.listdir(folder / ".staging") == []
    assert failed


@pytest.mark.parametrize("name", ["write", "fdatasync", "open", "mkdir", "fsync"])
def test_a_journal_that_fails_keeps_what_it_promised(tmp_path: Path, name: str) -> None:
    failed, part = 0, Part(0, 0, 99)
    for place in range(1, 12):
        output = Output(str(tmp_path / str(place)))
        journal, kept = Journal(output, part), set()
        with pytest.MonkeyPatch.context() as patch:
            Breaking(patch, name, place)
            for number in range(5):
                try:
                    journal.finish({number: {"id": str(number)}})
                    kept.add(number)
                except OSError as error:
                    failed += error.errno == CALLS[name]
        journal.finish({50: {"id": "50"}})
        rows = Journal(output, part).read().rows
        assert {*kept, 50} <= set(rows)
        assert all(row == {"id": str(number)} for number, row in rows.items())
    assert failed


FILLING = """
import errno, os, sys
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.journal import Journal
from schemas.manifest import Part
output, journal = Output(sys.argv[1]), Journal(Output(sys.argv[1]), Part(9, 0, 1000))
written = finished = 0
try:
    for written in range(100):
        output.create(f"results/part-{written:05d}.parquet", b"x" * 20_000)
except OSError as error:
    assert error.errno == errno.ENOSPC, error
try:
    for finished in range(1000):
        journal.finish({finished: {"id": "y" * 500}})
except OSError as error:
    assert error.errno == errno.ENOSPC, error
assert 3 < written < 100 and [len(output.read_result(name)) for name in output.list_results()] == [20_000] * written
os.unlink(f"{sys.argv[1]}/results/part-00000.parquet")
journal.finish({999: {"id": "after"}})
assert set(Journal(output, Part(9, 0, 1000)).read().rows) == {*range(finished), 999}
assert os.listdir(f"{sys.argv[1]}/.staging") == []
print("full")
"""


def test_a_file_system_that_is_full(tmp_path: Path) -> None:
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    script = f"mount -t tmpfs -o size=200k tmpfs {tmp_path} || exit 77; exec {sys.executable} -c '{FILLING}' {tmp_path}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("needs the right to mount")
    assert done.stdout == "full\n", done.stderr
