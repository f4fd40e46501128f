"""One process of a command with a Ray of its own, whose every process can be found and killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MARKS = {"worker": "MapWorker", "model": "model_process_child", "node": "raylet/raylet "}


class Driver:
    """`python -m module` over a manifest. Its words go to OUTPUT.log."""

    def __init__(
        self, module: str, manifest: Path, output: Path, actors: int, settings: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.ray_folder = Path(tempfile.mkdtemp(prefix="rk-", dir="/tmp"))  # a short path, because of the names of its sockets
        options = ["--manifest", str(manifest), "--output", str(output), "--actors", str(actors)]
        for setting in settings:
            options += ["--set", setting]
        self.log = output.with_suffix(".log")
        own = os.environ | {"RAY_TMPDIR": str(self.ray_folder)} | dict(environment)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", module, *options], stdout=log, stderr=log, env=own)

    def processes(self) -> Iterator[tuple[int, str]]:
        """Ids and titles of all processes of this Ray."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if any(os.readlink(link).startswith(str(self.ray_folder)) for link in (folder / "fd").iterdir()):
                    yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")

    def victims(self, kind: str) -> list[int]:
        """Processes whose death is of this kind; none while they are not there yet."""
        if kind == "driver":
            return [self.process.pid]
        return [pid for pid, title in self.processes() if MARKS[kind] in title]

    def end(self) -> None:
        """The machine goes down."""
        self.process.kill()
        self.process.wait()
        while found := [pid for pid, _ in self.processes()]:
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(self.ray_folder, ignore_errors=True)
