"""The policy as a table: what may be opened, and everything that has been used elsewhere to get around such a policy."""

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from ray_pipeline.intake.addresses import Address, AddressPolicy
from ray_pipeline.intake.public_ip import is_public, public_addresses
from ray_pipeline.intake.redaction import redacted, redacted_text
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status

HOSTS = ("images.example.org", "images.example.org:8443", "127.0.0.1", "2130706433", "0x7f.1", "[::1]", "localhost")


def policy(base: str = "s3://archive/2026", remote: bool = True, **settings: Any) -> AddressPolicy:
    settings.setdefault("schemes", ("file", "s3", "http", "https", "memory"))
    settings.setdefault("hosts", HOSTS)
    return AddressPolicy.from_settings(FetchSettings(**settings), base, remote)


def denial(rules: AddressPolicy, uri: str) -> str:
    with pytest.raises(RowFailure) as caught:
        rules.resolve(uri)
    assert caught.value.status == Status.FETCH_DENIED
    assert "SECRET" not in caught.value.message
    assert caught.value.message.isprintable()
    return caught.value.message


@pytest.mark.parametrize(
    ("uri", "scheme", "place", "port", "target"),
    [
        ("a.jpg", "s3", "archive/2026/a.jpg", 0, ""),
        ("./a.jpg", "s3", "archive/2026/a.jpg", 0, ""),
        ("sub/ä b#1.jpg", "s3", "archive/2026/sub/ä b#1.jpg", 0, ""),
        ("./a:b.jpg", "s3", "archive/2026/a:b.jpg", 0, ""),
        ("s3://archive/other/a.jpg", "s3", "archive/other/a.jpg", 0, ""),
        ("S3://archive/a//b", "s3", "archive/a//b", 0, ""),
        ("memory://x/a.jpg", "memory", "/x/a.jpg", 0, ""),
        ("memory:///x/a.jpg", "memory", "/x/a.jpg", 0, ""),
        ("http://images.example.org/a.jpg?w=1#top", "http", "images.example.org", 80, "/a.jpg?w=1"),
        ("HTTPS://Images.Example.ORG./a b/ü.jpg", "https", "images.example.org", 443, "/a%20b/%C3%BC.jpg"),
        ("https://images.example.org:8443/a%2Fb", "https", "images.example.org", 8443, "/a%2Fb"),
        ("https://images.example.org?x=1", "https", "images.example.org", 443, "/?x=1"),
    ],
)
def test_allowed(uri: str, scheme: str, place: str, port: int, target: str) -> None:
    assert policy().resolve(uri) == Address(scheme, place, redacted(uri), port, target)


