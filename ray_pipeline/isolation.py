"""Rows through the model process: whoever kills it is found by halving, tried alone, and set aside with a status.

    a batch of B dies            -> its two halves, one after the other, until a row is alone
    a row dies alone, twice      -> quarantined: its own status, and never handed over again
    the worker died as well      -> the journal says who was with the model; the next worker begins where this one ended:
                                    once as before (most deaths come from outside), then in halves, then alone

So a row that kills costs at most log2(B) + 2 processes, and one that takes the whole worker along cannot do so for ever.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ray_pipeline.model_process import Answered, Death
from schemas.manifest import Key

DEATHS_ALONE = 2  # with the worker alive: nobody but the row was there, and the second time rules out bad luck
WORKER_DEATHS_ALONE = 3  # the worker's own death may have come from outside while an innocent row was in


class History:
    """Which rows were with the model when earlier workers died: `suspects` as the journal recovers them."""

    def __init__(self, suspects: Sequence[Sequence[Key]]) -> None:
        self._held = [frozenset(group) for group in suspects]

    def deaths(self, number: Key) -> int:
        """How many hand-overs with this row never ended."""
        return sum(number in group for group in self._held)

    def condemned(self, number: Key) -> bool:
        """Whether the row was alone often enough to be set aside without another try."""
        return sum(group == {number} for group in self._held) >= WORKER_DEATHS_ALONE

    def groups(self, numbers: Sequence[Key]) -> Iterator[Sequence[Key]]:
        """The rows of a batch as they may be handed over: together, or in ever smaller groups after every second death."""
        deaths = max((self.deaths(number) for number in numbers), default=0)
        size = max(1, len(numbers) >> max(0, deaths - 1))
        return (numbers[start : start + size] for start in range(0, len(numbers), size))


def isolated(
    numbers: Sequence[Key], hand_over: Callable[[Sequence[Key]], Answered], history: History
) -> tuple[dict[Key, dict[str, Any]], dict[Key, Death]]:
    """Result rows of those that ended, and how the process died of those that had to be set aside; every number once.

    `hand_over` asks the model process for rows and returns what it got, and the process's death if that came between.
    """
    rows: dict[Key, dict[str, Any]] = {}
    quarantined: dict[Key, Death] = {}
    alone: dict[Key, int] = {}
    for group in history.groups(numbers):
        waiting = [group]
        while waiting:
            answered = hand_over(now := waiting.pop())
            rows.update(answered.rows)
            left = [number for number in now if number not in answered.rows]
            if answered.death is None or not left:
                continue
            if len(now) == 1:
                alone[left[0]] = alone.get(left[0], 0) + 1
                if alone[left[0]] == DEATHS_ALONE:
                    quarantined[left[0]] = answered.death
                    continue
                waiting.append(left)
                continue
            half = (len(left) + 1) // 2
            waiting += [part for part in (left[half:], left[:half]) if part]
    return rows, quarantined
