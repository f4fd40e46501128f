"""The `Retry-After` header: seconds, or a date."""

import datetime
import email.utils
import time


def asked_wait_s(retry_after: str | None, date: str | None = None) -> float:
    """Seconds the server asks for, 0 where it asks for none or in no known form.

    A date counts from the reply's own `Date`, so that a clock that is wrong on either side does no harm.
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    until_s, now_s = _epoch_s(text), _epoch_s(date or "")
    return 0.0 if until_s is None else max(0.0, until_s - (time.time() if now_s is None else now_s))


def _epoch_s(text: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
