"""A real S3 server on this machine: Ceph's gateway with one monitor and one store in memory, for as long as a test needs it.

Debian packages `radosgw`, `ceph-mon`, `ceph-osd` and `ceph-common`. It knows conditional puts, versions and wrong keys.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from tests.cluster.local_head import free_ports

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool")
CAPABILITIES = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    "client.rgw.a": {"mon": "allow rwx", "osd": "allow rwx"},
}
CONFIGURATION = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}/0
public addr = 127.0.0.1
keyring = {folder}/keys
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
osd class load list = *
osd class default list = *
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
run dir = {folder}
rgw frontends = beast endpoint=127.0.0.1:{port}
"""


def missing() -> str:
    """Why there can be no such server here; empty when there can."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    return f"not installed: {', '.join(absent)} (apt-get install radosgw ceph-mon ceph-osd ceph-common)" if absent else ""


@dataclass(frozen=True)
class Gateway:
    """Where it listens, the keys of its only user, its log, and its process."""

    url: str
    key: str
    secret: str = field(repr=False)
    log: Path
    process: int

    @property
    def environment(self) -> dict[str, str]:
        """What a client that takes everything from its environment needs."""
        keys = {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}
        return keys | {"AWS_ENDPOINT_URL_S3": self.url, "AWS_DEFAULT_REGION": "us-east-1"}

    def answered(self, method: str, path: str) -> Counter[tuple[str, int]]:
        """How often it has given each status to such a request: by path, which the pattern must match, and status."""
        asked = re.findall(rf'beast: .*? "{method} ({path}) HTTP/1.1" (\d+) ', self.log.read_text())
        return Counter((found[0], int(found[-1])) for found in asked)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It takes connections and requests and says nothing; when the block ends it does all that it was asked, late."""
        os.kill(self.process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process, signal.SIGCONT)

    def client(self) -> Any:
        """A client of the tests' own, beside the one that is tested."""
        keys = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret, "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.url, **keys)


@contextmanager
def running_radosgw(folder: Path) -> Iterator[Gateway]:
    """The server, until the block ends. `folder` must be short, because of the names of sockets."""
    configuration = folder / "ceph.conf"
    port, mon_port = free_ports(2)
    fsid = str(uuid.uuid4())
    configuration.write_text(CONFIGURATION.format(fsid=fsid, folder=folder, port=port, mon_port=mon_port))
    for name in ("mon", "osd"):
        (folder / name).mkdir()
    _make_keys(folder / "keys")
    _run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", str(folder / "monmap"))
    chosen = ("-c", str(configuration))
    with ExitStack() as stack:
        made = ("--monmap", str(folder / "monmap"), "--keyring", str(folder / "keys"))
        _run("ceph-mon", *chosen, "-i", "a", "--mkfs", *made)
        stack.enter_context(_daemon(folder, "ceph-mon", *chosen, "-i", "a", "-f"))
        _run("ceph", *chosen, "osd", "create")
        _run("ceph-osd", *chosen, "-i", "0", "--mkfs", "--no-mon-config")
        _run("ceph", *chosen, "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
        stack.enter_context(_daemon(folder, "ceph-osd", *chosen, "-i", "0", "-f"))
        gateway = stack.enter_context(_daemon(folder, "radosgw", *chosen, "-n", "client.rgw.a", "-f"))
        said = _run("radosgw-admin", *chosen, "user", "create", "--uid", "t", "--display-name", "t")
        (keys,) = json.loads(said[said.index("{") :])["keys"]
        while not _listens(port):
            assert gateway.poll() is None, (folder / "radosgw.out").read_text()
            time.sleep(0.1)
        yield Gateway(
            f"http://127.0.0.1:{port}", keys["access_key"], keys["secret_key"], folder / "client.rgw.a.log", gateway.pid
        )


def _make_keys(place: Path) -> None:
    for number, (name, capabilities) in enumerate(CAPABILITIES.items()):
        words = [word for entity, allowed in capabilities.items() for word in ("--cap", entity, allowed)]
        _run("ceph-authtool", *(() if number else ("--create-keyring",)), str(place), "--gen-key", "-n", name, *words)


def _run(*command: str) -> str:
    """What the command says on stdout; its own time limit keeps a store that does not come up from taking all of the test's."""
    ended = subprocess.run(["nice", "-n", "10", *command], capture_output=True, text=True, timeout=120, env=_environment())
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stderr}"
    return ended.stdout


@contextmanager
def _daemon(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{command[0]}.out").open("wb") as words:
        process = subprocess.Popen(["nice", "-n", "10", *command], stdout=words, stderr=words, env=_environment())
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CEPH_")}


def _listens(port: int) -> bool:
    """Whether something on this machine takes connections at the port."""
    wanted = re.compile(rf"^\s*\d+: 0100007F:{port:04X} \S+ 0A ", re.MULTILINE)
    return bool(wanted.search(Path("/proc/net/tcp").read_text()))
