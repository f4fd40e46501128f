"""One file in ten is bad: what that costs the other nine, in three orders, through as many threads as a worker has.

python -m benchmarks.faults.poison_pictures
"""

import hashlib
import io
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from benchmarks.faults.figures import Figure, Figures, table
from ray_pipeline.delivery.formats.parquet import results_bytes
from ray_pipeline.delivery.rows import PictureFacts, ok_row
from ray_pipeline.intake.decode import Decoder
from schemas.job import FetchSettings
from schemas.manifest import ManifestRow
from schemas.status import RowFailure, Status
from tests.faults import bad_frames
from tests.faults.bad_pictures import BadPicture, bad_pictures, endless_pictures
from tests.faults.junk_answers import junk_answers

FILES, BAD, ORDERS, SEED = 2000, 200, 3, 20261121
SETTINGS = FetchSettings(decode_memory_bytes=1_000_000_000, decode_timeout_s=20, pdf=True)
CLEAN_REPEATS = 100
ROW_S = 0.1  # what a fast model needs for a row, of which the child may take 5 %


@dataclass(frozen=True)
class Decoded:
    """One file's end: its status, the digest of its pixels, and the seconds it took."""

    status: str
    digest: str
    seconds: float


class Bench:
    """A worker's decoding threads, each with a decoder of its own, and the most memory that any child took."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._decoders: list[Decoder] = []
        self.peak_bytes = 0
        self.children: set[int] = set()

    def run(self, files: list[bytes]) -> list[Decoded | None]:
        """The ends in the files' order; null where none came."""
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(stop,))
        watcher.start()
        with ThreadPoolExecutor(SETTINGS.concurrency) as pool:
            futures = [pool.submit(self._decode, data) for data in files]
            ends = [future.result() if future.exception() is None else None for future in futures]
        stop.set()
        watcher.join()
        for decoder in self._decoders:
            decoder.close()
        return ends

    def _decode(self, data: bytes) -> Decoded:
        if not hasattr(self._local, "decoder"):
            self._local.decoder = Decoder(SETTINGS)
            self._decoders.append(self._local.decoder)
        started, digest = time.monotonic(), ""
        try:
            digest = hashlib.sha256(self._local.decoder.decode(data, None).pixels_YX3).hexdigest()
            status: str = Status.OK
        except RowFailure as failure:
            status = failure.status
        return Decoded(status, digest, time.monotonic() - started)

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(0.02):
            for decoder in list(self._decoders):
                pid = decoder.child_pid
                if pid is not None:
                    self.children.add(pid)
                    self.peak_bytes = max(self.peak_bytes, _peak_bytes(pid))


