"""The process that holds the model, seen from the worker that started it: it may crash, hang or be killed without harm.

Native code meets strangers' pixels in there: a segmentation fault, a kernel that never returns or the machine's memory
killer end that process alone. The worker sees how it ended, starts another and goes on; Ray never hears of it.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ray_pipeline import model_wire as wire
from schemas.job import JobSettings
from schemas.manifest import Key, ManifestRow
from schemas.picture import Picture
from schemas.status import Status

# Whoever ends a whole job kills its processes in any order. If the worker is next, nothing must be said of the rows.
PAUSE_S = 1.0
LOADS = 3  # tries to load the model after which it cannot be loaded
_START = "import json, sys; sys.path[:0] = json.loads(sys.argv.pop(1)); from ray_pipeline.model_process_child import main; main()"
# What answers pictures needs no keys: they stay with the worker, which fetches and commits.
_KEPT_BACK = ("AWS_", "RAY_AUTH_", "AZURE_", "GOOGLE_APPLICATION_")


class ModelUnavailable(RuntimeError):
    """The model cannot be loaded; one line says why."""


@dataclass(frozen=True)
class Death:
    """How the process ended while it held rows."""

    status: Status
    reason: str


@dataclass
class Answered:
    """Result rows by the number they were asked under, as they ended; and the process's end, where it came before the last."""

    rows: dict[Key, dict[str, Any]] = field(default_factory=dict)
    death: Death | None = None


class ModelProcess:
    """One process at a time, started when it is needed. For one thread at a time."""

    def __init__(self, settings: JobSettings, load: Callable[..., Any] | None = None) -> None:
        self._settings = settings
        self._load = None if load is None else [load.__module__, load.__qualname__]
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._lifeline: socket.socket | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """Process id of the living process; null when another will be started."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Load the model, if it is not loaded.

        Raises:
            ModelUnavailable: it could not be loaded, `LOADS` times in a row or for a reason that stays.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self.end()
        for attempt in range(LOADS):
            try:
                return self._start()
            except (TimeoutError, OSError, ValueError) as error:
                reason = str(error) if isinstance(error, TimeoutError) else self._obituary().reason
                self.end()
                if attempt == LOADS - 1:
                    raise ModelUnavailable(f"the model process does not start: {reason}") from None

    def answer(self, asked: Sequence[tuple[ManifestRow, Picture]]) -> Answered:
        """Ask for all rows side by side; those that ended before the process did are there even if it died.

        Raises:
            ModelUnavailable: no process could be started.
        """
        self.start()
        answered = Answered()
        try:
            self._ask(asked, answered)
        except TimeoutError:
            reason = f"silent for {self._settings.run.call_timeout_s:g} s"
            answered.death = Death(Status.MODEL_TIMEOUT, f"the model process was {reason}")
            self.end()
        except (OSError, ValueError):  # the socket broke, or what came was no message
            answered.death = self._obituary()
            self.end()
        except BaseException:  # interrupted in mid-conversation: the next batch must not get this one's replies
            self.end()
            raise
        return answered

    def end(self) -> None:
        """Kill the process. One that is asked again is started anew."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        for end in (self._channel, self._lifeline):
            if end is not None:
                end.close()
        self._process = self._channel = self._lifeline = None

    def _start(self) -> None:
        self.starts += 1
        channel, theirs = socket.socketpair()
        self._channel = channel
        self._lifeline, ours = socket.socketpair()
        with theirs, ours:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs.fileno()), str(ours.fileno())],
                pass_fds=[theirs.fileno(), ours.fileno()],
                env={name: value for name, value in os.environ.items() if not name.startswith(_KEPT_BACK)},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the terminal is the driver's to handle
            )
        wire.send(channel, {"settings": self._settings.model_dump(mode="json"), "load": self._load})
        timeout_s = self._settings.run.load_timeout_s
        try:
            answer, _ = wire.receive(channel, timeout_s)
        except TimeoutError:
            raise TimeoutError(f"not loaded within {timeout_s:g} s") from None
        if "refused" in answer:
            self.end()
            raise ModelUnavailable(str(answer["refused"]))

    def _ask(self, asked: Sequence[tuple[ManifestRow, Picture]], answered: Answered) -> None:
        channel, timeout_s = self._channel, self._settings.run.call_timeout_s
        if channel is None:
            raise wire.WireBroken("no process")
        channel.settimeout(timeout_s)
        wire.send(channel, {"rows": [_facts(row, picture) for row, picture in asked]})
        for _, picture in asked:
            with _memory(picture) as descriptor:
                channel.settimeout(timeout_s)
                wire.send(channel, {"pixels": True}, descriptor)
        while True:
            message, _ = wire.receive(channel, timeout_s)
            if "ended" in message:
                answered.rows[int(message["ended"])] = message["row"]
            elif "done" in message:
                return

    def _obituary(self) -> Death:
        if self._process is None:
            return Death(Status.MODEL_CRASH, "the model process was never started")
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return Death(Status.MODEL_CRASH, "the model process closed its connection")
        if code == -signal.SIGKILL:
            time.sleep(PAUSE_S)
            return Death(Status.MODEL_CRASH, "the model process was killed (signal 9: by the memory killer, or by somebody)")
        return Death(Status.MODEL_CRASH, f"the model process ended {f'by signal {-code}' if code < 0 else f'with code {code}'}")


def _facts(row: ManifestRow, picture: Picture) -> dict[str, Any]:
    return {
        "number": row.number, "id": row.id, "image_uri": row.image_uri, "page": row.page, "question": row.question,
        "phrases": row.phrases,
        "width": picture.width, "height": picture.height, "sha256": picture.sha256,
    }  # fmt: skip


@contextlib.contextmanager
def _memory(picture: Picture) -> Iterator[int]:
    """Descriptor of the file with the pixels, or of anonymous memory that holds them, open as long as the block runs."""
    if picture.file is not None:
        yield picture.file.descriptor
        return
    descriptor = os.memfd_create("picture", os.MFD_CLOEXEC)
    try:
        rest = memoryview(np.ascontiguousarray(picture.pixels_YX3).data).cast("B")
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        yield descriptor
    finally:
        os.close(descriptor)
