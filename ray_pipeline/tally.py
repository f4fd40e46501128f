"""What the workers of a run tell of themselves, gathered in one place: rows that have ended, and who can work at all.

A worker that cannot work (its model does not load, no decoder starts) keeps the parts it was given until nobody else has any
left: handing them back at once, it would be given all the others too, faster than those that work. Then they go to others.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

GRACE_S = 60.0  # workers that have not come yet get so long before those that cannot work end the run
HOLD_S = 600.0  # nothing was heard for so long: a part that nobody knows of may be why, so parts are handed back all the same
LOADING, FIT, UNFIT = "loading", "fit", "unfit"


@dataclass(frozen=True)
class _Worker:
    node: str
    state: str
    why: str


@dataclass
class _Pass:
    """One way through parts that are left: so many, for so many workers."""

    parts: int = 0
    expected: int = 0
    closed: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)
    workers: dict[str, _Worker] = field(default_factory=dict)
    heard_s: float = field(default_factory=time.monotonic)

    @property
    def silent_s(self) -> float:
        """Seconds since anybody told anything."""
        return time.monotonic() - self.heard_s

    @property
    def settled(self) -> bool:
        """Whether it is known of each worker that may be expected if it can work."""
        here = len(self.workers) >= self.expected or self.silent_s > GRACE_S
        return here and all(worker.state != LOADING for worker in self.workers.values())


class Tally:
    """Rows that have ended, by status, told by all workers. A worker that takes over a part tells its counts anew."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.open: dict[int, dict[str, int]] = {}
        self._pass = _Pass()

    def begin(self, parts: int, workers: int) -> None:
        """A new pass. What is known of workers is forgotten, what is known of rows stays."""
        self._pass = _Pass(parts, workers)

    def tell(self, part: int, statuses: dict[str, int], closed: bool) -> None:
        """The rows of a part that have ended so far; `closed` when nobody needs to do the part again."""
        before = self.open.pop(part, {})
        for status in statuses.keys() | before.keys():
            self.totals[status] = self.totals.get(status, 0) + statuses.get(status, 0) - before.get(status, 0)
        if closed:
            self._pass.closed.add(part)
        else:
            self.open[part] = statuses
        self._pass.heard_s = time.monotonic()

    def enter(self, worker: str, node: str, state: str, why: str = "") -> None:
        """What a worker on a node is from now on; `why` says in one line what an unfit one cannot do."""
        self._pass.workers[worker] = _Worker(node, state, why)
        self._pass.heard_s = time.monotonic()

    def hands_back(self, part: int) -> bool:
        """Whether an unfit worker may give up this part now."""
        now = self._pass
        now.held.add(part)
        nobody_else_has_any = len(now.closed | now.held) >= now.parts and now.settled
        if not nobody_else_has_any and now.silent_s < HOLD_S:
            return False
        now.heard_s = time.monotonic()
        return True

    def look(self) -> dict[str, Any]:
        """`counts` of rows by status; `unfit` workers with their reasons; `stuck`, why nobody can work, or null."""
        now = self._pass
        unfit = {name: worker.why for name, worker in now.workers.items() if worker.state == UNFIT}
        nobody = bool(unfit) and len(unfit) == len(now.workers) and now.settled
        counts = {status: rows for status, rows in self.totals.items() if rows}
        return {"counts": counts, "unfit": unfit, "stuck": next(iter(unfit.values())) if nobody else None}

    def fit_nodes(self) -> list[tuple[str, int]]:
        """Nodes with the number of their workers that can work, most first."""
        return Counter(worker.node for worker in self._pass.workers.values() if worker.state == FIT).most_common()
