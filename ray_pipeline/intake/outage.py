"""Is a host out, or is it only the address that was asked for? Suspicion, proof, probing, and giving up."""

import random
from collections.abc import Callable
from enum import Enum

_WEIGHT_TO_SUSPECT = 4  # of failures in a row
_WEIGHT_OF_SILENCE = 2  # a row can afford few of those
_FIRST_GAP_S = 0.5
_LONGEST_GAP_S = 5.0


class State(Enum):
    """`SUSPECTED`: a witness, an address that worked before, is being asked. `OUT`: the witness failed too."""

    ANSWERS = "answers"
    SUSPECTED = "suspected"
    OUT = "out"


class Outage:
    """What requests report, summed up. Not thread-safe; times are the caller's clock in seconds.

    With `patience_s` of 0 nothing is ever suspected. `draw` gives 0..1: many processes must not probe in step.
    """

    def __init__(self, patience_s: float, draw: Callable[[], float] = random.random) -> None:
        self._patience_s, self._draw = patience_s, draw
        self.state = State.ANSWERS
        self._answered_s = self._began_s = self.next_probe_s = float("-inf")
        self._in_a_row, self._gap_s = 0, _FIRST_GAP_S

    def answered(self, now_s: float) -> None:
        """A request got its answer, good or final."""
        self.state, self._answered_s, self._in_a_row, self._gap_s = State.ANSWERS, now_s, 0, _FIRST_GAP_S

    def failed(self, began_s: float, now_s: float, silent: bool = False) -> None:
        """A request that began then failed. It speaks against the host only where nobody was answered meanwhile."""
        if began_s <= self._answered_s:
            return
        self._in_a_row += _WEIGHT_OF_SILENCE if silent else 1
        if self.state is State.ANSWERS and self._in_a_row >= _WEIGHT_TO_SUSPECT and self._patience_s:
            self.state, self._began_s, self.next_probe_s = State.SUSPECTED, now_s, float("inf")

    def confirm(self, now_s: float, asked_s: float = 0.0) -> None:
        """The witness failed, or there is none, or a later probe failed; the host asked to be left alone for `asked_s`."""
        if self.state is not State.ANSWERS:
            self.state = State.OUT
            self.next_probe_s = now_s + max(self._gap_s * (1 + self._draw()) / 2, min(asked_s, self._patience_s))

    def probe_due(self, now_s: float) -> bool:
        """Whether one request may see if the host is back."""
        return self.state is State.OUT and now_s >= self.next_probe_s

    def probing(self, now_s: float) -> None:
        """That request starts. The next one does not wait for its end: it may hang."""
        self._gap_s = min(_LONGEST_GAP_S, 2 * self._gap_s)
        self.next_probe_s = now_s + self._gap_s * (1 + self._draw()) / 2

    def shown(self, now_s: float) -> str:
        """For a message."""
        return f"the host has been out for {now_s - self._began_s:.0f} s"

    def given_up(self, now_s: float) -> bool:
        """It has been out for so long that rows are no longer kept waiting."""
        return self.state is State.OUT and now_s - self._began_s >= self._patience_s
