"""Named places where a test can make the process kill itself, so that recovery is tested at every one of them.

`DELIVERY_FAIL_POINT=commit.before_create:2` sends SIGKILL to the process when it gets there for the second time.
"""

import os
import signal

VARIABLE = "DELIVERY_FAIL_POINT"
NAMES = (
    "stage.open",
    "stage.middle",
    "stage.after_fsync",
    "commit.before_create",
    "commit.after_create",
    "journal.before_write",
    "journal.middle",
    "journal.after_sync",
    "supersede.before",
    "supersede.after",
    "index.before",
    "index.after",
    "recover.scan",
    "recover.delete",
)


class FailPoints:
    """Counts the hits of the one fail point that the environment names; does nothing without it."""

    def __init__(self) -> None:
        name, _, hit = os.environ.get(VARIABLE, "").partition(":")
        if name and name not in NAMES:
            raise ValueError(f"{VARIABLE} names {name!r}; expected one of {', '.join(NAMES)}")
        self.name, self.left = name, int(hit or 1)

    def reach(self, name: str) -> None:
        """Kill this process at once, without any clean-up, if this is the hit that was asked for."""
        if name == self.name:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
