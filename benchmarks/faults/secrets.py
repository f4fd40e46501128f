"""A run in which every stage fails on rows with secrets, in a Ray of its own; then a search through all it leaves behind."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.faults.figures import Figure, Figures
from ray_pipeline import events
from tests.faults import canary_secrets as canaries


def measure() -> Figures:
    """Finds per place: the output folder, what was printed, Ray's own files, and a log of every failure."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as place:  # short, because of the names of Ray's sockets
        root = Path(place)
        for name in ("run", "ray"):
            (root / name).mkdir()
        environment = canaries.environment() | {"RAY_TMPDIR": str(root / "ray")}
        command = [sys.executable, "-m", "tests.faults.canary_secrets", str(root / "run")]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the run ended with {done.returncode}: {done.stderr[-300:]!r}")
        output, files, size = canaries.leaking_files(root / "run" / "out")
        sessions, ray_files, ray_size = canaries.leaking_files(root / "ray")
        logged = canaries.leaks(_log(root / "log"))
    printed = canaries.leaks(done.stdout + done.stderr)
    planted = len(canaries.CANARIES | canaries.COPIED)
    return [
        Figure("secrets in results, run.json, metrics and report", len(output), 0, planted),
        Figure("secrets printed", len(printed), 0, planted),
        Figure("secrets in the files of Ray's session", len(sessions), 0, planted),
        Figure("secrets in a log of every failure", len(logged), 0, planted),
        Figure("files searched", files + ray_files, 20, files + ray_files, at_most=False),
        Figure("searched", (size + ray_size) / 1e6, 0.1, files + ray_files, at_most=False, unit="MB"),
    ]


def _log(file: Path) -> bytes:
    log = events.logger(file)
    for error in canaries.failures():
        log.error("row_failed", error=error)
    return file.read_bytes()
