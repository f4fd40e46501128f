"""How far a run is: one live line on a terminal, now and then a log line elsewhere."""

import sys
import time
from collections.abc import Mapping

from ray_pipeline.worker import FURTHER
from schemas.status import Status

LOG_EVERY_S = 10.0


class Progress:
    """Counts rows as they end. rows = ok + failed + remaining at every moment.

    `growing`: pages count as rows, and how many there are is known when the last document has been opened. Until then total and
    time left are least ones. Rows of an earlier run count as the manifest's then, without their further pages.
    """

    def __init__(self, rows: int, growing: bool = False) -> None:
        self.rows, self.growing, self.done, self.failed, self.earlier = rows, growing, 0, 0, 0
        self.started = time.monotonic()
        self.said = -LOG_EVERY_S  # the first rows are always news
        self.live, self.all_said = sys.stderr.isatty(), False

    def skip(self, rows: int) -> None:
        """Rows that an earlier run has committed."""
        self.earlier = rows
        if rows:
            self._say(f"{rows} of {self.rows} rows{' of the manifest' if self.growing else ''} are there from an earlier run")

    def follow(self, statuses: Mapping[str, int]) -> None:
        """So many rows of this run have ended, by status."""
        total = self.rows + statuses.get(FURTHER, 0)
        self.done = min(sum(rows for status, rows in statuses.items() if status != FURTHER), total - self.earlier)
        self.failed = self.done - min(self.done, statuses.get(Status.OK, 0))
        elapsed = time.monotonic() - self.started
        rate = self.done / elapsed if elapsed else 0.0
        left = total - self.earlier - self.done
        least = "at least " if self.growing and left else ""
        eta = f"{least}{left / rate:.0f} s left" if rate else "?"
        counted = f"{self.earlier + self.done}{' of at least ' if least else '/'}{total} rows"
        text = f"{counted}, {self.failed} errors, {rate:.2f} rows/s, {eta}"
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
