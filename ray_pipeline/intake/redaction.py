"""Addresses as they may be shown: credentials, query and fragment never reach a log, a result or an exception text."""

import re

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:(?:\\?/){2,3})([^\s'\"<>]*)")
_ODD_PORT = re.compile(r":(?![0-9]*$)[^:\]]*$")
_LONGEST = 300


def redacted(uri: str) -> str:
    """Scheme, host and path of one address; without user info, query and fragment, on one line, cut at 300 characters."""
    scheme, separator, rest = uri.partition("://")
    shown = f"{scheme}://{_without_secrets(rest)}" if separator else re.split(r"[?]", uri, maxsplit=1)[0]
    return _printable(shown)


def redacted_text(text: str) -> str:
    """Free text (an exception's, say) with every address in it redacted."""
    return _printable(_ADDRESS.sub(lambda found: found[1] + _without_secrets(found[2]), text))


def _without_secrets(rest: str) -> str:
    """What follows `://`. Everything before the last @ of the authority goes: parsers differ on which @ counts.

    So does a port that is no number: it may be a password whose @ got lost.
    """
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    return _ODD_PORT.sub("", authority.rpartition("@")[2]) + slash + path


def _printable(text: str) -> str:
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"
