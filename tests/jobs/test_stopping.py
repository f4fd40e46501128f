"""Signals at chosen moments of a command: one exit code, one line, and nothing disturbs the way out."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs import answer
from jobs.stopping import SIGNALS, STOPPED, StopRequested, stoppable, undisturbed

LINE = "stopped by {}; the same command goes on from what is committed\n"


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The handlers of the test run are there again after every command."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def signalled(number: signal.Signals = signal.SIGTERM) -> int:
    signal.raise_signal(number)
    return 0


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_work_with_one_line(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    assert stoppable(lambda: signalled(number), ends_process=False) == STOPPED == 4
    assert capsys.readouterr().err == LINE.format(number.name)


@pytest.mark.parametrize("code", [0, 2, 3])
def test_without_a_signal_the_work_has_the_last_word(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert stoppable(lambda: code, ends_process=False) == code
    assert capsys.readouterr().err == ""


def test_an_exit_of_the_parser_passes() -> None:
    with pytest.raises(SystemExit) as ended:
        stoppable(lambda: sys.exit(15), ends_process=False)
    assert ended.value.code == 15


def cleaning_up() -> int:
    try:
        return signalled()
    finally:
        signal.raise_signal(signal.SIGINT)


def failing_clean_up() -> int:
    try:
        return signalled()
    finally:
        try:
            raise OSError("a failure of the clean-up, handled there")
        except OSError:
            signal.raise_signal(signal.SIGINT)


def suspicious() -> int:
    try:
        return signalled()
    except Exception:  # as broad as any code that stands in the way: a request to stop passes it
        return 77


def swallowing() -> int:
    try:
        return signalled(signal.SIGINT)
    except StopRequested:
        pass
    return signalled()


@pytest.mark.parametrize("work", [cleaning_up, failing_clean_up, suspicious, swallowing])
def test_the_way_out_is_taken_once_and_found_again(work: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert stoppable(work, ends_process=False) == STOPPED
    assert capsys.readouterr().err == LINE.format("SIGTERM")


def test_the_clean_up_ends_before_the_command_does() -> None:
    steps = []

    def work() -> int:
        try:
            return signalled()
        finally:
            for number in (*SIGNALS, *SIGNALS):
                signal.raise_signal(number)
                steps.append(number)

    assert stoppable(work, ends_process=False) == STOPPED and len(steps) == 4


@pytest.mark.parametrize("number", SIGNALS)
def test_an_undisturbed_block_is_left_at_its_end(number: signal.Signals) -> None:
    steps = []

    def work() -> int:
        with undisturbed():
            signal.raise_signal(number)
            signal.raise_signal(number)
            steps.append("block")
        steps.append("after it")
        return 0

    assert stoppable(work, ends_process=False) == STOPPED
    assert steps == ["block"]


def test_an_undisturbed_block_that_fails_after_a_signal_was_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        with undisturbed():
            signal.raise_signal(signal.SIGTERM)
            raise ConnectionError("the cluster went away with the signal")

    assert stoppable(work, ends_process=False) == STOPPED
    assert capsys.readouterr().err == LINE.format("SIGTERM")


def test_a_foreign_handler_is_not_taken_on() -> None:
    """Such as Ray's, which raises SystemExit. Other signals are the block's own business."""
    others = signal.getsignal(signal.SIGUSR2)
    set_signal = signal.signal

    def work() -> int:
        with undisturbed():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            signal.raise_signal(signal.SIGTERM)
        return 0

    try:
        assert stoppable(work, ends_process=False) == STOPPED
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN and signal.signal is set_signal
    finally:
        signal.signal(signal.SIGUSR2, others)


def test_a_command_within_a_command_is_stopped_once(capsys: pytest.CaptureFixture[str]) -> None:
    steps = []

    def outer() -> int:
        steps.append(stoppable(signalled, ends_process=True))
        return 0

    assert stoppable(outer, ends_process=False) == STOPPED
    assert steps == [] and capsys.readouterr().err == LINE.format("SIGTERM")


def test_outside_the_main_thread_it_only_works() -> None:
    codes = []

    def work() -> int:
        with undisturbed():
            return 3

    thread = threading.Thread(target=lambda: codes.append(stoppable(work, ends_process=True)))
    thread.start()
    thread.join()
    assert codes == [3]


PROCESS = """
import atexit, os, signal, sys
from jobs.stopping import SIGNALS, stoppable
def volley():
    for number in SIGNALS:
        os.kill(os.getpid(), number)
atexit.register(volley)
code = stoppable(lambda: volley() or 0 if sys.argv[1] == "4" else int(sys.argv[1]), ends_process=True)
volley()
sys.exit(code)
"""


@pytest.mark.parametrize("code", [0, 3, 4])
def test_late_signals_do_not_change_the_code_of_the_process(code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", PROCESS, str(code)], capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    assert ended.stderr == (LINE.format("SIGTERM") if code == STOPPED else "")


def test_a_signal_while_the_manifest_is_read_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jobs.run.open_manifest", lambda *arguments: signal.raise_signal(signal.SIGTERM))
    assert answer.main(["--manifest", str(tmp_path / "m.parquet"), "--output", str(tmp_path / "out")]) == STOPPED
    assert capsys.readouterr().err == LINE.format("SIGTERM")
    assert os.listdir(tmp_path) == []
