"""A moment by which work must end, and what to cut off when it has not."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_STANDING_CHECK_S = 0.1


class Expired(Exception):
    """The work did not end in time."""


class Deadline:
    """`seconds` of own time from now, and at most `spare_s` more during which the clock stood still.

    Workers register how a blocking call of theirs can be cut from outside.
    """

    def __init__(self, seconds: float, spare_s: float = 0.0) -> None:
        self._end_s = time.monotonic() + seconds
        self._last_end_s = self._end_s + spare_s
        self._standing_since_s: float | None = None
        self._cuts: list[Callable[[], None]] = []
        self._over = threading.Event()
        self._lock = threading.Lock()

    def remaining_s(self) -> float:
        """Seconds left, 0 when over. Does not shrink while the clock stands, until the spare time is used up."""
        with self._lock:
            now_s = time.monotonic()
            return 0.0 if self._over.is_set() else max(0.0, self._end_at(now_s) - now_s)

    def most_s(self) -> float:
        """Seconds left if all of the spare time were used."""
        return 0.0 if self._over.is_set() else max(0.0, self._last_end_s - time.monotonic())

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """The clock stands: what is waited for is not the work's fault. Not to be nested."""
        self._standing_since_s = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._end_s, self._standing_since_s = self._end_at(time.monotonic()), None

    def give_back(self, seconds: float) -> None:
        """Count `seconds` that have passed as if the clock had stood."""
        with self._lock:
            self._end_s = min(self._end_s + seconds, self._last_end_s)

    def sleep(self, seconds: float) -> None:
        """Wait, but not past the end; giving up early is the caller's business."""
        self._over.wait(min(seconds, self.remaining_s()))

    def sleep_standing(self, seconds: float) -> None:
        """Wait while the clock stands, but not past the very end."""
        with self.standing():
            self._over.wait(min(seconds, self.most_s()))

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

    def wait_for(self, done: threading.Event) -> bool:
        """Whether `done` was set in time."""
        while remaining_s := self.remaining_s():
            # While the clock stands, a small rest would have this loop spin.
            if done.wait(remaining_s if self._standing_since_s is None else max(_STANDING_CHECK_S, remaining_s)):
                return True
        return done.is_set()

    def _end_at(self, now_s: float) -> float:
        since_s = self._standing_since_s
        return self._end_s if since_s is None else min(self._end_s + now_s - since_s, self._last_end_s)


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
        if not deadline.wait_for(outcome.done):
            deadline.expire()
            raise Expired
        if outcome.error is not None:
            raise outcome.error
        return outcome.value[0]
