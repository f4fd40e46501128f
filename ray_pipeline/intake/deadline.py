"""A moment by which work must end, and what to cut off when it has not."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Expired(Exception):
    """The work did not end in time."""


class Deadline:
    """`seconds` from now. Workers register how a blocking call of theirs can be cut from outside."""

    def __init__(self, seconds: float) -> None:
        self._end_s = time.monotonic() + seconds
        self._cuts: list[Callable[[], None]] = []
        self._over = threading.Event()
        self._lock = threading.Lock()

    def remaining_s(self) -> float:
        """Seconds left, 0 when over."""
        return 0.0 if self._over.is_set() else max(0.0, self._end_s - time.monotonic())

    def sleep(self, seconds: float) -> None:
        """Wait, but not past the end; giving up early is the caller's business."""
        self._over.wait(min(seconds, self.remaining_s()))

    def on_expiry(self, cut: Callable[[], None]) -> None:
        """Have `cut` called when time is up; at once if it is already."""
        with self._lock:
            if not self._over.is_set():
                self._cuts.append(cut)
                return
        cut()

    def expire(self) -> None:
        """Cut everything registered. Safe to call twice."""
        with self._lock:
            self._over.set()
            cuts, self._cuts = self._cuts, []
        for cut in cuts:
            cut()


class _Outcome(Generic[T]):
    """Result or exception of one piece of work, set by its thread."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: list[T] = []
        self.error: BaseException | None = None

    def run(self, work: Callable[[], T], finally_do: Callable[[], None]) -> None:
        try:
            self.value.append(work())
        except BaseException as error:  # handed to the waiting thread, which raises it
            self.error = error
        finally:
            finally_do()
            self.done.set()


class Workers:
    """Threads that may be given up. A call that ignores its deadline keeps its place until it ends on its own,
    so that a dead server costs at most `most` threads."""

    def __init__(self, most: int) -> None:
        self._places = threading.BoundedSemaphore(most)

    def run(self, deadline: Deadline, work: Callable[[], T]) -> T:
        """Result of `work`, run in a thread of its own.

        Raises:
            Expired: time is up, or no place came free in time. The work was cut where it let itself be cut.
        """
        if not self._places.acquire(timeout=deadline.remaining_s()):
            raise Expired
        outcome = _Outcome[T]()
        thread = threading.Thread(target=outcome.run, args=(work, self._places.release), name="fetch", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._places.release()
            raise
        if not outcome.done.wait(deadline.remaining_s()):
            deadline.expire()
            raise Expired
        if outcome.error is not None:
            raise outcome.error
        return outcome.value[0]
