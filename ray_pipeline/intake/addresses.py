"""Which image addresses may be opened. Decided on the parsed address, and the parsed address is what gets opened."""

import ipaddress
import os
import posixpath
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urljoin

from ray_pipeline.intake.redaction import redacted
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\\]")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_HOST_NAME = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")
_IPV4 = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}")
_IPV6 = re.compile(r"\[[0-9a-f:.]{2,45}\]")
_BRACKETED_AUTHORITY = re.compile(r"^https?://\[[0-9A-Fa-f:.]+\]", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """One address that passed. `place` is: file, the real path; s3, `bucket/key`; memory, the path; http(s), `host`.

    `target` is the path and query of http(s), percent-encoded. `shown` is safe to log.
    """

    scheme: str
    place: str
    shown: str
    port: int = 0
    target: str = field(default="", repr=False)

    @property
    def authority(self) -> str:
        """`host:port` of http(s), an IPv6 host in brackets."""
        return f"[{self.place}]:{self.port}" if ":" in self.place else f"{self.place}:{self.port}"


@dataclass(frozen=True)
class AddressPolicy:
    """What the settings and the manifest's own place allow.

    `base` is the folder relative addresses start from. `roots` are real paths. An empty `buckets` allows no bucket.
    `loopback_for_tests` lets http reach this machine; no setting leads here.
    """

    schemes: frozenset[str]
    hosts: frozenset[str]
    buckets: frozenset[str]
    roots: tuple[str, ...]
    base: str
    remote: bool
    loopback_for_tests: bool = False

    @classmethod
    def from_settings(
        cls, settings: FetchSettings, manifest_base: str, manifest_remote: bool, loopback_for_tests: bool = False
    ) -> "AddressPolicy":
        """A remote manifest may name its own bucket when the settings name none, and local files under a root only."""
        buckets = frozenset(settings.buckets)
        if not buckets and manifest_remote and manifest_base.startswith("s3://"):
            buckets = frozenset({manifest_base.removeprefix("s3://").split("/", 1)[0]})
        return cls(
            schemes=frozenset(settings.schemes),
            hosts=frozenset(host.lower().rstrip(".") for host in settings.hosts),
            buckets=buckets,
            roots=tuple(os.path.realpath(root) for root in settings.roots),
            base=manifest_base,
            remote=manifest_remote,
            loopback_for_tests=loopback_for_tests,
        )

    def resolve(self, image_uri: str) -> Address:
        """The one thing to open for a manifest's `image_uri`.

        Raises:
            RowFailure: fetch_denied, naming what is not allowed, without query string and user info.
        """
        _refuse_odd_letters(image_uri)
        scheme, rest = self._split(image_uri)
        if scheme not in self.schemes:
            raise _denied(image_uri, f"scheme {scheme} is not in fetch.schemes ({', '.join(sorted(self.schemes)) or 'none'})")
        if scheme == "file":
            return self._local(image_uri, rest)
        if scheme == "s3":
            return self._bucket(image_uri, rest)
        if scheme == "memory":
            return Address("memory", "/" + _plain_key(image_uri, rest.lstrip("/")), redacted(image_uri))
        return self._web(image_uri, scheme, rest)

    def redirected(self, origin: Address, location: str) -> Address:
        """Where a redirect leads, checked like a manifest's address; never from https to http, never off the web."""
        try:
            target = urljoin(f"{origin.scheme}://{origin.authority}{origin.target}", location)
        except ValueError:
            raise RowFailure(Status.FETCH_DENIED, f"{origin.shown} redirects to an odd address") from None
        if not target.lower().startswith(("https://",) if origin.scheme == "https" else ("http://", "https://")):
            raise RowFailure(Status.FETCH_DENIED, f"{origin.shown} redirects to {redacted(target)}, expected {origin.scheme}")
        return self.resolve(target)

    def refuse_outside_roots(self, real_path: str, shown: str) -> None:
        """Check a path whose links are resolved; fetch repeats this on the file it has opened."""
        if self.roots and not any(os.path.commonpath((root, real_path)) == root for root in self.roots):
            raise RowFailure(Status.FETCH_DENIED, f"{shown} is outside fetch.roots")

    def _split(self, uri: str) -> tuple[str, str]:
        """(scheme, rest after ://), where the rest of `file` is a local path. Relative ones start from the base."""
        head, separator, rest = uri.partition("://")
        if separator and not _SCHEME.fullmatch(head + ":"):
            raise _denied(uri, "no scheme before ://")
        if separator:
            return head.lower(), _file_path(uri, rest) if head.lower() == "file" else rest
        if _SCHEME.match(uri):
            raise _denied(uri, "a colon without // is no address; write ./name for a file of that name")
        if uri.startswith("/") or not self.remote:
            return "file", os.path.join(self.base, uri)
        scheme, _, folder = self.base.partition("://")
        return scheme.lower(), f"{folder.rstrip('/')}/{_plain_key(uri, uri)}"

    def _local(self, uri: str, path: str) -> Address:
        if self.remote and not self.roots:
            raise _denied(uri, "local files of a remote manifest need fetch.roots")
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError) as error:
            raise _denied(uri, f"no usable path ({type(error).__name__})") from None
        self.refuse_outside_roots(real, redacted(uri))
        return Address("file", real, redacted(uri))

    def _bucket(self, uri: str, rest: str) -> Address:
        bucket, _, key = rest.partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise _denied(uri, "no plain bucket name")
        if bucket not in self.buckets:
            allowed = ", ".join(sorted(self.buckets)) or "none"
            raise _denied(uri, f"bucket {bucket} is not in fetch.buckets ({allowed})")
        return Address("s3", f"{bucket}/{_plain_key(uri, key)}", redacted(uri))

    def _web(self, uri: str, scheme: str, rest: str) -> Address:
        end = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
        host, port = _host_and_port(uri, rest[:end].lower(), _PORTS[scheme])
        # A host's other ports are other services: they need an entry of their own, `host:port`.
        entry = host if port == _PORTS[scheme] else f"{host}:{port}"
        if entry not in self.hosts:
            raise _denied(uri, f"host {entry} is not in fetch.hosts ({', '.join(sorted(self.hosts)) or 'none'})")
        target = rest[end:].split("#", 1)[0]
        target = quote(target if target.startswith("/") else "/" + target, safe="/%:=&?~+!$,;'@()*[]")
        return Address(scheme, host, redacted(uri), port, target)


