"""Every way a row can end, and whether `--retry-failed` may compute it again."""

from enum import StrEnum


class Status(StrEnum):
    """`ok`, or the stage that failed and how. One manifest row gives exactly one result row with one of these."""

    OK = "ok"
    FETCH_DENIED = "fetch_denied"
    FETCH_NOT_FOUND = "fetch_not_found"
    FETCH_TIMEOUT = "fetch_timeout"
    FETCH_TOO_LARGE = "fetch_too_large"
    FETCH_FAILED = "fetch_failed"
    DECODE_UNSUPPORTED = "decode_unsupported"
    DECODE_CORRUPT = "decode_corrupt"
    DECODE_TOO_LARGE = "decode_too_large"
    DECODE_CRASH = "decode_crash"
    DECODE_TIMEOUT = "decode_timeout"
    MODEL_OOM = "model_oom"
    MODEL_CRASH = "model_crash"
    MODEL_TIMEOUT = "model_timeout"
    INVALID_OUTPUT = "invalid_output"
    SKIPPED = "skipped"


RETRYABLE = frozenset(
    {
        Status.FETCH_NOT_FOUND,  # archives are filled while they are read
        Status.FETCH_TIMEOUT,
        Status.FETCH_FAILED,
        Status.DECODE_CRASH,
        Status.DECODE_TIMEOUT,
        Status.MODEL_OOM,
        Status.MODEL_CRASH,
        Status.MODEL_TIMEOUT,
    }
)


class RowFailure(Exception):
    """A row cannot be completed: its status and one line saying what happened, free of secrets."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, " ".join(message.split())[:500]

    def __reduce__(self) -> tuple[type["RowFailure"], tuple[Status, str]]:
        return RowFailure, (self.status, self.message)