REFUSED = [
    "",
    " ",
    "..",
    "../a.jpg",
    "sub/../../a.jpg",
    "folder/",
    "a.jpg?versionId=1",
    "/etc/passwd",
    "//etc/passwd",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "file:/etc/passwd",
    "file:etc/passwd",
    "file://localhost/etc/passwd",
    "file://otherhost/etc/passwd",
    "file://",
    "data:image/png;base64,AAAA",
    "ftp://images.example.org/a",
    "gopher://images.example.org/a",
    "gs://archive/a",
    "hdfs://archive/a",
    "ssh://images.example.org/a",
    "javascript:alert(1)",
    "local:///etc/passwd",
    "reference://a",
    "github://a:b@c/d",
    "simplecache::s3://archive/a.jpg",
    "simplecache::file:///etc/passwd",
    "filecache::/etc/passwd",
    "zip://a.jpg::http://images.example.org/a.zip",
    "s3://archive/a::file:///etc/passwd",
    "tar://x::s3://archive/a.tar",
    "http:/images.example.org/a",
    "http:images.example.org",
    "//images.example.org/a",
    "://images.example.org/a",
    " http://images.example.org/a",
    "ht\ttp://images.example.org/a",
    "http://images.example.org/a\n",
    "http://images.example.org/\r\nHost: x",
    "http://images.example.org/a\0b",
    "http://images.example.org\\@evil.example/a",
    "http:\\\\evil.example\\a",
    "http://evil.example/a",
    "http://images.example.org.evil.example/a",
    "http://evil-images.example.org/a",
    "http://sub.images.example.org/a",
    "http://images.example.org:22/a",
    "http://images.example.org:8443:80/a",
    "http://images.example.org:0/a",
    "http://images.example.org:99999/a",
    "http://images.example.org:-1/a",
    "http://images.example.org:/a:b@c:99999x/",
    "http://images.example.org:80x/a",
    "http://user:SECRET@images.example.org/a",
    "http://SECRET@images.example.org/a",
    "http://evil.example@images.example.org/a",
    "http://images.example.org@evil.example/a",
    "http://images.example.org%40evil.example/a",
    "http://evil.example#@images.example.org/a",
    "http://evil.example?@images.example.org/a",
    "http://images.example.org%2Eevil.example/a",
    "http://images。example。org/a",
    "http://ⓘmages.example.org/a",
    "http://images.example.org\u2028/a",
    "http:///a",
    "http://./a",
    "http://../a",
    "http://[images.example.org]/a",
    "http://[::1/a",
    "http://::1]/a",
    "http://[[::1]]/a",
    "http://[::1]x/a",
    "http://[::1%25eth0]/a",
    "http://[v1.x]/a",
    "http://x[::1]/a",
    "http://2130706433/a",
    "http://0x7f.1/a",
    "http://0x7f000001/a",
    "http://0177.0.0.1/a",
    "http://127.1/a",
    "http://127.0.0.1.:1/a",
    "http://127.0.0.01/a",
    "http://1.2.3.4.5/a",
    "http://evil.example:SECRET/a",
    "s3://other/a.jpg",
    "s3://archive",
    "s3://archive/",
    "s3://archive/folder/",
    "s3:///a.jpg",
    "s3://archive/../other/a",
    "s3://archive/a/../../b",
    "s3://archive/a?endpoint_url=http://evil.example&key=SECRET",
    "s3://key:SECRET@archive/a",
    "s3://archive:80/a",
    "s3://archive%2Fother/a",
    "s3://arn:aws:s3:::archive/a",
    "memory://../a",
    "memory://",
    "a\\b.jpg",
    "\\\\server\\share\\a.jpg",
    "C:\\a.jpg",
    "C:/a.jpg",
    "a\tb.jpg",
    "a\x1b[31m.jpg",
    "a\x85.jpg",
    "a\ud800.jpg",
]


@pytest.mark.parametrize("uri", REFUSED, ids=range(len(REFUSED)))
def test_refused_from_a_remote_manifest(uri: str) -> None:
    denial(policy(), uri)


@pytest.mark.parametrize(
    ("settings", "base", "remote", "uri", "word"),
    [
        ({"schemes": ("s3",)}, "/m", False, "a.jpg", "scheme file"),
        ({"schemes": ("file",)}, "/m", False, "https://images.example.org/a", "scheme https"),
        ({"hosts": ()}, "/m", False, "https://images.example.org/a", "fetch.hosts (none)"),
        ({}, "/m", False, "s3://archive/a", "fetch.buckets (none)"),
        ({"buckets": ("b2",)}, "s3://archive/2026", True, "a.jpg", "fetch.buckets (b2)"),
        ({"schemes": ("file",)}, "s3://archive/2026", True, "a.jpg", "scheme s3"),
        ({}, "http://elsewhere.example/m", True, "a.jpg", "host elsewhere.example"),
        ({}, "memory://m", True, "/etc/passwd", "need fetch.roots"),
        ({"roots": ("/data",)}, "s3://archive/2026", True, "/etc/passwd", "outside fetch.roots"),
        ({"roots": ("/data",)}, "s3://archive/2026", True, "file:///data/../etc/passwd", "outside fetch.roots"),
        ({"roots": ("/data",)}, "s3://archive/2026", True, "file:///data/%2e%2e/etc/passwd", "outside fetch.roots"),
        ({"roots": ("/data",)}, "s3://archive/2026", True, "/data2/a", "outside fetch.roots"),
        ({"roots": ("/data",)}, "/m", False, "a.jpg", "outside fetch.roots"),
        ({}, "/m", False, "file:///a%00b", "control"),
        ({}, "/m", False, "file:///a?b", "%3F"),
        ({}, "/m", False, "file://host/a", "this machine"),
    ],
)
def test_refusals_name_the_setting(settings: dict[str, Any], base: str, remote: bool, uri: str, word: str) -> None:
    assert word in denial(policy(base, remote, **settings), uri)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("a.jpg", "/m/a.jpg"),
        ("../n/a.jpg", "/n/a.jpg"),
        ("/x/a?b#c%20.jpg", "/x/a?b#c%20.jpg"),
        ("file:///x/a%20b.jpg", "/x/a b.jpg"),
        ("file://localhost/x/a.jpg", "/x/a.jpg"),
        ("FILE:///x/100%.jpg", "/x/100%.jpg"),
        ("~/a.jpg", "/m/~/a.jpg"),
        ("$HOME/a.jpg", "/m/$HOME/a.jpg"),
    ],
)
def test_local_manifest_reaches_any_file_without_roots(uri: str, path: str) -> None:
    assert policy("/m", False).resolve(uri).place == path


