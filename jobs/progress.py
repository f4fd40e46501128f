"""How far a run is: one live line on a terminal, now and then a log line elsewhere."""

import sys
import time

from ray_pipeline.worker import PartOutcome
from schemas.status import Status

LOG_EVERY_S = 10.0


class Progress:
    """Counts rows as parts come back. rows = ok + failed + remaining at every moment."""

    def __init__(self, rows: int) -> None:
        self.rows, self.done, self.failed, self.earlier = rows, 0, 0, 0
        self.started = time.monotonic()
        self.said = -LOG_EVERY_S  # the first part is always news
        self.live = sys.stderr.isatty()

    def skip(self, rows: int) -> None:
        """Rows that an earlier run has committed."""
        self.earlier = rows
        if rows:
            self._say(f"{rows} of {self.rows} rows are there from an earlier run")

    def advance(self, outcome: PartOutcome) -> None:
        """A part came back."""
        if outcome.committed:
            self.done += outcome.rows
            self.failed += outcome.rows - outcome.statuses.get(Status.OK, 0)
        elapsed = time.monotonic() - self.started
        rate = self.done / elapsed if elapsed else 0.0
        left = self.rows - self.earlier - self.done
        eta = f"{left / rate:.0f} s left" if rate else "?"
        text = f"{self.earlier + self.done}/{self.rows} rows, {self.failed} errors, {rate:.2f} rows/s, {eta}"
        if self.live:
            print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)
        elif elapsed - self.said >= LOG_EVERY_S or left == 0:
            self.said = elapsed
            self._say(text)

    def close(self) -> None:
        """End the live line."""
        if self.live:
            print(file=sys.stderr)

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
