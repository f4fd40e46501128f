"""No way to end without a test: each status is made here from a real fault, or named in the tests of its own stage."""

import os
import signal
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
import torch

from ray_pipeline.batching import converse
from ray_pipeline.delivery.rows import PictureFacts, ok_row
from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.decode import Decoder
from ray_pipeline.intake.fetch import Fetcher
from ray_pipeline.models.contract import Encode
from schemas.job import FetchSettings
from schemas.manifest import ManifestRow
from schemas.status import RowFailure, Status
from tests.faults.bad_frames import jpeg_of_scans
from tests.faults.junk_answers import SOUND
from tests.ray_pipeline.intake import hostile_images as hostile

TESTS = Path(__file__).parents[1]
ROW, FACTS = ManifestRow(0, "a", "a.png", None, "?", {}), PictureFacts(640, 480, "ab" * 32)
LIMITS = FetchSettings(decode_timeout_s=90)


def fetched(folder: Path, address: str, **limits: object) -> None:
    settings = FetchSettings().model_copy(update=limits)
    Fetcher(settings, AddressPolicy.from_settings(settings, str(folder), False)).fetch(address)


def decoded(data: bytes, **limits: object) -> None:
    with Decoder(LIMITS.model_copy(update=limits)) as decoder:
        decoder.decode(data, None)


def crashed() -> None:
    """The child falls while it holds the file: stopped before the file comes, killed when it is there."""
    with Decoder(LIMITS) as decoder:
        pid = decoder.child_pid or 0
        os.kill(pid, signal.SIGSTOP)
        later = threading.Timer(0.3, lambda: (os.kill(pid, signal.SIGSEGV), os.kill(pid, signal.SIGCONT)))
        later.start()
        try:
            decoder.decode(hostile.png_header(9, 9), None)
        finally:
            later.join()


def asked_of(error: Exception) -> None:
    """A row whose every request makes the model raise this."""

    def fail(requests: object) -> NoReturn:
        raise error

    def talk() -> Generator[Encode, None, None]:
        yield object.__new__(Encode)

    calls = ("encode", "read_attention", "read_gradient", "read_pixel_gradient", "generate", "sample", "read_lines")
    end = converse(SimpleNamespace(**dict.fromkeys(calls, fail)), {0: talk()})[0]  # type: ignore[arg-type]
    if isinstance(end, RowFailure):
        raise end


def said(status: str | object) -> None:
    if status != Status.OK:
        raise RowFailure(Status(status), "as the row says")


MADE: dict[Status, Callable[[Path], None]] = {
    Status.OK: lambda folder: said(ok_row(ROW, FACTS, SOUND)["status"]),
    Status.FETCH_DENIED: lambda folder: fetched(folder, "http://127.0.0.1/a.png"),
    Status.FETCH_NOT_FOUND: lambda folder: fetched(folder, "absent.png"),
    Status.FETCH_TOO_LARGE: lambda folder: fetched(folder, "nine", max_bytes=8),
    Status.DECODE_UNSUPPORTED: lambda folder: decoded(b"<svg/>"),
    Status.DECODE_CORRUPT: lambda folder: decoded(b""),
    Status.DECODE_TOO_LARGE: lambda folder: decoded(hostile.png_header(100_000, 100_000)),
    Status.DECODE_CRASH: lambda folder: crashed(),
    Status.DECODE_TIMEOUT: lambda folder: decoded(jpeg_of_scans(6000, 20_000), decode_timeout_s=0.5),
    Status.MODEL_OOM: lambda folder: asked_of(torch.OutOfMemoryError("planted")),
    Status.MODEL_CRASH: lambda folder: asked_of(RuntimeError("planted")),
    Status.INVALID_OUTPUT: lambda folder: said(ok_row(ROW, FACTS, None)["status"]),  # type: ignore[arg-type]
}
# Those that take a server or a model: the tests that make them.
ELSEWHERE = {
    Status.FETCH_TIMEOUT: "ray_pipeline/intake/test_fetch.py",
    Status.FETCH_FAILED: "ray_pipeline/intake/test_fetch.py",
    Status.MODEL_TIMEOUT: "ray_pipeline/test_model_process.py",
    Status.SKIPPED: "end_to_end/test_answer_planted.py",
}


def test_each_status_has_its_place() -> None:
    assert set(MADE) | set(ELSEWHERE) == set(Status)
    assert set(MADE) & set(ELSEWHERE) == set()


@pytest.mark.parametrize("status", MADE)
def test_a_real_fault_makes_it(tmp_path: Path, status: Status) -> None:
    (tmp_path / "nine").write_bytes(bytes(9))
    found = Status.OK
    try:
        MADE[status](tmp_path)
    except RowFailure as failure:
        found = failure.status
    assert found == status


@pytest.mark.parametrize("status", ELSEWHERE)
def test_the_tests_of_its_stage_name_it(status: Status) -> None:
    text = (TESTS / ELSEWHERE[status]).read_text("utf-8")
    assert f"Status.{status.name}" in text or f'"{status.value}"' in text
