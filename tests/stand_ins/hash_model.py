"""A family whose answer is a digest of the pixels: any mixing of rows or pictures shows, and it costs next to nothing.

The environment steers it, as it reaches processes that a test cannot: `HASH_MODEL_DELAY_S` is slept for every row, and
`HASH_MODEL_LEDGER` names a file that gets one line for each row computed: the question and the process id.
A question that contains `segv`, `kill`, `hang` or `oom` (memory runs out in company, not alone) does what it says.
"""

import hashlib
import os
import signal
import time
from collections.abc import Sequence

import torch

from ray_pipeline.geometry.footprints import view_footprints
from ray_pipeline.models.contract import (
    Encode,
    FamilyDefaults,
    Generate,
    Generation,
    ReadLines,
    TextLine,
    TextLines,
    VisualTokens,
)
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture


class HashModel:
    """Implements what `refine.method=none` with greedy answers, or reading a page, asks of `contract.Family`."""

    defaults = FamilyDefaults(64, 0, None, 0.2, 1.0)

    def __init__(self) -> None:
        self.delay_s = float(os.environ.get("HASH_MODEL_DELAY_S", "0"))
        self.ledger = os.environ.get("HASH_MODEL_LEDGER")

    def encode(self, requests: Sequence[Encode]) -> list[VisualTokens]:
        return [self._encode(request) for request in requests]

    def _encode(self, request: Encode) -> VisualTokens:
        prints = view_footprints(request.boxes_px[0], 1, 1, 1.0, 0, 0, "patch")
        return VisualTokens(request.picture, request.boxes_px, prints, None, (1, 1))

    def generate(self, requests: Sequence[Generate]) -> list[Generation]:
        for request in requests:
            self._note(request.question)
        for request in requests:
            misbehave(request.question, len(requests))
        time.sleep(self.delay_s * len(requests))
        return [answered(request.tokens.picture) for request in requests]

    def read_lines(self, requests: Sequence[ReadLines]) -> list[TextLines]:
        for request in requests:
            self._note(request.picture.sha256)
        time.sleep(self.delay_s * len(requests))
        return [read(request) for request in requests]

    def _note(self, question: str) -> None:
        if self.ledger is None:
            return
        descriptor = os.open(self.ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, f"{question}\t{os.getpid()}\n".encode())
        finally:
            os.close(descriptor)

    def __getattr__(self, name: str) -> object:
        if name in ("read_attention", "read_gradient", "read_pixel_gradient", "sample"):
            return self._refused
        raise AttributeError(name)

    def _refused(self, requests: Sequence[object]) -> list[object]:
        raise ValueError("a digest has nothing to look at; expected refine.method none and greedy answers")


def misbehave(question: str, company: int) -> None:
    """Do what the question names."""
    if "segv" in question:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "kill" in question:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in question:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        signal.pause()
    if "oom" in question and company > 1:
        raise torch.OutOfMemoryError("planted")


def answered(picture: Picture) -> Generation:
    """The digest as text and as a box."""
    digest = hashlib.sha256(picture.pixels_YX3.tobytes())
    x, y, w, h = (1 + byte for byte in digest.digest()[:4])
    box: Box = (
        picture.width * x / 1024, picture.height * y / 1024,
        picture.width * (x + w) / 1024, picture.height * (y + h) / 1024,
    )  # fmt: skip
    return Generation(digest.hexdigest()[:16], digest.hexdigest()[:16], -0.1, box, -0.2, 2, True)


def read(request: ReadLines) -> TextLines:
    """The digest of a region's pixels as its one line, across its middle."""
    x0, y0, x1, y1 = (round(edge) for edge in request.box_px)
    digest = hashlib.sha256(request.picture.pixels_YX3[y0:y1, x0:x1].tobytes()).hexdigest()
    middle, high = (y0 + y1) / 2, (y1 - y0) / 8
    box: Box = (x0 + (x1 - x0) / 8, middle - high, x1 - (x1 - x0) / 8, middle + high)
    return TextLines((TextLine(box, digest[:16], -0.1),), 1, True)


def load_hash(model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> HashModel:
    """Takes the place of `load_family`."""
    return HashModel()