def test_roots_are_real_folders(tmp_path: Path) -> None:
    """Links and .. are followed before the comparison, for roots too."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
        (folder / "a.jpg").write_bytes(b"x")
    (root / "out").symlink_to(outside)
    (root / "in").symlink_to(root)
    (tmp_path / "alias").symlink_to(root)
    rules = policy("s3://archive/2026", True, roots=(str(tmp_path / "alias"),))
    assert rules.resolve(f"{root}/a.jpg").place == str(root / "a.jpg")
    assert rules.resolve(f"file://{tmp_path}/alias/in/a.jpg").place == str(root / "a.jpg")
    for uri in (f"{root}/out/a.jpg", f"{root}/../outside/a.jpg", f"{outside}/a.jpg", f"{tmp_path}/rootx"):
        assert "outside fetch.roots" in denial(rules, uri)


ORIGIN = Address("https", "images.example.org", "https://images.example.org/a", 443, "/x/a?SECRET=1")


@pytest.mark.parametrize(
    ("location", "authority", "target"),
    [
        ("b.jpg", "images.example.org:443", "/x/b.jpg"),
        ("/b.jpg", "images.example.org:443", "/b.jpg"),
        ("//images.example.org:8443/b", "images.example.org:8443", "/b"),
        ("https://images.example.org/c#d", "images.example.org:443", "/c"),
    ],
)
def test_redirects_allowed(location: str, authority: str, target: str) -> None:
    address = policy().redirected(ORIGIN, location)
    assert (address.authority, address.target) == (authority, target)


@pytest.mark.parametrize(
    "location",
    [
        "http://images.example.org/a",
        "https://evil.example/a",
        "//evil.example/a",
        "file:///etc/passwd",
        "s3://archive/a",
        "https://user:SECRET@images.example.org/",
        "https://images.example.org:22/",
        "https://[::1",
        "\\\\evil.example\\a",
        "ftp://images.example.org/",
    ],
)
def test_redirects_refused(location: str) -> None:
    with pytest.raises(RowFailure) as caught:
        policy().redirected(ORIGIN, location)
    assert caught.value.status == Status.FETCH_DENIED
    assert "SECRET" not in caught.value.message


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("127.255.255.254", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("100.100.100.200", False),
        ("168.63.129.16", False),
        ("192.0.0.192", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("239.255.255.255", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", False),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378::", False),
        ("2001:db8::1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0", "::1"])
def test_names_of_this_machine_are_refused_after_resolving(host: str) -> None:
    try:
        socket.getaddrinfo(host, 80)
    except OSError:
        pytest.skip(f"{host} does not resolve here")
    with pytest.raises(RowFailure, match="public addresses only"):
        public_addresses(host, 80)
    assert public_addresses("127.0.0.1", 80, loopback_allowed=True) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://u:p@h.org:8/a/b?token=x#y", "https://h.org:8/a/b"),
        ("https://u:p@x@h.org/a", "https://h.org/a"),
        ("s3://bucket/key?X-Amz-Signature=x", "s3://bucket/key"),
        ("/plain/pa#th.jpg", "/plain/pa#th.jpg"),
        ("a\nb\x1b", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"),
        ("x" * 1000, "x" * 299 + "…"),
    ],
)
def test_redaction(uri: str, shown: str) -> None:
    assert redacted(uri) == shown


def test_redaction_of_texts() -> None:
    text = "GET https://u:p@h.org/a?k=SECRET failed, then 's3://k:s@b/c?x=SECRET'"
    assert redacted_text(text) == "GET https://h.org/a failed, then 's3://b/c'"


def test_the_way_to_this_machine_is_not_in_the_settings() -> None:
    assert not any("loopback" in name for name in FetchSettings.model_fields)
    assert os.environ.get("FOVEA_LOOPBACK") is None