def _refuse_odd_letters(uri: str) -> None:
    if not uri or uri.isspace():
        raise RowFailure(Status.FETCH_DENIED, "empty image_uri")
    if _FORBIDDEN.search(uri):
        raise _denied(uri, "backslash or control character")
    if any("\ud800" <= letter <= "\udfff" for letter in uri):
        raise _denied(uri, "not valid text")
    if "::" in _BRACKETED_AUTHORITY.sub("", uri):
        raise _denied(uri, "chained addresses (::) are not allowed")


def _file_path(uri: str, rest: str) -> str:
    """Path of a file:// address: absolute, on this machine, percent-decoded."""
    host, slash, path = rest.partition("/")
    if host.lower() not in ("", "localhost") or not slash:
        raise _denied(uri, "file:// needs an absolute path on this machine, file:///folder/name")
    if "?" in path or "#" in path:
        raise _denied(uri, "write ? as %3F and # as %23 in file://")
    decoded = unquote(path)
    _refuse_odd_letters(decoded or "/")
    return "/" + decoded


def _plain_key(uri: str, key: str) -> str:
    """An object's key: not empty, no query, and no `..`, which stores do not resolve but proxies do."""
    if "?" in key:
        raise _denied(uri, "a query is not allowed here")
    if ".." in key.split("/"):
        raise _denied(uri, "`..` is not allowed in an object's name")
    if not key or key.endswith("/"):
        raise _denied(uri, "names a folder, expected a file")
    return posixpath.normpath(key) if key.startswith("./") else key


def _host_and_port(uri: str, authority: str, default_port: int) -> tuple[str, int]:
    """Host without brackets and trailing dot. Spellings that parsers read differently are refused, not guessed."""
    if "@" in authority:
        raise _denied(uri, "user info is not allowed")
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?", authority)
    if not found:
        raise _denied(uri, "odd host or port")
    host, port = found[1], int(found[2] or default_port)
    if not 0 < port < 65536:
        raise _denied(uri, "odd host or port")
    last = host.rstrip(".").rpartition(".")[2]
    numeric = last.isdigit() or last.startswith("0x") or host.startswith("[")
    if not (_is_plain_number(host) if numeric else _HOST_NAME.fullmatch(host)):
        raise _denied(uri, "odd host or port")
    return host.strip("[]").rstrip("."), port


def _is_plain_number(host: str) -> bool:
    """Four decimal parts, or hexadecimal ones in brackets: what every parser reads alike."""
    if not (_IPV4.fullmatch(host) or _IPV6.fullmatch(host)):
        return False
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _denied(uri: str, reason: str) -> RowFailure:
    return RowFailure(Status.FETCH_DENIED, f"{redacted(uri)}: {reason}")
