"""Time and memory of the demo: `python -m benchmarks.demo`. Bars: under 5 minutes, no process over 3 GiB.

Samples the peak resident memory of every process the demo starts. Ends with one line of figures; exit 1 on a miss.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOST_S, MOST_BYTES = 300.0, 3 * 2**30


def descendants(root: int) -> list[int]:
    """The process and everything below it, as far as it can be seen now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def peak_bytes(pid: int) -> tuple[str, int]:
    """Name and peak resident memory of one process; 0 where it is gone."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    except OSError:
        return "", 0
    return lines["Name"].strip(), 1024 * int(lines.get("VmHWM", "0 kB").split()[0])


def main() -> int:
    """Run the demo once in a new folder and watch it."""
    peaks: dict[tuple[int, str], int] = {}
    with tempfile.TemporaryDirectory(prefix="fovea-demo-") as folder:
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "jobs.demo", "--folder", f"{folder}/demo"], env={**os.environ})
        while process.poll() is None:
            for pid in descendants(process.pid):
                name, peak = peak_bytes(pid)
                peaks[pid, name] = max(peaks.get((pid, name), 0), peak)
            time.sleep(0.25)
        seconds = time.monotonic() - started
    for (pid, name), peak in sorted(peaks.items(), key=lambda item: -item[1])[:6]:
        print(f"{name:24s} {pid:8d} {peak / 2**20:8.0f} MiB")
    largest = max(peaks.values())
    missed = process.returncode != 0 or seconds > MOST_S or largest > MOST_BYTES
    print(json.dumps({"exit": process.returncode, "seconds": round(seconds), "largest process MiB": round(largest / 2**20)}))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
