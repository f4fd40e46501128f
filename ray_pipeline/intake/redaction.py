"""Addresses as they may be shown: credentials, query and fragment never reach a log, a result or an exception text."""

import http.client
import re

from ray_pipeline.scrubbing import scrubbed

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}:(?:\\?/){2,3})([^\s'\"<>]*)")
_ODD_PORT = re.compile(r":(?![0-9]*$)[^:\]]*$")
_LONGEST = 300


def redacted(uri: str) -> str:
    """Scheme, host and path of one address; without user info, query and fragment, on one line, cut at 300 characters."""
    scheme, separator, rest = uri.partition("://")
    shown = f"{scheme}://{_without_secrets(rest)}" if separator else re.split(r"[?]", uri, maxsplit=1)[0]
    return _printable(scrubbed(shown, paths=True))


def redacted_text(text: str) -> str:
    """Free text (an exception's, say) with every address in it redacted."""
    return _printable(scrubbed(_ADDRESS.sub(lambda found: found[1] + _without_secrets(found[2]), text), paths=True))


def named(error: BaseException) -> str:
    """`TypeName: text` without secrets; an OSError's own file name adds nothing to the address.

    What the http client could not understand it quotes, and that is the server's word: the type says enough.
    """
    if isinstance(error, http.client.HTTPException):
        return type(error).__name__
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {redacted_text(text)}" if text else type(error).__name__


def _without_secrets(rest: str) -> str:
    """What follows `://`. Everything before the last @ of the authority goes: parsers differ on which @ counts.

    So does a port that is no number: it may be a password whose @ got lost.
    """
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    if ":" in authority and "@" in path:  # a password with a slash in it
        authority, slash, path = rest.rpartition("@")[2].partition("/")
    return _ODD_PORT.sub("", authority.rpartition("@")[2]) + slash + path


def _printable(text: str) -> str:
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"
