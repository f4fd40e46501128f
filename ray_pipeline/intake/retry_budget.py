"""How often a host may be asked again: retries are a share of its answers, so that one in trouble is not asked ever more."""

SHARE = 0.5  # retries per answer; enough for one failure in three
RESERVE = 20.0  # retries at the start, and the most that can be saved up
TRICKLE_PER_S = 1.0  # so that the last rows of a job, with no answers to earn from, end too


class RetryBudget:
    """A bucket of retries. Not thread-safe; times are the caller's clock in seconds."""

    def __init__(self, now_s: float) -> None:
        self._retries, self._filled_s = RESERVE, now_s

    def earn(self) -> None:
        """The host answered."""
        self._retries = min(RESERVE, self._retries + SHARE)

    def spend(self, now_s: float) -> bool:
        """Take one retry; False where there is none, and nothing is taken."""
        self._retries = min(RESERVE, self._retries + (now_s - self._filled_s) * TRICKLE_PER_S)
        self._filled_s = now_s
        if self._retries < 1:
            return False
        self._retries -= 1
        return True
