"""Run as a program: opens every Parquet file of a folder as a manifest, in name order, in this one process.

Argument: the folder. Prints a line of JSON for each: [name, refusal or null, seconds, peak bytes of the process so far], and
before them one of the process as it starts.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
Verdict = tuple[str, str | None, float, int]


def opened_apart(folder: Path, timeout_s: float) -> list[Verdict]:
    """The verdicts of a fresh process, which the files may kill: then those after it are missing."""
    command = [sys.executable, __file__, str(folder)]
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=timeout_s, check=False).stdout
    return [tuple(json.loads(line)) for line in said.splitlines()]


def _peak_bytes() -> int:
    """Of this program alone; what `getrusage` says includes the process that started it."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """One line for each file, written at once."""
    sys.path.insert(0, str(ROOT))
    from ray_pipeline.intake.manifest import ManifestRefused, open_manifest
    from tests.faults.hostile_manifests import COLUMNS, PASSTHROUGH

    print(json.dumps(["", None, 0.0, _peak_bytes()]), flush=True)
    for path in sorted(Path(sys.argv[1]).iterdir()):
        started, refusal = time.monotonic(), None
        try:
            open_manifest(str(path), None, COLUMNS, PASSTHROUGH)
        except ManifestRefused as error:
            refusal = str(error)
        print(json.dumps([path.stem, refusal, time.monotonic() - started, _peak_bytes()]), flush=True)


if __name__ == "__main__":
    main()
