"""One host as all threads of a fetcher meet it: how many ask at a time, how often again, and who waits while it is out.

A host that is out is asked by one probe now and then; everybody else waits without using up tries or time of their own.
Whether it is out, and not merely one bad address, is settled by a witness: an address that it served before.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from ray_pipeline.intake.addresses import Address
from ray_pipeline.intake.deadline import Deadline, Expired, Workers
from ray_pipeline.intake.outage import Outage, State
from ray_pipeline.intake.passing import PassingFailure
from ray_pipeline.intake.places import Places
from ray_pipeline.intake.retry_budget import RetryBudget
from schemas.status import RowFailure, Status

T = TypeVar("T", bound=Sequence[int | str])
Read = Callable[[Address, Deadline], T]

MOST_AT_A_TIME = 64
_MOST_PROBES = 3
_WITNESSES = 4
_WITNESS_BYTES = 1 << 20  # a witness is read whole: what fails in the middle of a body must fail for it too
_LONGEST_WAIT_S = 0.25  # before a waiting thread looks whether its row's time is up


class Host:
    """`at_a_time` requests to begin with; `probe_s` is the time a probe gets; rows wait out `outage_s` seconds."""

    def __init__(self, at_a_time: int, probe_s: float, outage_s: float) -> None:
        self._news = threading.Condition()
        self._places = Places(at_a_time, MOST_AT_A_TIME)
        self._budget = RetryBudget(time.monotonic())
        self._outage = Outage(outage_s)
        self._witnesses: deque[Address] = deque(maxlen=_WITNESSES)
        self._workers, self._probe_s = Workers(_MOST_PROBES), probe_s
        self._probes, self._turn, self._proved_s = 0, 0, float("-inf")

    def ask(self, deadline: Deadline, address: Address, read: Read[T]) -> T:
        """What `read` returns, when it is this request's turn.

        Raises:
            PassingFailure, with its origin and the seconds it took. RowFailure. Expired.
        """
        came_s = time.monotonic()
        while isinstance(turn := self._enter(deadline, came_s, address), Address):
            with deadline.standing():
                self._probe(turn, read)
        place, began_s = turn, time.monotonic()
        try:
            answer = read(address, deadline)
        except PassingFailure as failure:
            failure.origin, failure.took_s = self, time.monotonic() - began_s
            if self._failed(place, began_s, failure):
                with deadline.standing():
                    self._call_witness(read, failure.wait_s)
            raise
        except RowFailure:
            self._answered(place)
            raise
        except BaseException:
            self._leave(place)
            raise
        self._answered(place, address if len(answer) <= _WITNESS_BYTES else None)
        return answer

    def out(self, deadline: Deadline) -> bool:
        """Whether the failure just met was the host's: then it costs the row nothing, and the next `ask` waits.

        Waits for the witness where one is being asked.
        """
        with deadline.standing(), self._news:
            while self._outage.state is State.SUSPECTED and deadline.remaining_s():
                self._news.wait(_LONGEST_WAIT_S)
            return self._outage.state is State.OUT

    def given_up(self) -> str:
        """For how long the host has been out, in words, once that is longer than rows wait; else empty."""
        now_s = time.monotonic()
        with self._news:
            return self._outage.shown(now_s) if self._outage.given_up(now_s) else ""

    def pay(self, deadline: Deadline) -> None:
        """Take one retry from what is allowed, or wait for it.

        Raises:
            Expired: none came free in time.
        """
        with deadline.standing(), self._news:
            while not self._budget.spend(time.monotonic()):
                if not deadline.remaining_s():
                    raise Expired
                self._news.wait(_LONGEST_WAIT_S)

    def _enter(self, deadline: Deadline, came_s: float, address: Address) -> int | Address:
        """Wait for this request's turn: a place is its own. An address: be the probe, ask for that one, and come again.

        Where the host has been given up, no row ends without proof from after it came: a failed witness, or a failed try
        of its own if the host has never answered.
        """
        with deadline.standing(), self._news:
            while deadline.remaining_s():
                now_s = time.monotonic()
                if self._outage.probe_due(now_s) and self._probes < _MOST_PROBES:
                    self._outage.probing(now_s)
                    self._turn += 1
                    # Now and then the row itself: a witness may have been taken away, and would fail for ever.
                    choice = self._turn % (len(self._witnesses) + 1)
                    return self._witnesses[choice - 1] if choice else self._places.enter(now_s)
                given_up = self._outage.given_up(now_s)
                if given_up and self._witnesses and self._proved_s >= came_s:
                    raise RowFailure(Status.FETCH_FAILED, f"{address.shown}: {self._outage.shown(now_s)}")
                if (self._outage.state is State.ANSWERS or (given_up and not self._witnesses)) and self._places.free(now_s):
                    return self._places.enter(now_s)
                self._news.wait(_LONGEST_WAIT_S)
        raise Expired

    def _leave(self, place: int) -> None:
        with self._news:
            self._places.leave(place)
            self._news.notify_all()

    def _answered(self, place: int, witness: Address | None = None) -> None:
        with self._news:
            now_s = time.monotonic()
            self._outage.answered(now_s)
            self._budget.earn()
            self._places.grow(place, now_s)
            if witness is not None and witness not in self._witnesses:
                self._witnesses.append(witness)
        self._leave(place)

    def _failed(self, place: int, began_s: float, failure: PassingFailure) -> bool:
        """Take note; True where this failure has raised the suspicion, which the caller then settles."""
        with self._news:
            now_s, before = time.monotonic(), self._outage.state
            self._outage.failed(began_s, now_s, failure.status is Status.FETCH_TIMEOUT)
            if failure.busy or before is State.OUT:  # an address that fails for itself takes no place from the others
                self._places.shrink(place, now_s)
            if before is State.OUT and not self._outage.given_up(now_s):
                self._outage.confirm(now_s, failure.wait_s)
            raised = self._outage.state is State.SUSPECTED and before is State.ANSWERS
        self._leave(place)
        return raised

    def _call_witness(self, read: Read[T], asked_s: float) -> None:
        with self._news:
            witness = self._witnesses[-1] if self._witnesses else None
        if witness is None:
            with self._news:
                self._outage.confirm(time.monotonic(), asked_s)
                self._news.notify_all()
        else:
            self._probe(witness, read)

    def _probe(self, witness: Address, read: Read[T]) -> None:
        """Ask for an address that worked before, and tell everybody."""
        began_s, asked_s, answers = time.monotonic(), 0.0, False
        with self._news:
            self._probes += 1
        try:
            deadline = Deadline(self._probe_s)
            with contextlib.suppress(Expired):
                self._workers.run(deadline, lambda: read(witness, deadline))
                answers = True
        except RowFailure:  # not there any more, say: an answer all the same
            answers = True
        except PassingFailure as failure:
            asked_s = failure.wait_s
        finally:
            with self._news:
                self._probes -= 1
                now_s = time.monotonic()
                if answers:
                    self._outage.answered(now_s)
                else:
                    self._outage.confirm(now_s, asked_s)
                    self._proved_s = began_s
                self._news.notify_all()


class Hosts:
    """The hosts a fetcher has met, by name. Safe to share between threads."""

    def __init__(self, at_a_time: int, probe_s: float, outage_s: float) -> None:
        self._facts = (at_a_time, probe_s, outage_s)
        self._known: dict[str, Host] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Host:
        with self._lock:
            if name not in self._known:
                self._known[name] = Host(*self._facts)
            return self._known[name]
