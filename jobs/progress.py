"""How far a run is: one live line on a terminal, now and then a log line elsewhere."""

import sys
import time
from collections.abc import Mapping

from schemas.status import Status

LOG_EVERY_S = 10.0


class Progress:
    """Counts rows as they end. rows = ok + failed + remaining at every moment."""

    def __init__(self, rows: int) -> None:
        self.rows, self.done, self.failed, self.earlier = rows, 0, 0, 0
        self.started = time.monotonic()
        self.said = -LOG_EVERY_S  # the first rows are always news
        self.live, self.all_said = sys.stderr.isatty(), False

    def skip(self, rows: int) -> None:
        """Rows that an earlier run has committed."""
        self.earlier = rows
        if rows:
            self._say(f"{rows} of {self.rows} rows are there from an earlier run")

    def follow(self, statuses: Mapping[str, int]) -> None:
        """So many rows of this run have ended, by status."""
        self.done = min(sum(statuses.values()), self.rows - self.earlier)
        self.failed = self.done - min(self.done, statuses.get(Status.OK, 0))
        elapsed = time.monotonic() - self.started
        rate = self.done / elapsed if elapsed else 0.0
        left = self.rows - self.earlier - self.done
        eta = f"{left / rate:.0f} s left" if rate else "?"
        text = f"{self.earlier + self.done}/{self.rows} rows, {self.failed} errors, {rate:.2f} rows/s, {eta}"
        if self.live:
            print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)
        elif self.done and (elapsed - self.said >= LOG_EVERY_S or (left == 0 and not self.all_said)):
            self.said, self.all_said = elapsed, left == 0
            self._say(text)

    def close(self) -> None:
        """End the live line."""
        if self.live:
            print(file=sys.stderr)

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
