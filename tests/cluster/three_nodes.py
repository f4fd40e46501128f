"""A real Ray cluster on this machine: a head without work, a node of CPUs and a node with declared GPUs, each with an address.

Each node is what `ray start` makes of it: its own raylet, its own folder, its own ports and its own environment, by which
processes know where they run. On other addresses than 127.0.0.1 Ray listens on all interfaces: the token keeps others out.
"""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.local_head import clean_environment, free_ports, processes_below

PORTS = (
    "node-manager-port", "object-manager-port", "runtime-env-agent-port", "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port", "metrics-export-port",
)  # fmt: skip
HEAD_PORTS = ("port", "dashboard-port")
WORKER_PORTS = 60  # of each node
SETTINGS = {
    "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_memory_monitor_refresh_ms": "0",
    "RAY_metrics_report_interval_ms": "500",  # 10 s otherwise, as long as a short run
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One machine, as Ray sees it. Whatever runs there has files open below its folder."""

    name: str
    address: str
    folder: Path
    ports: dict[str, int]

    @property
    def ledger(self) -> Path:
        """Where the digest model notes what it computes on this node."""
        return self.folder / "ledger"

    def computed(self) -> list[tuple[str, int]]:
        """Question and process of each row that was computed here, in that order."""
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [(question, int(process)) for question, _, process in (line.rpartition("\t") for line in lines)]

    def processes(self) -> list[int]:
        return processes_below(self.folder)

    def raylet(self) -> int:
        """Process id of the daemon that makes this a node."""
        (found,) = [process for process in self.processes() if program(process) == "raylet"]
        return found

    def models(self) -> list[int]:
        """Process ids of the models at work here."""
        return [process for process in self.processes() if "model_process_child" in command_line(process)]

    def counted(self, name: str) -> dict[str, float]:
        """What the node's endpoint for Prometheus says of a counter: its sum over processes, by the value of its only tag."""
        with opener().open(f"http://{self.address}:{self.ports['metrics-export-port']}/metrics", timeout=20) as reply:
            text = reply.read().decode()
        totals: dict[str, float] = {}
        for labels, value in re.findall(rf"^ray_{name}(?:_total)?\{{(.*)\}} (\S+)$", text, re.MULTILINE):
            tag = re.search(r'(?:status|stage)="(\w+)"', labels)
            totals[tag[1] if tag else ""] = totals.get(tag[1] if tag else "", 0.0) + float(value)
        return totals

    def kill(self) -> None:
        """Take the whole node down at once, as a machine goes down."""
        while left := self.processes():
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)


def program(process: int) -> str:
    """Name of the program that a process runs; empty when it has ended."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def command_line(process: int) -> str:
    """What the process was started with; empty when it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def opener() -> urllib.request.OpenerDirector:
    """Goes past any proxy of the environment."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Cluster:
    """Its nodes by name; the first one is the head."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    nodes: dict[str, Node] = field(default_factory=dict)
    first_worker_port: int = field(default_factory=lambda: 23000 + secrets.randbelow(60) * 100)

    @property
    def head(self) -> Node:
        return self.nodes["head"]

    @property
    def job_server(self) -> str:
        return f"http://{self.head.address}:{self.head.ports['dashboard-port']}"

    @property
    def environment(self) -> dict[str, str]:
        """What a driver or a client of this cluster needs."""
        address = f"{self.head.address}:{self.head.ports['port']}"
        own = {"RAY_AUTH_MODE": "token", "RAY_ADDRESS": address, "NO_PROXY": "127.0.0.0/8", "no_proxy": "127.0.0.0/8"}
        return clean_environment(self.token) | own

    def start(self, name: str, cpus: int, gpus: int = 0, environment: Mapping[str, str] | None = None) -> Node:
        """Let another node join; the first one becomes the head. Returns when Ray says that it runs."""
        names = PORTS + (() if self.nodes else HEAD_PORTS)
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        number = len(self.nodes)
        node = Node(name, f"127.0.0.{2 + number}", self.folder / name, ports)
        node.folder.mkdir()
        first = self.first_worker_port + number * WORKER_PORTS
        options = [f"--{option}={port}" for option, port in ports.items()]
        options += [f"--node-ip-address={node.address}", f"--temp-dir={node.folder}/ray", f"--num-cpus={cpus}"]
        options += [f"--num-gpus={gpus}", "--object-store-memory=100000000"]
        options += [f"--min-worker-port={first}", f"--max-worker-port={first + WORKER_PORTS - 1}"]
        if self.nodes:
            options += [f"--address={self.head.address}:{self.head.ports['port']}"]
        else:
            options += ["--head", f"--dashboard-host={node.address}"]
        known = {"NODE_NAME": name, "HASH_MODEL_LEDGER": str(node.ledger), "NO_PROXY": "127.0.0.0/8", "no_proxy": "127.0.0.0/8"}
        self.nodes[name] = node
        with (node.folder / "start.log").open("wb") as words:
            started = subprocess.run(
                ["nice", "-n", "10", "ray", "start", *options],
                env=clean_environment(self.token) | SETTINGS | known | dict(environment or {}),
                stdout=words,
                stderr=words,
            )
        assert started.returncode == 0, (node.folder / "start.log").read_text()
        return node

    def driver(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """The command on this machine, joined to the cluster through RAY_ADDRESS."""
        return popen([sys.executable, "-m", module, *arguments], self.environment)

    def submitted(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """The same through the job server; its driver runs on the head. The exit code is Ray's: 0 or 1."""
        command = ["ray", "job", "submit", "--address", self.job_server, "--", "python", "-m", module, *arguments]
        environment = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        return popen(command, environment)

    def kill(self) -> None:
        """All that is left of it."""
        for node in self.nodes.values():
            node.kill()


def popen(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A client in a process of its own, whose words can be read once it has ended."""
    return subprocess.Popen(
        ["nice", "-n", "10", *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@contextmanager
def three_nodes(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """`head` (no work), `cpu` (2 CPUs) and `gpu` (1 CPU, 1 GPU that is only declared), until the block ends.

    `folder` must be short, because of the names of Ray's sockets. `environment` is given to each node.
    """
    cluster = Cluster(folder)
    try:
        cluster.start("head", 0, environment=environment)
        cluster.start("cpu", 2, environment=environment)
        cluster.start("gpu", 1, 1, environment=environment)
        yield cluster
    finally:
        cluster.kill()
