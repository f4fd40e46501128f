"""What a run says of itself where nobody watches a terminal."""

import re

import pytest

from jobs.progress import Progress
from ray_pipeline.worker import FURTHER


def test_lines_come_now_and_then_and_the_last_one_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(10)
    progress.skip(4)
    for statuses in ({}, {"ok": 1}, {"ok": 2}, {"ok": 4, "fetch_failed": 2}, {"ok": 4, "fetch_failed": 2}):
        progress.follow(statuses)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "4 of 10 rows are there from an earlier run"
    assert [line.split(" rows")[0] for line in lines[1:]] == ["5/10", "10/10"]
    assert "10/10 rows, 2 errors" in lines[-1]


def test_rows_told_twice_are_never_more_than_there_are() -> None:
    progress = Progress(3)
    progress.follow({"ok": 4, "skipped": 1})
    assert (progress.done, progress.failed) == (3, 0)


def test_the_total_grows_with_the_pages_of_documents(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(5, growing=True)
    progress.skip(2)
    for statuses in ({"ok": 1}, {"ok": 2, "decode_corrupt": 1, FURTHER: 9}, {"ok": 11, "decode_corrupt": 1, FURTHER: 9}):
        progress.said = -100.0
        progress.follow(statuses)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "2 of 5 rows of the manifest are there from an earlier run"
    assert [line.split(" rows")[0] for line in lines[1:]] == ["3 of at least 5", "5 of at least 14", "14/14"]
    assert "1 errors" in lines[2] and re.search(r", at least \d+ s left$", lines[2])
