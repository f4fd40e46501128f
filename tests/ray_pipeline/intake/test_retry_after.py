"""The header in all its forms."""

import time

import pytest

from ray_pipeline.intake.retry_after import asked_wait_s


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        (None, None, 0),
        ("", None, 0),
        ("0", None, 0),
        ("120", None, 120),
        (" 7 ", None, 7),
        ("-3", None, 0),
        ("1.5", None, 0),
        ("٣", None, 0),  # a digit, but none of HTTP's
        ("soon", None, 0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:29 GMT", 30),
        ("Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 31 Dec 1999 23:59:59 -0000", "Fri, 31 Dec 1999 23:59:49 GMT", 10),
        ("Fri, 31 Dec 1999 23:59:59 GMT", "Sat, 01 Jan 2000 00:10:00 GMT", 0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None, 0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None, 0),
        ("9" * 400, None, float("inf")),
    ],
)
def test_forms(header: str | None, date: str | None, seconds: float) -> None:
    assert asked_wait_s(header, date) == seconds


def test_without_the_reply_s_date_our_clock_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 946684790.0)
    assert asked_wait_s("Sat, 01 Jan 2000 00:00:00 GMT") == 10
    assert asked_wait_s("Sat, 01 Jan 2000 00:00:00 GMT", "nonsense") == 10