def good_files(count: int) -> list[bytes]:
    """Drawn pictures with texture, PNG and JPEG in turn, no two alike."""
    files = []
    for number in range(count):
        draw = np.random.default_rng(number)
        width, height = (int(side) for side in draw.integers(120, 400, 2))
        image = Image.fromarray(draw.integers(100, 156, (height, width, 3), dtype=np.uint8))
        ImageDraw.Draw(image).ellipse((9, 9, width // 2, height // 2), fill=(number % 256, 40, 200))
        files.append(_saved(image, "PNG" if number % 2 else "JPEG"))
    return files


def chosen_bad(count: int) -> list[BadPicture]:
    """Every special case, and as many of the cut and flipped ones as there is room for."""
    huge = BadPicture("flat jpeg 14,000", bad_frames.flat_jpeg(14_000), frozenset({Status.OK, Status.DECODE_TOO_LARGE}))
    found = [*bad_pictures(SEED), *endless_pictures(), huge]
    common = [bad for bad in found if " cut at " in bad.name or " flipped in " in bad.name]
    special = [bad for bad in found if bad not in common]
    return special + random.Random(SEED).sample(common, count - len(special))


def measure() -> Figures:
    """Three orders of the same files, each against a run of the good ones alone."""
    good, bad = good_files(FILES - BAD), chosen_bad(BAD)
    alone = [end.digest if end else None for end in Bench().run(good)]
    before = _own_descriptors(), _children()
    affected = missing = wrong = children = 0
    peak_bytes, slowest_s = 0, 0.0
    for order in range(ORDERS):
        places = random.Random(SEED + order).sample(range(FILES), FILES)
        files = [*good, *(item.data for item in bad)]
        bench = Bench()
        shuffled = bench.run([files[place] for place in places])
        ends = dict(zip(places, shuffled, strict=True))
        affected += sum(_digest(ends[place]) != alone[place] for place in range(len(good)))
        missing += sum(end is None for end in shuffled)
        wrong += sum(_status(ends[len(good) + place]) not in item.acceptable for place, item in enumerate(bad))
        peak_bytes = max(peak_bytes, bench.peak_bytes)
        slowest_s = max(slowest_s, *(end.seconds for end in shuffled if end))
        children += len(bench.children) - SETTINGS.concurrency
    after = _own_descriptors(), _children()
    rows = FILES * ORDERS
    child_s, own_s = _clean_seconds()
    return [
        *_junk(),
        Figure("good rows affected", affected, 0, len(good) * ORDERS),
        Figure("rows without a status", missing, 0, rows),
        Figure("bad rows with a wrong status", wrong, 0, BAD * ORDERS),
        Figure("largest child over its memory cap", peak_bytes / SETTINGS.decode_memory_bytes, 1.1, rows),
        Figure("slowest file beyond its time", max(0.0, slowest_s - SETTINGS.decode_timeout_s), 1, rows, unit="s"),
        Figure("children replaced per bad row", children / (BAD * ORDERS), 0.1, BAD * ORDERS),
        Figure("children and descriptors left over", sum(after) - sum(before), 0, rows),
        Figure("clean 1 MP picture, child's processor time over own", child_s / own_s, 2, CLEAN_REPEATS),
        Figure("processor time of the child beyond own", (child_s - own_s) * 1000, 50 * ROW_S, CLEAN_REPEATS, unit="ms"),
    ]


def _junk() -> Figures:
    """Answers of a broken model, on their way to the same files."""
    row, facts = ManifestRow(0, "a", "a.png", None, "?", {}), PictureFacts(640, 480, "ab" * 32)
    given = list(junk_answers())
    rows = []
    for _, answer in given:
        try:
            rows.append(ok_row(row, facts, answer))
        except Exception:  # any at all is what is counted
            continue
    written = pq.read_table(pa.BufferReader(results_bytes(rows, pa.schema([])))).num_rows
    return [Figure("junk answers that did not become a row", len(given) - written, 0, len(given))]


def _clean_seconds() -> tuple[float, float]:
    """Seconds of processor time for a JPEG of one megapixel: through the child (both processes), and by Pillow in this one.

    Not seconds of the clock, which on a machine with others on it say more of them.
    """
    data = _saved(Image.fromarray(np.random.default_rng(0).integers(90, 160, (1000, 1000, 3), dtype=np.uint8)), "JPEG")
    with Decoder(SETTINGS) as decoder:
        decoder.decode(data, None)
        pid = decoder.child_pid
        started = time.process_time() + _processor_s(pid)
        for _ in range(CLEAN_REPEATS):
            decoder.decode(data, None)
        through = time.process_time() + _processor_s(pid) - started
    started = time.process_time()
    for _ in range(CLEAN_REPEATS):
        with Image.open(io.BytesIO(data)) as image:
            np.asarray(image.convert("RGB"))
        hashlib.sha256(data).hexdigest()
    return through / CLEAN_REPEATS, (time.process_time() - started) / CLEAN_REPEATS


def _processor_s(pid: int | None) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0]) / 1e9


def _digest(end: Decoded | None) -> str | None:
    return end.digest if end else None


def _status(end: Decoded | None) -> str | None:
    return end.status if end else None


def _saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _peak_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _own_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _children() -> int:
    return len(Path(f"/proc/self/task/{os.getpid()}/children").read_text("utf-8").split())


if __name__ == "__main__":
    print(table("One bad picture in ten", measure()))
