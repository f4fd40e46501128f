"""How many requests a host gets side by side: halved when it has too many, one more after each full round of answers."""

_PATIENCE_S = 1.0
_TIMES_TYPICAL = 4.0
_NEW_WEIGHT = 0.2  # of one duration in the running mean


class Places:
    """Not thread-safe; times are the caller's clock in seconds.

    A request that takes far longer than the host's others lends its place: one address that hangs does not hold up
    the rest. All together they are never more than `most`.
    """

    def __init__(self, start: int, most: int) -> None:
        self.limit, self._most = float(min(start, most)), most
        self._began_s: dict[int, float] = {}
        self._next, self._typical_s, self._shrunk_s = 0, 0.0, float("-inf")

    @property
    def taken(self) -> int:
        return len(self._began_s)

    def free(self, now_s: float) -> bool:
        """Whether one more request may start."""
        return self.taken < self._most and self._lively(now_s) < int(self.limit)

    def enter(self, now_s: float) -> int:
        """Take a place, free or not; the number to leave it by."""
        self._next += 1
        self._began_s[self._next] = now_s
        return self._next

    def leave(self, place: int) -> None:
        """Give the place back."""
        del self._began_s[place]

    def grow(self, place: int, now_s: float) -> None:
        """The request of that place was answered. Unused room does not grow."""
        took_s = now_s - self._began_s[place]
        self._typical_s = took_s if not self._typical_s else self._typical_s + _NEW_WEIGHT * (took_s - self._typical_s)
        if 2 * self.taken >= self.limit:
            self.limit = min(float(self._most), self.limit + 1 / self.limit)

    def shrink(self, place: int, now_s: float) -> None:
        """The request of that place was one too many. Those that were under way at the last halving halve no more."""
        if self._began_s[place] >= self._shrunk_s:
            self.limit, self._shrunk_s = max(1.0, self.limit / 2), now_s

    def _lively(self, now_s: float) -> int:
        slow_s = max(_PATIENCE_S, _TIMES_TYPICAL * self._typical_s) if self._typical_s else float("inf")
        return sum(now_s - began_s <= slow_s for began_s in self._began_s.values())
