"""Failures that may pass, told apart from final ones (`RowFailure`)."""

import contextlib
import http.client
import ssl
from collections.abc import Iterator
from typing import Protocol

from ray_pipeline.intake.deadline import Deadline
from ray_pipeline.intake.redaction import named
from schemas.status import RowFailure, Status


class Origin(Protocol):
    """The host a failure came from."""

    def out(self, deadline: Deadline) -> bool:
        """Whether the host as a whole is out."""

    def given_up(self) -> str:
        """For how long it has been out, once rows no longer wait for it; else empty."""

    def pay(self, deadline: Deadline) -> None:
        """Wait until it may be asked again."""


class PassingFailure(Exception):
    """Worth another try, after `wait_s` seconds where the server said so; a row's end when tries run out.

    `busy`: the server says that it has too much to do. `origin` and `took_s` are filled in where a host was asked.
    """

    def __init__(self, status: Status, message: str, wait_s: float = 0.0, busy: bool = False) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message, self.wait_s, self.busy = status, message, wait_s, busy
        self.origin: Origin | None = None
        self.took_s = 0.0


@contextlib.contextmanager
def sorted_failures(shown: str) -> Iterator[None]:
    """Whatever the network or a disk raises becomes final (RowFailure) or passing."""
    try:
        yield
    except TimeoutError as error:
        raise PassingFailure(Status.FETCH_TIMEOUT, f"{shown}: no answer in time") from error
    except ssl.SSLCertVerificationError as error:
        raise RowFailure(Status.FETCH_FAILED, f"{shown}: {named(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        raise PassingFailure(Status.FETCH_FAILED, f"{shown}: {named(error)}") from error
