"""Stopping by signal: SIGTERM or SIGINT ends a command with one line and exit code 4, whatever it is doing.

This module imports nothing that takes time: a command listens before it loads the libraries it works with.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPED = 4
SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Read when Ray is imported. Without it Ray takes SIGTERM below Python while it runs and leaves it to the default after
# that, so that a signal in between ends the process with a trace of C++ frames instead of exit code 4.
BELOW_PYTHON = "RAY_DISABLE_FAILURE_SIGNAL_HANDLER"


class StopRequested(BaseException):
    """SIGTERM or SIGINT arrived; what is committed stays and the same command goes on from there.

    No `Exception`, as KeyboardInterrupt is none: nothing on the way out may take it for a failure of its own work.
    """


def stoppable(work: Callable[[], int], ends_process: bool) -> int:
    """The exit code of `work`, or STOPPED and one line on stderr where a signal broke it off.

    With `ends_process` the code is the last word of the process and later signals are ignored, so that an impatient
    second one cannot spoil it; otherwise the caller's handlers come back. In a thread that gets no signals, and within
    another `stoppable`, it only works.
    """
    if not _hears_signals() or signal.getsignal(signal.SIGTERM) is _stop:
        return work()
    os.environ.setdefault(BELOW_PYTHON, "1")
    before = {number: signal.getsignal(number) for number in SIGNALS}
    after = dict.fromkeys(SIGNALS, signal.SIG_IGN) if ends_process else before
    try:
        try:
            _set(dict.fromkeys(SIGNALS, _stop))
            return work()
        finally:
            _set(after)  # raises if a signal is waiting to be handled
    except StopRequested as stop:
        print(f"stopped by {stop}; the same command goes on from what is committed", file=sys.stderr)
        _set(after)
        return STOPPED


@contextmanager
def undisturbed() -> Iterator[None]:
    """A signal that comes while the block runs is heard at its end, and a handler that the block sets is not taken on.

    For starting and ending Ray: it forks, where an exception is lost or leaves half a process behind, and sets a handler
    of its own for SIGTERM.
    """
    if not _hears_signals():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    came: list[int] = []
    _set(dict.fromkeys(SIGNALS, lambda number, frame: came.append(number)))
    real = signal.signal

    def others_only(signalnum: int, handler: Any, /) -> Any:
        return signal.getsignal(signalnum) if signalnum in SIGNALS else real(signalnum, handler)

    signal.signal = others_only  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = real
        _set(before)
        if came:
            signal.raise_signal(came[0])


def _hears_signals() -> bool:
    return threading.current_thread() is threading.main_thread()


def _set(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave what is on its way out alone. A stop that some library swallowed is no longer on its way: it is raised again."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, StopRequested):
            return
        error = error.__context__
    raise StopRequested(signal.Signals(number).name)
