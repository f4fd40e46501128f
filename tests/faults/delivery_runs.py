"""Whole runs of the delivery layer, without Ray and without a model, in processes that can be killed and stopped.

A server process imports everything once and forks a driver for each run, so that a run costs milliseconds. A driver does
what a real one does: recover, compute batch by batch into the journal, commit, clear, index, clean up. Each row's answer
names the process that computed it, so that an overwritten file would show.

Two ledgers, written with one O_APPEND write per line, are the oracles: `computed` (row, pid) and `committed` (part, sha256).
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_pipeline.delivery.audit import Expected, verify_output
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.committed_part import PartUnreadable, read_part, sha256_of
from ray_pipeline.delivery.fingerprint import fingerprint
from ray_pipeline.delivery.formats.parquet import results_bytes, results_rows
from ray_pipeline.delivery.index import complete
from ray_pipeline.delivery.journal import Journal
from ray_pipeline.delivery.rows import PictureFacts, failed_row, ok_row
from schemas.job import JobSettings
from schemas.manifest import ManifestRow, Part
from schemas.result import Perception, Refinement
from schemas.status import RETRYABLE, RowFailure, Status

ROWS, PART_ROWS, BATCH = 22, 8, 3
IDS = [f"page-{number}" for number in range(ROWS)]
PARTS = [Part(k, first, min(PART_ROWS, ROWS - first)) for k, first in enumerate(range(0, ROWS, PART_ROWS))]
FAILING = range(0, ROWS, 5)
DIGEST = "5a" * 32
SETTINGS = JobSettings(manifest="m.parquet", output="out")
FACTS = fingerprint(SETTINGS, DIGEST, {"model.safetensors": "77" * 32})
RUN_FILE = json.dumps({"settings": SETTINGS.model_dump(mode="json"), "fingerprint": FACTS}).encode()


def drive(folder: Path, pause_s: float = 0.0, again: bool = False, uri: str | None = None) -> None:
    """One driver from start to index, in this process. The output is `folder/out`; the ledgers are in `folder`.

    Every fifth row fails in a passing way; with `again` those are computed once more, and then they do not.
    """
    output = Output(uri or str(folder / "out"))
    output.clean_staging()
    output.create("run.json", RUN_FILE)
    for part in PARTS:
        _work(output, folder, part, pause_s, again)
    complete(output, PARTS, DIGEST, FACTS)
    output.clean_staging()
    output.clean_journals()


def _work(output: Output, folder: Path, part: Part, pause_s: float, again: bool) -> None:
    name = f"results/{part.name}"
    rows: dict[int, dict[str, Any]] = {}
    if output.exists(name):
        old = {IDS.index(row["id"]): row for row in results_rows(output.read(name))}
        rows = {number: row for number, row in old.items() if Status(row["status"]) not in RETRYABLE}
        if not again or len(rows) == len(old):
            return
        output.reopen()
    journal = Journal(output, part)
    rows |= {number: row for number, row in journal.read().rows.items() if not again or Status(row["status"]) not in RETRYABLE}
    todo = [number for number in range(part.first_row, part.first_row + part.rows) if number not in rows]
    for start in range(0, len(todo), BATCH):
        batch = todo[start : start + BATCH]
        journal.suspect(batch)
        done = {number: _computed(folder, number, pause_s, again) for number in batch}
        journal.finish(done)
        rows |= done
    data = results_bytes([rows[number] for number in sorted(rows)], pa.schema([]))
    if output.create(name, data):
        _note(folder / "committed", f"{part.number} {sha256_of(data)}")
    elif again:
        output.supersede(name, data)
    journal.clear()


def _computed(folder: Path, number: int, pause_s: float, again: bool) -> dict[str, Any]:
    _note(folder / "computed", f"{number} {os.getpid()}")
    time.sleep(pause_s)
    row = ManifestRow(number, IDS[number], f"{number}.png", None, "what?")
    if number in FAILING and not again:
        return failed_row(row, RowFailure(Status.FETCH_TIMEOUT, "too slow"), None)
    refinement = Refinement("none", (), False, "off")
    said = Perception(f"process {os.getpid()}", 0.1, (0.1, 0.2, 7.3, 9), 0.5, None, None, refinement, (), 1, 196)
    return ok_row(row, PictureFacts(30, 20, "00" * 32), said)


def _note(ledger: Path, line: str) -> None:
    descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def noted(folder: Path, ledger: str) -> list[tuple[int, str]]:
    """The lines of a ledger: a number and what was said of it."""
    path = folder / ledger
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(number), said) for number, said in map(str.split, lines)]


def recomputed(folder: Path) -> int:
    """How many rows were computed more than needed, over all runs so far that together finished the output."""
    return len(noted(folder, "computed")) - ROWS


def findings(folder: Path, again: bool = False) -> list[str]:
    """Everything that is wrong with a finished run: rows, files, leftovers, double commits, overwritten commits."""
    output = Output(str(folder / "out"))
    found = verify_output(output, Expected(DIGEST, iter(IDS)))
    for place in (".staging", ".journal"):
        found += [f"{place}/{name} is left" for name in sorted(os.listdir(folder / "out" / place))]
    commits = noted(folder, "committed")
    found += [
        f"part {part} was committed {times} times" for part, times in Counter(part for part, _ in commits).items() if times > 1
    ]
    for part, digest in () if again else commits:
        if sha256_of(output.read(f"results/{PARTS[part].name}")) != digest:
            found.append(f"part {part} was overwritten")
    return found


def scratch_folder() -> "tempfile.TemporaryDirectory[str]":
    """A folder where syncing costs nothing, where there is such a place: kills do not lose what the kernel has."""
    return tempfile.TemporaryDirectory(prefix="delivery-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def watch(folder: Path, stop: Path) -> list[str]:
    """Read every visible file again and again until `stop` is there; whatever is partial, or not what it was before."""
    output, seen, found, looks = Output(str(folder / "out")), {}, [], 0
    while True:
        last = stop.exists()
        for name in output.list_results():
            data = output.read_result(name)
            with suppress(PartUnreadable):
                if read_part(data).rows == PARTS[int(name[5:10])].rows and seen.setdefault(name, sha256_of(data)) == sha256_of(
                    data
                ):
                    continue
            found.append(f"{name}: {len(data)} bytes of {sha256_of(data)[:8]}, first {seen.get(name, 'never')[:8]}")
        looks += 1
        if last:
            return [*found, f"looked {looks} times"]
        time.sleep(0.002)


def _serve() -> None:
    """One line of JSON in, one out: fork what is asked for, wait for it, say how it ended."""
    pa.Table.from_pylist([{"a": 1}])  # imports pandas where there is one, which costs ten times what a run does
    for line in sys.stdin:
        print(json.dumps(_done(**json.loads(line))), flush=True)


def _done(
    folder: str, points: list[str], pause_s: float, seed: int | None, kill_s: float | None, clocks: list[float], again: bool
) -> list[int]:
    """Exit codes of drivers running side by side, one per fail point (an empty one lets it run)."""
    pids = [_forked(Path(folder), point, pause_s, clock, again) for point, clock in zip(points, clocks, strict=True)]
    if kill_s is not None:
        time.sleep(kill_s)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    codes = _disturbed(pids, random.Random(seed)) if seed is not None else {pid: os.waitpid(pid, 0)[1] for pid in pids}
    return [os.waitstatus_to_exitcode(codes[pid]) for pid in pids]


def _forked(folder: Path, point: str, pause_s: float, clock: float, again: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.environ["DELIVERY_FAIL_POINT"] = point
    true_time = time.time
    time.time = lambda: true_time() + clock
    try:
        drive(folder, pause_s, again)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def _disturbed(pids: list[int], chance: random.Random) -> dict[int, int]:
    """Stop and wake the processes at random until all have ended by themselves."""
    codes: dict[int, int] = {}
    while len(codes) < len(pids):
        for pid in (pid for pid in pids if pid not in codes):
            os.kill(pid, chance.choice((signal.SIGSTOP, signal.SIGCONT, signal.SIGCONT)))
        time.sleep(chance.uniform(0, 0.006))
        for pid in (pid for pid in pids if pid not in codes):
            ended, code = os.waitpid(pid, os.WNOHANG)
            if ended:
                codes[pid] = code
    return codes


class DeliveryRuns:
    """The server, as a context; its children end with it."""

    def __enter__(self) -> "DeliveryRuns":
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.delivery_runs"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def run(
        self,
        folder: Path,
        *points: str,
        pause_s: float = 0.0,
        seed: int | None = None,
        kill_s: float | None = None,
        clocks: tuple[float, ...] = (),
        again: bool = False,
    ) -> list[int]:
        """Drivers side by side, one per fail point (default: one, undisturbed); their exit codes.

        With a seed they are stopped and woken at random; with `kill_s` all are killed after so many seconds.
        """
        folder.mkdir(exist_ok=True)
        points = points or ("",)
        order = {"folder": str(folder), "points": points, "pause_s": pause_s, "seed": seed, "kill_s": kill_s, "again": again}
        order["clocks"] = clocks or (0.0,) * len(points)
        assert self._server.stdin and self._server.stdout
        print(json.dumps(order), file=self._server.stdin, flush=True)
        answer = self._server.stdout.readline()
        assert answer, f"the server of runs ended: {self._server.stderr and self._server.stderr.read()}"
        codes: list[int] = json.loads(answer)
        return codes


if __name__ == "__main__":
    _serve()
