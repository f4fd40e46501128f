"""A real Ray head on this machine, started as the files in `cluster` start one: token mode, and every port given."""

import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.rules import METRIC_VARIABLES
from tests.cluster.shipped import FOLDER, Shipped, environment

ROOT = FOLDER.parent
LISTENING = "0A"
NO_OPTIONS = {"dashboard-host", "num-cpus", "object-store-memory"}


def clean_environment(token: str | None = None) -> dict[str, str]:
    """This one without anything of Ray, with the environment's programs first, and with the token if there is one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") or name.startswith("RAY_memory")}
    kept["PATH"] = f"{ROOT / '.venv/bin'}{os.pathsep}{kept['PATH']}"
    return kept | ({"RAY_AUTH_TOKEN": token} if token else {})


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def processes_below(folder: Path) -> list[int]:
    """Ids of the other processes with a file open below the folder: all those of a Ray that keeps its logs there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or belongs to somebody else
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
            found += [int(process.name)] if any(link.startswith(f"{folder}/") for link in links) else []
    return [process for process in found if process != os.getpid()]


@dataclass(frozen=True)
class Head:
    """Where it is, its token, its folder, and the ports it was given by the names of their parameters."""

    token: str
    folder: Path
    ports: dict[str, int]
    worker_ports: range

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.ports['dashboard-port']}"

    def processes(self) -> list[int]:
        return processes_below(self.folder)

    def listeners(self) -> set[tuple[str, int]]:
        """Address and port of everything that its processes listen on over TCP."""
        inodes = set()
        for process in self.processes():
            with suppress(OSError):
                links = [os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir()]
                inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
        return {place for table in ("tcp", "tcp6") for place in _listening(Path("/proc/net") / table, inodes)}


def _listening(table: Path, inodes: set[str]) -> Iterator[tuple[str, int]]:
    for line in table.read_text().splitlines()[1:]:
        columns = line.split()
        if columns[3] == LISTENING and columns[9] in inodes:
            address, port = columns[1].split(":")
            words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
            family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
            yield socket.inet_ntop(family, b"".join(words)).removeprefix("::ffff:"), int(port, 16)


@contextmanager
def local_head(folder: Path) -> Iterator[Head]:
    """A head with every port that kuberay.yaml fixes, at free places on loopback, until the block ends.

    `folder` must be short, because of the names of Ray's sockets. Nothing but the head's own processes is ended.
    """
    shipped = Shipped.read()
    group = shipped.groups[0]
    names = [name for name in group["rayStartParams"] if name not in NO_OPTIONS and not name.endswith("worker-port")]
    variables = [name for name in environment(group["template"]["spec"]["containers"][0]) if name in METRIC_VARIABLES]
    ports = dict(zip([*names, "ray-client-server-port", *variables], free_ports(len(names) + 1 + len(variables)), strict=True))
    first = 21000 + secrets.randbelow(100) * 100
    head = Head(secrets.token_hex(32), folder, ports, range(first, first + 100))
    options = [f"--{name}={port}" for name, port in ports.items() if name not in variables]
    options += [
        f"--min-worker-port={first}",
        f"--max-worker-port={first + 99}",
        "--num-cpus=4",
        "--object-store-memory=100000000",
    ]
    settings = {name: str(ports[name]) for name in variables}
    # The second one: else Ray takes the machine's own address for 127.0.0.1 and opens its ports on all interfaces.
    settings |= {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    settings |= {"RAY_JOB_STOP_WAIT_TIME_S": "30", "RAY_worker_niceness": "0", "RAY_memory_monitor_refresh_ms": "0"}
    try:
        subprocess.run(
            ["ray", "start", "--head", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}/ray", *options],
            env=clean_environment(head.token) | settings,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        yield head
    finally:
        while left := head.processes():
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)


def job_number(said: str) -> str:
    """The id that `submit.sh` gave to the job, from what it said."""
    found = re.search(r"Job '(fovea-[a-z]+-[\d-]+)' submitted", said)
    if not found:
        raise ValueError(f"{said!r}; expected the line of a submitted job")
    return found[1]
