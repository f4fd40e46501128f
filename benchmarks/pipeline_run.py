"""One run of the whole pipeline in a process of its own, and what its output folder says about the time it took."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ran:
    """`work_s` is from the first part's beginning to the last one's commit: without starting Ray and loading the model.

    `driver_bytes` is the driver's resident memory, about once a second.
    """

    code: int
    rows: int
    work_s: float
    wall_s: float
    parts: list[dict[str, Any]]
    driver_bytes: list[int]
    ends_s: list[tuple[float, int]]  # when parts were committed, in order, and their rows

    def steady_rows_per_s(self, first: float = 0.4, last: float = 0.9) -> float:
        """The pace in the middle of the run: all workers have started by then, and none has run out of parts."""
        a, b = int(first * len(self.ends_s)), int(last * len(self.ends_s))
        return sum(rows for _, rows in self.ends_s[a + 1 : b + 1]) / (self.ends_s[b][0] - self.ends_s[a][0])

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.work_s


def run(module: str, manifest: Path, output: Path, options: list[str], settings: list[str], **environment: str) -> Ran:
    """`python -m module` over the manifest, to its end.

    Raises:
        RuntimeError: it did not end well; its last words are in it.
    """
    command = [sys.executable, "-m", module, "--manifest", str(manifest), "--output", str(output), *options]
    for setting in settings:
        command += ["--set", setting]
    with open(output.with_suffix(".log"), "w+b") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
        driver_bytes = _followed(process)
        log.seek(0)
        words = log.read().decode(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{module} ended with {process.returncode}: {words[-2000:]}")
    metrics = json.loads((output / "metrics.json").read_text())
    ends = {part["part"]: (output / "results" / f"part-{part['part']:05d}.parquet").stat().st_mtime for part in metrics["parts"]}
    begins = [ends[part["part"]] - part["seconds"] for part in metrics["parts"]]
    work_s = max(ends.values()) - min(begins)
    ended = sorted((ends[part["part"]], int(part["rows"])) for part in metrics["parts"])
    return Ran(process.returncode, metrics["rows_this_run"], work_s, metrics["wall_s"], metrics["parts"], driver_bytes, ended)


def _followed(process: "subprocess.Popen[bytes]") -> list[int]:
    seen: list[int] = []
    while True:
        try:
            process.wait(1.0)
            return seen
        except subprocess.TimeoutExpired:
            status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            seen += [1024 * int(line.split()[1]) for line in status if line.startswith("VmRSS:")]
