"""Failures that may pass, told apart from final ones (`RowFailure`)."""

from schemas.status import Status


class PassingFailure(Exception):
    """Worth another try, after `wait_s` seconds where the server said so; a row's end when tries run out."""

    def __init__(self, status: Status, message: str, wait_s: float = 0.0) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message, self.wait_s = status, message, wait_s
