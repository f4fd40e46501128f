"""Addresses that have been used to get past a fetcher's policy, by family, and good ones that no policy may refuse.

`{port}` is that of the canaries on 127.0.0.1 and ::1, `{root}` an allowed folder, `{outside}` one that is not.
The policy under which they are tried is generous: the numbers and names that lead inside are allowed as hosts, so that
what refuses them is never the list of hosts alone.
"""

import re
from dataclasses import dataclass

from tests.faults.stored_vectors import STORED

PUBLIC = "93.184.216.34"  # never dialled: the pretended internet leads it to a server on this machine
PUBLIC_6 = "2606:4700:4700::1111"

HOSTS = (
    "images.example.org",
    "images.example.org:8443",
    "other.example.org",
    "xn--mages-1ra.example.org",
    PUBLIC,
    PUBLIC_6,
)

NAMES: dict[str, list[list[str]]] = {
    # name -> what the resolver answers, one list per question; the last one again and again
    "images.example.org": [[PUBLIC]],
    "other.example.org": [[PUBLIC_6, PUBLIC]],
    "xn--mages-1ra.example.org": [[PUBLIC]],
    "localhost": [["127.0.0.1", "::1"]],
    "metadata.google.internal": [["169.254.169.254"]],
    "169.254.169.254.nip.example": [["169.254.169.254"]],
    "rebinds.example": [[PUBLIC], ["127.0.0.1"]],
    "rebinds-six.example": [[PUBLIC], ["::1"]],
    "rebinds-metadata.example": [[PUBLIC], ["169.254.169.254"]],
    "mixed-four.example": [[PUBLIC, "127.0.0.1"]],
    "mixed-six.example": [[PUBLIC_6, "::1"]],
    "mixed-private.example": [[PUBLIC, "10.0.0.5"]],
    "mixed-metadata.example": [["169.254.169.254", PUBLIC]],
    "this-machine.example": [["127.0.0.1"]],
    "this-machine-six.example": [["::1"]],
    "private-ten.example": [["10.1.2.3"]],
    "private-twelve.example": [["172.16.9.9"]],
    "private-home.example": [["192.168.1.1"]],
    "carrier.example": [["100.64.3.2"]],
    "alibaba-metadata.example": [["100.100.100.200"]],
    "azure-agent.example": [["168.63.129.16"]],
    "oracle-metadata.example": [["192.0.0.192"]],
    "nothing.example": [["0.0.0.0"]],
    "nothing-six.example": [["::"]],
    "broadcast.example": [["255.255.255.255"]],
    "multicast.example": [["224.0.0.251"]],
    "multicast-six.example": [["ff02::fb"]],
    "reserved.example": [["240.0.0.1"]],
    "documentation.example": [["192.0.2.7"]],
    "benchmark-net.example": [["198.18.0.1"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "mapped-metadata.example": [["::ffff:169.254.169.254"]],
    "compatible.example": [["::127.0.0.1"]],
    "nat64.example": [["64:ff9b::7f00:1"]],
    "nat64-local.example": [["64:ff9b:1::a9fe:a9fe"]],
    "sixtofour.example": [["2002:7f00:1::"]],
    "sixtofour-metadata.example": [["2002:a9fe:a9fe::1"]],
    "teredo.example": [["2001:0:4136:e378:8000:63bf:80ff:fffe"]],
    "unique-local.example": [["fd00:ec2::254"]],
    "site-local.example": [["fec0::1"]],
    "link-local.example": [["fe80::1"]],
}

REFUSED: dict[str, list[str]] = {
    "this machine by number": [
        "http://127.0.0.1:{port}/a",
        "http://127.0.0.1/a",
        "http://127.8.9.10:{port}/a",
        "http://0.0.0.0:{port}/a",
        "http://[::1]:{port}/a",
        "http://[::]:{port}/a",
        "http://[0:0:0:0:0:0:0:1]:{port}/a",
        "http://[0000:0000:0000:0000:0000:0000:0000:0001]:{port}/a",
        "http://localhost:{port}/a",
        "http://LOCALHOST:{port}/a",
        "http://localhost.:{port}/a",
    ],
    "other spellings of numbers": [
        "http://2130706433:{port}/a",
        "http://2130706433/a",
        "http://0x7f.1:{port}/a",
        "http://0x7f000001:{port}/a",
        "http://0x7F.0x0.0x0.0x1:{port}/a",
        "http://0177.0.0.1:{port}/a",
        "http://017700000001:{port}/a",
        "http://0177.0x0.0.1:{port}/a",
        "http://127.1:{port}/a",
        "http://127.0.1:{port}/a",
        "http://127.0.0.01:{port}/a",
        "http://127.0.0.1.:{port}/a",
        "http://127.0.0.1.0:{port}/a",
        "http://0:{port}/a",
        "http://00000000000000000000177.0.0.1:{port}/a",
        "http://383.0.0.1:{port}/a",
        "http://4294967297:{port}/a",
        "http://①②⑦.⓪.⓪.①:{port}/a",
        "http://１２７.0.0.1:{port}/a",
        "http://127。0。0。1:{port}/a",
        "http://127%2e0%2e0%2e1:{port}/a",
        "http://%31%32%37.0.0.1:{port}/a",
        "http://2852039166/latest/meta-data/",
        "http://0xa9fea9fe/latest/meta-data/",
        "http://0251.0376.0251.0376/latest/meta-data/",
        "http://169.254.43518/latest/meta-data/",
    ],
    "tunnels into version 4": [
        "http://[::ffff:127.0.0.1]:{port}/a",
        "http://[::ffff:7f00:1]:{port}/a",
        "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/a",
        "http://[::127.0.0.1]:{port}/a",
        "http://[::7f00:1]:{port}/a",
        "http://[64:ff9b::127.0.0.1]:{port}/a",
        "http://[64:ff9b::7f00:1]:{port}/a",
        "http://[64:ff9b:1::7f00:1]:{port}/a",
        "http://[64:ff9b::a9fe:a9fe]/latest/meta-data/",
        "http://[2002:7f00:1::]:{port}/a",
        "http://[2002:a9fe:a9fe::]/latest/meta-data/",
        "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/a",
        "http://[::ffff:169.254.169.254]/latest/meta-data/",
        "http://[::ffff:a9fe:a9fe]/latest/meta-data/",
        "http://[::ffff:0:127.0.0.1]:{port}/a",
    ],
    "metadata services": [
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "http://169.254.170.2/v2/credentials/SECRET",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://100.100.100.200/latest/meta-data/",
        "http://192.0.0.192/opc/v2/instance/",
        "http://168.63.129.16/metadata/v1/",
    ],
    "private, shared and special": [
        "http://10.0.0.5/a",
        "http://172.16.0.1/a",
        "http://172.31.255.254/a",
        "http://192.168.0.1/a",
        "http://100.64.0.1/a",
        "http://192.0.2.1/a",
        "http://198.18.0.1/a",
        "http://192.88.99.1/a",
        "http://224.0.0.1/a",
        "http://240.0.0.1/a",
        "http://255.255.255.255/a",
        "http://[fe80::1]/a",
        "http://[fec0::1]/a",
        "http://[fc00::1]/a",
        "http://[ff02::1]/a",
        "http://[2001:db8::1]/a",
        "http://[100::1]/a",
    ],
    "names that lead inside": [
        f"http://{name}:{{port}}/a"
        for name in NAMES
        if name.endswith(".example") and not name.startswith("rebinds")  # those are tried twice
    ],
    "user info": [
        "http://user:SECRET@images.example.org/a",
        "http://SECRET@images.example.org/a",
        "http://images.example.org@127.0.0.1:{port}/a",
        "http://127.0.0.1:{port}@images.example.org/a",
        "http://images.example.org:80@127.0.0.1:{port}/a",
        "http://images.example.org%40127.0.0.1:{port}/a",
        "http://images.example.org@@127.0.0.1:{port}/a",
        "http://a@images.example.org@127.0.0.1:{port}/a",
        "http://@images.example.org/a",
        "http://127.0.0.1:{port}#@images.example.org/a",
        "http://127.0.0.1:{port}?@images.example.org/a",
        "http://127.0.0.1:{port}/@images.example.org/a",
        "s3://key:SECRET@archive/a",
    ],
    "backslash, control and look-alike letters": [
        "http://images.example.org\\@127.0.0.1:{port}/a",
        "http://127.0.0.1:{port}\\@images.example.org/a",
        "http:\\\\127.0.0.1:{port}\\a",
        "http://images.example.org\\.127.0.0.1:{port}/a",
        "http:/\\127.0.0.1:{port}/a",
        "http://images.example.org\t@127.0.0.1:{port}/a",
        "ht\ttp://127.0.0.1:{port}/a",
        "http://127.0.0.1:{port}/a\n",
        "http://images.example.org/\r\nHost: 127.0.0.1\r\n\r\n",
        "http://images.example.org/a\0b",
        "http://images.example.org\0.127.0.0.1:{port}/a",
        "http://127.0.0.1:{port}\x7f/a",
        "\x01http://127.0.0.1:{port}/a",
        " http://127.0.0.1:{port}/a",
        "http://images.example.org\u2028/a",
        "http://images.example.org\u3002evil.example/a",
        "http://ⓘmages.example.org/a",
        "http://lo\u00adcalhost:{port}/a",
        "http://ｌocalhost:{port}/a",
        "http://images.example.org\ud800/a",
        "\\\\127.0.0.1\\share\\a",
        "http://images.example.org%0d%0aHost:127.0.0.1/a",
        "http://images.example.org%00.example/a",
        "http://images.example.org%2Fa",
        "http://images.example.org%5c127.0.0.1/a",
    ],
    "brackets, ports and empty parts": [
        "http://[images.example.org]/a",
        "http://[127.0.0.1]:{port}/a",
        "http://[::1:{port}/a",
        "http://::1]:{port}/a",
        "http://::1:{port}/a",
        "http://[[::1]]:{port}/a",
        "http://[::1]x:{port}/a",
        "http://x[::1]:{port}/a",
        "http://[::1%25lo]:{port}/a",
        "http://[::1%lo]:{port}/a",
        "http://[fe80::1%25eth0]/a",
        "http://[v1.x]/a",
        "http://[]:{port}/a",
        "http://images.example.org:80:{port}/a",
        "http://images.example.org:0/a",
        "http://images.example.org:99999/a",
        "http://images.example.org:-1/a",
        "http://images.example.org:80x/a",
        "http://images.example.org:SECRET/a",
        "http://images.example.org:22/a",
        "http://images.example.org:１/a",
        "http:///a",
        "http://./a",
        "http://../a",
        "http://:80/a",
        "http:/127.0.0.1:{port}/a",
        "http:127.0.0.1:{port}/a",
        "//127.0.0.1:{port}/a",
        "://127.0.0.1:{port}/a",
        "http:////127.0.0.1:{port}/a",
    ],
    "hosts that resemble an allowed one": [
        "http://images.example.org.evil.example/a",
        "http://evil-images.example.org/a",
        "http://sub.images.example.org/a",
        "http://images.example.org-evil.example/a",
        "http://evil.example/images.example.org/a",
        "http://evil.example#.images.example.org/a",
        "http://evil.example?.images.example.org/a",
        "http://images.example.orgevil/a",
        "http://images-example.org/a",
    ],
    "other schemes": [
        "ftp://127.0.0.1:{port}/a",
        "gopher://127.0.0.1:{port}/_GET%20/",
        "dict://127.0.0.1:{port}/a",
        "ldap://127.0.0.1:{port}/a",
        "ssh://127.0.0.1:{port}/a",
        "sftp://127.0.0.1:{port}/a",
        "smb://127.0.0.1:{port}/a",
        "ws://127.0.0.1:{port}/a",
        "hdfs://127.0.0.1:{port}/a",
        "webhdfs://127.0.0.1:{port}/a",
        "jar:http://127.0.0.1:{port}/a!/b",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "gs://archive/a",
        "abfs://archive@127.0.0.1:{port}/a",
        "github://a:SECRET@c/d",
        "local:///etc/passwd",
        "dir:///etc/passwd",
        "reference://a",
        "http+unix://%2Fvar%2Frun%2Fdocker.sock/a",
        "url:http://127.0.0.1:{port}/a",
        "httpx://127.0.0.1:{port}/a",
    ],
    **STORED,
}

GOOD: list[str] = [
    "http://images.example.org/a.jpg",
    "http://images.example.org:80/a.jpg",
    "HTTP://IMAGES.EXAMPLE.ORG/a.jpg",
    "http://images.example.org./a.jpg",
    "http://images.example.org/a.jpg?width=1&height=2",
    "http://images.example.org/a.jpg?next=http://127.0.0.1/&x=@y",
    "http://images.example.org/a.jpg#top",
    "http://images.example.org?x=1",
    "http://images.example.org/a b/ü.jpg",
    "http://images.example.org/a%20b%2Fc.jpg",
    "http://images.example.org/a/../b.jpg",
    "http://images.example.org/a/@b:c.jpg",
    "http://images.example.org/[1].jpg",
    "http://other.example.org/a.jpg",
    "http://xn--mages-1ra.example.org/a.jpg",
    f"http://{PUBLIC}/a.jpg",
    f"http://[{PUBLIC_6}]/a.jpg",
    "https://images.example.org/a.jpg",
    "https://images.example.org:443/a.jpg",
    "https://images.example.org:8443/a.jpg",
    "https://other.example.org/a.jpg?X-Amz-Signature=SECRET",
    "s3://archive/a.jpg",
    "S3://archive/a.jpg",
    "s3://archive/a//b.jpg",
    "s3://archive/ä b#1.jpg",
    "s3://archive/a=b/c&d.jpg",
    "s3://archive/...",
    "a.jpg",
    "./a.jpg",
    "./a:b.jpg",
    "sub/folder/a.jpg",
    "a..b.jpg",
    "file://{root}/a.jpg",
    "{root}/a.jpg",
    "{root}/sub/../a.jpg",
    "{root}/inside-link",
    "file://{root}/with%20space.jpg",
    "file://localhost{root}/a.jpg",
]


@dataclass(frozen=True)
class Redirect:
    """Where a reply of a good host leads, from an address of scheme `start`."""

    location: str
    start: str = "http"
    allowed: bool = False


REDIRECTS: list[Redirect] = [
    Redirect("http://127.0.0.1:{port}/a"),
    Redirect("http://[::1]:{port}/a"),
    Redirect("//127.0.0.1:{port}/a"),
    Redirect("///127.0.0.1:{port}/a", allowed=True),  # a path of the same host, for every parser in use
    Redirect("http://169.254.169.254/latest/meta-data/"),
    Redirect("http://localhost:{port}/a"),
    Redirect("http://2130706433:{port}/a"),
    Redirect("http://[::ffff:127.0.0.1]:{port}/a"),
    Redirect("http://evil.example/a"),
    Redirect("http://images.example.org:22/a"),
    Redirect("http://user:SECRET@images.example.org/a"),
    Redirect("http://images.example.org@127.0.0.1:{port}/a"),
    Redirect("http://images.example.org\\@127.0.0.1:{port}/a"),
    Redirect("\\\\127.0.0.1:{port}\\a"),
    Redirect("http://[::1"),
    Redirect("file:///etc/passwd"),
    Redirect("file://{outside}/secret"),
    Redirect("s3://archive/a"),
    Redirect("ftp://127.0.0.1:{port}/a"),
    Redirect("gopher://127.0.0.1:{port}/a"),
    Redirect("data:image/png;base64,AAAA"),
    Redirect("memory://x/a"),
    Redirect("simplecache::http://127.0.0.1:{port}/a"),
    Redirect("http://mixed-four.example:{port}/a"),
    Redirect("http://this-machine.example:{port}/a"),
    Redirect("/hops/3"),  # four in all
    Redirect("/loop"),
    Redirect("http://images.example.org/a.jpg", "https"),
    Redirect("HTTP://images.example.org/a.jpg", "https"),
    Redirect("http://127.0.0.1:{port}/a", "https"),
    Redirect("/hops/2", allowed=True),
    Redirect("b.jpg", allowed=True),
    Redirect("?again=1", allowed=True),
    Redirect("http://other.example.org/a.jpg", allowed=True),
    Redirect("https://images.example.org/a.jpg", allowed=True),
    Redirect("//other.example.org/a.jpg", "https", allowed=True),
]

REBINDING = ["rebinds.example", "rebinds-six.example", "rebinds-metadata.example"]


_NAMED_INSIDE = ("this machine by number", "other spellings of numbers", "tunnels into version 4", "metadata services")
_NAMED_INSIDE += ("private, shared and special", "names that lead inside")


def allowed_hosts(port: int) -> tuple[str, ...]:
    """The generous list: what is good, and all that lead inside, in the policy's own spelling."""
    uris = [uri for family in _NAMED_INSIDE for uri in REFUSED[family]] + [f"http://{name}/" for name in REBINDING]
    found = (re.search("//([^/]+)/", filled(uri, port)) for uri in uris)
    inside = (one[1].lower().replace("[", "").replace("]", "") for one in found if one)
    return HOSTS + tuple(dict.fromkeys(spelling for one in inside for spelling in (one, one.removesuffix(f":{port}"))))


def filled(uri: str, port: int, root: str = "", outside: str = "") -> str:
    """With the canaries' port and the folders put in; other braces stay."""
    return uri.replace("{port}", str(port)).replace("{root}", root).replace("{outside}", outside)


def count() -> int:
    """Hostile vectors in all."""
    redirects = sum(not one.allowed for one in REDIRECTS)
    return sum(map(len, REFUSED.values())) + redirects + 2 * len(REBINDING)
