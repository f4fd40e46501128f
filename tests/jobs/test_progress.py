"""What a run says of itself where nobody watches a terminal."""

import pytest

from jobs.progress import Progress


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
