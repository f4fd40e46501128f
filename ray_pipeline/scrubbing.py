"""Text for logs and messages without what must stay secret: passwords, tokens, keys, and all of an address but its place.

Addresses become scheme, host and a digest of the path, by which someone who has the address finds it again. Everything
that the environment calls a secret is removed wherever it stands, whatever it looks like.
"""

import hashlib
import os
import re
from collections.abc import Iterator

REMOVED = "[removed]"
LONGEST = 4_000  # characters looked at; what follows is left out
_SHORTEST_SECRET = 8  # of the environment: shorter values are words such as `none` or `true`
# Every repetition has a bound: texts come from strangers, and an unbounded one takes the square of their length.
_ADDRESS = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,20}):(?:\\?/){2,3}([^\s\"'<>]*)")
_AT = re.compile(r"(?:@|%40)(?=[^@%]*$)")
_ODD_PORT = re.compile(r":(?![0-9]{0,5}$)[^:\]]*$")  # a password whose @ got lost
_USER = re.compile(r"[^\s\"'<>@/:]{1,80}:[^\s\"'<>@]{1,120}@(?=[\w\[])")
_QUERY = re.compile(r"(?<=[\w/.%)-])\?[^\s\"'<>=]{1,200}=[^\s\"'<>]*")
_SECRET_NAME = (
    r"(?:secret|passw(?:or)?d|passphrase|passwort|pwd|token(?!s|iz)|signature|credential|api[_-]?key|access[_-]?key|account[_-]?key"
    r"|private[_-]?key|authorization|cookie|session[_-]?id|sig(?=[\s\"'=:]))"
)
_NAMED = re.compile(
    rf"([\w.-]{{0,40}}{_SECRET_NAME}[\w.-]{{0,40}}\\{{0,4}}[\"']?\s{{0,3}}(?:=>|[=:])\s{{0,3}})"
    rf"((?:bearer|basic|token|digest|negotiate)\s{{1,3}})?(\[removed\]|\\{{0,4}}\"[^\"]*\"?|\\{{0,4}}'[^']*'?|[^\s,;&)}}\]\"']+)",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(bearer|basic)\s{1,3}[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}-----|$)"
    r"|\b(?:A3T[A-Z0-9]|AKIA|ASIA|AGPA|AIDA|AROA|ABIA|ACCA)[A-Z0-9]{16}\b"  # AWS access keys
    r"|(?<![A-Za-z0-9/+=.])(?!(?:[A-Za-z0-9+]{0,40}/){3})"
    r"(?=[a-z0-9/+]{0,39}[A-Z])(?=[A-Z0-9/+]{0,39}[a-z])(?=[A-Za-z/+]{0,39}[0-9])"
    r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"  # and their secrets; what has more slashes is a path
    r"|\beyJ[\w-]{8,}\.[\w-]{1,}(?:\.[\w-]*)?"  # web tokens
    r"|\b(?:hf_|gh[oprsu]_|github_pat_|glpat-|sk-|xox[abprs]-|ya29\.|AIza)[\w.-]{16,}"
)
_SECRET_VARIABLE = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN(?!IZ)|CREDENTIAL|(?:^|_)(?:KEY|KEY_ID|API_KEY|AUTH)$|_PAT$")
_SECRET_KEY = re.compile(rf"{_SECRET_NAME}|(?:^|_)sig$", re.IGNORECASE)


def scrubbed(text: str, paths: bool = False) -> str:
    """The text without secrets; with `paths`, addresses keep theirs. Control characters and all else stay as they are."""
    text = text[:LONGEST]
    for secret in _environment_secrets():
        text = text.replace(secret, REMOVED)
    text = _SHAPES.sub(REMOVED, text)
    text = _ADDRESS.sub(lambda found: _place(found[1], found[2], paths), text)
    text = _SCHEME.sub(lambda found: f"{found[1]} {REMOVED}", text)
    text = _NAMED.sub(lambda found: f"{found[1]}{found[2] or ''}{REMOVED}", text)
    text = _USER.sub(f"{REMOVED}@", text)
    return _QUERY.sub(f"?{REMOVED}", text)


def names_a_secret(key: str) -> bool:
    """Whether a field of this name holds a secret, whatever its value looks like."""
    return bool(_SECRET_KEY.search(key))


def carries_a_secret(address: str) -> bool:
    """Whether an address has user info or a query with values. A `?` of a glob is none."""
    _, separator, rest = address.partition("://")
    return bool(separator and ("@" in rest.partition("/")[0] or _USER.search(rest) or _QUERY.search(rest)))


def _environment_secrets() -> Iterator[str]:
    """Longest first: one secret may be the beginning of another."""
    found = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name.upper())}
    return iter(sorted((value for value in found if len(value) >= _SHORTEST_SECRET), key=len, reverse=True))


def _place(scheme: str, rest: str, keep_path: bool) -> str:
    """`https://host:port/sha256:` and twelve digits, or the path. Parsers differ on which @ ends the user info; here the last."""
    address = rest.rstrip(".,:;)")  # the sentence's, not the address's
    stop = rest[len(address) :]
    rest = re.split(r"[?#]", address.replace("\\/", "/"), maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    if "@" in path and ":" in authority:  # a password with a slash in it
        authority, slash, path = rest.rpartition("@")[2].partition("/")
    host = _ODD_PORT.sub("", _AT.split(authority)[-1])
    if path and not keep_path:
        path = f"sha256:{hashlib.sha256(path.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
    return f"{scheme}://{host}{slash}{path}{stop}"
