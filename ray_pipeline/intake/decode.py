"""An image's bytes → upright RGB pixels, decoded in a warm child process that may die without harm."""

import contextlib
import importlib.util
import json
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray

from ray_pipeline.intake import decode_wire as wire
from ray_pipeline.intake.document import Document, sealed_memory, unnamed_file
from schemas.job import FetchSettings
from schemas.picture import Picture, PixelFile
from schemas.status import RowFailure, Status

_START_S = 60.0  # a fresh interpreter on a busy machine; no file's time runs meanwhile
_STARTS = 3  # tries in a row after which no child can be started
_PAUSE_S = 1.0  # between a kill from outside and the second try, and between two tries to start
_NO_RESERVE = 0x4000  # Linux's MAP_NORESERVE, which `mmap` does not name
_FILES_PER_CHILD = 1000  # memory that Pillow's libraries keep goes back now and then
_START = "import json, sys; sys.path[:0] = json.loads(sys.argv.pop(1)); from ray_pipeline.intake.decode_child import main; main()"
Pixels = NDArray[np.uint8]
_T = TypeVar("_T")
_DECODE_STATUSES = frozenset(status for status in Status if status.startswith("decode_"))


class DecoderUnavailable(RuntimeError):
    """No child can be started, `_STARTS` times in a row; one line says why. It says nothing about any file."""


def refuse_missing_libvips(settings: FetchSettings) -> None:
    """For the start of a run: nothing is begun that this installation cannot do.

    Raises:
        DecoderUnavailable: pages are to be read in bands, and pyvips is not installed.
    """
    if settings.huge_pixels and importlib.util.find_spec("pyvips") is None:
        raise DecoderUnavailable("fetch.huge_pixels needs pyvips, which is not installed here: pip install 'fovea[vips]'")


class Decoder:
    """One child process at a time. For one thread at a time; give each thread its own.

    Raises:
        DecoderUnavailable: on creation or in any call, when no child can be started (too little memory allowed, a broken
            installation, no processes left).
    """

    def __init__(self, settings: FetchSettings) -> None:
        refuse_missing_libvips(settings)
        _refuse_missing_scratch(settings.scratch)
        self._settings = settings
        self._child: _Child | None = self._started()

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def child_pid(self) -> int | None:
        """Process id of the child that waits for the next file; null when a fresh one will be started."""
        return self._child.pid if self._child else None

    def decode(self, data: bytes, page: int | None) -> Picture:
        """The chosen page (0-based; null = the first) of a file of which nothing more is asked, upright, RGB.

        The pixels are mapped, not copied, and belong to the picture. The file's time is `decode_timeout_s`.

        Raises:
            RowFailure: decode_unsupported, decode_corrupt, decode_too_large, decode_crash or decode_timeout.
        """
        with _document(data) as document:
            return self._patiently(lambda child: child.page(document, page or 0, wire.ALONE))

    def open(self, document: Document) -> None:
        """Count the document's pages. Its pages' time does not run meanwhile.

        Raises:
            RowFailure: as `decode`; the document as a whole cannot be used.
        """
        self._patiently(lambda child: child.open(document))

    def page(self, document: Document, page: int) -> Picture:
        """One page of an opened document, as `decode` gives it; the child keeps the document for the next one.

        Raises:
            RowFailure: as `decode`, of this page alone.
        """
        return self._patiently(lambda child: child.page(document, page, document.number))

    def _patiently(self, ask: "Callable[[_Child], _T]") -> _T:
        try:
            return self._asked(ask)
        except _KilledFromOutside:
            # Whoever ends a whole job kills its processes in any order. If this one is next, nothing is said of the row.
            time.sleep(_PAUSE_S)
        try:
            return self._asked(ask)
        except _KilledFromOutside as killed:
            raise RowFailure(killed.status, f"{killed}, twice") from None

    def _asked(self, ask: "Callable[[_Child], _T]") -> _T:
        child = self._living_child()
        try:
            return ask(child)
        except RowFailure:
            raise
        except _KilledFromOutside:
            self._discard()
            raise
        except _ChildFailure as failure:
            self._discard()
            raise RowFailure(failure.status, str(failure)) from None
        except (OSError, MemoryError) as error:  # no memory or no descriptor left in this process
            self._discard()
            raise RowFailure(Status.DECODE_CRASH, f"no room for the picture: {error}") from None
        except BaseException:  # interrupted in mid-conversation: the next file must not get this one's reply
            self._discard()
            raise

    def close(self) -> None:
        """End the child. A decoder that is used again starts another."""
        self._discard()

    def _living_child(self) -> "_Child":
        """A child that died between two files is not the next file's fault."""
        if self._child and (self._child.files >= _FILES_PER_CHILD or not self._child.is_alive()):
            self._discard()
        if self._child is None:
            self._child = self._started()
        return self._child

    def _started(self) -> "_Child":
        said = ""
        for attempt in range(_STARTS):
            if attempt:
                time.sleep(_PAUSE_S)  # as with a file: perhaps everything is being ended
            try:
                return _Child(self._settings)
            except (_NotReady, OSError) as error:
                said = str(error)
        raise DecoderUnavailable(f"the decoder process does not start: {said}")

    def _discard(self) -> None:
        if self._child:
            self._child.kill()
            self._child = None


class _NotReady(Exception):
    """A child that ended, or fell silent, before it said that it is ready."""


class _ChildFailure(Exception):
    """The child cannot be used any more."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


class _KilledFromOutside(_ChildFailure):
    """Signal 9, which nothing in the child sends: the machine's memory killer, or somebody who ends everything."""


class _Child:
    """One child process and the socket to it."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self.files = 0
        self._channel, theirs = socket.socketpair()
        words = os.memfd_create("decoder-words", os.MFD_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                [*_command(settings), str(theirs.fileno()), *_limits(settings)],
                pass_fds=[theirs.fileno()],
                env={"OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,  # a Ctrl-C in the terminal is the parent's to handle
            )
            theirs.close()
            self._await_ready(words)
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()
            os.close(words)

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._channel.close()

    def open(self, document: Document) -> None:
        """Count the pages; RowFailure when the child has judged the file, or _ChildFailure."""
        self.files += 1
        self._ask(wire.OPEN_MARK, document, document.number, 0, [document.descriptor])

    def page(self, document: Document, page: int, number: int) -> Picture:
        """The page, or RowFailure, or _ChildFailure. By another number it is another document."""
        self.files += 1
        memory = sealed_memory("picture-pixels", b"", self._settings.max_pixels * 3)
        try:
            width, height = self._ask(wire.PAGE_MARK, document, number, page, [document.descriptor, memory])
            if not 0 < width * height <= max(self._settings.max_pixels, self._settings.huge_pixels):
                raise _ChildFailure(Status.DECODE_CRASH, f"the decoder sent a picture of {width} x {height} pixels")
            if width * height <= self._settings.max_pixels:
                return Picture(_mapped(memory, width, height), document.sha256)
        finally:
            os.close(memory)
        return self._huge_page(document, page, number, (width, height))

    def _huge_page(self, document: Document, page: int, number: int, size: tuple[int, int]) -> Picture:
        folder, wanted = self._settings.scratch, size[0] * size[1] * 3
        memory = sealed_memory("picture-pixels", b"", wanted) if folder is None else unnamed_file(folder, wanted)
        try:
            told = self._ask(wire.HUGE_MARK, document, number, page, [document.descriptor, memory])
            # A file cannot be sealed: nobody who could cut it short may be left when it is looked at.
            self.kill()
            if told != size or os.fstat(memory).st_size < wanted:
                raise _ChildFailure(Status.DECODE_CRASH, f"the decoder sent a picture of {told[0]} x {told[1]} pixels")
            kept = None if folder is None else PixelFile(memory)
            return Picture(_mapped(memory, *size), document.sha256, kept)
        finally:
            os.close(memory)

    def _ask(self, mark: bytes, document: Document, number: int, page: int, descriptors: list[int]) -> tuple[int, int]:
        request = wire.TASK.pack(mark, number, _clamped(page), document.bytes)
        end_s = time.monotonic() + self._settings.decode_timeout_s
        try:
            self._channel.settimeout(self._settings.decode_timeout_s)
            socket.send_fds(self._channel, [request], descriptors)
            mark, width, height, pages, text_bytes = wire.REPLY.unpack(self._receive(wire.REPLY.size, end_s))
            if mark != wire.REPLY_MARK or text_bytes > wire.LONGEST_TEXT_BYTES:
                raise _ChildFailure(Status.DECODE_CRASH, "the decoder sent a broken reply")
            if text_bytes:
                raise _verdict(self._receive(text_bytes, end_s))
        except TimeoutError:
            message = f"not decoded within {self._settings.decode_timeout_s:g} s"
            raise _ChildFailure(Status.DECODE_TIMEOUT, message) from None
        except (OSError, EOFError):
            raise self._obituary() from None
        if not 1 <= pages <= self._settings.max_pages or document.pages not in (0, pages):
            raise _ChildFailure(Status.DECODE_CRASH, f"the decoder counted {pages} pages, after {document.pages}")
        document.pages = pages
        return width, height

    def _receive(self, size: int, end_s: float) -> bytes:
        """Exactly `size` bytes, or EOFError, or TimeoutError at the deadline."""
        received = b""
        while len(received) < size:
            self._channel.settimeout(max(0.001, end_s - time.monotonic()))
            chunk = self._channel.recv(size - len(received))
            if not chunk:
                raise EOFError
            received += chunk
        return received

    def _await_ready(self, words: int) -> None:
        try:
            ready = self._receive(len(wire.READY_MARK), time.monotonic() + _START_S) == wire.READY_MARK
        except (OSError, EOFError):  # TimeoutError is an OSError
            ready = False
        if not ready:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)  # its end closes the socket a moment before it can be seen
            code = self._process.poll()
            self.kill()
            said = os.pread(words, 4096, max(0, os.fstat(words).st_size - 4096)).decode(errors="replace").strip()
            silent = f"not ready within {_START_S:g} s" if code is None else f"exit code {code}"
            last = said.splitlines()[-1] if said else silent
            raise _NotReady(last)

    def _obituary(self) -> _ChildFailure:
        """How the child ended. Running out of CPU time is a timeout: the clock would have said so a moment later."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.poll()
        if code == -signal.SIGXCPU:
            return _ChildFailure(Status.DECODE_TIMEOUT, "used up its CPU time")
        if code == -signal.SIGKILL:
            return _KilledFromOutside(Status.DECODE_CRASH, "the decoder process was killed (signal 9)")
        cause = "lost its connection" if code is None else f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return _ChildFailure(Status.DECODE_CRASH, f"the decoder process {cause}")


def _command(settings: FetchSettings) -> list[str]:
    """An isolated interpreter: no environment, no working folder on its path, only where our code and the libraries lie."""
    folders = dict.fromkeys(str(Path(file).resolve().parents[level]) for file, level in _homes(settings))
    return [sys.executable, "-I", "-c", _START, json.dumps(list(folders))]


def _homes(settings: FetchSettings) -> list[tuple[str, int]]:
    homes = [(__file__, 2), (str(PIL.__file__), 1), (str(np.__file__), 1)]
    wanted = [("pypdfium2_raw", 1, settings.pdf), ("pyvips", 1, settings.huge_pixels), ("_cffi_backend", 0, settings.huge_pixels)]
    for name, level, is_wanted in wanted:
        if is_wanted:
            homes.append((_origin(name), level))
    return homes


def _origin(name: str) -> str:
    """Where a module lies: found, not loaded, since it is for the child alone."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise _NotReady(f"{name.partition('_raw')[0]} is not installed")
    return found.origin


def _limits(settings: FetchSettings) -> list[str]:
    pdf_dpi = settings.pdf_dpi if settings.pdf else 0
    sizes = (settings.max_pixels, settings.max_pages, pdf_dpi, settings.huge_pixels, settings.decode_memory_bytes)
    numbers = (*sizes, math.ceil(settings.decode_timeout_s))
    return [str(number) for number in numbers]


def _refuse_missing_scratch(folder: str | None) -> None:
    """Each machine has its own."""
    if folder is not None and not (os.path.isabs(folder) and os.access(folder, os.W_OK | os.X_OK)):
        raise DecoderUnavailable(f"fetch.scratch {folder!r}: expected the absolute path of a folder that can be written to")


def _document(data: bytes) -> Document:
    try:
        return Document(data)
    except (OSError, MemoryError) as error:
        raise RowFailure(Status.DECODE_CRASH, f"no room for the picture: {error}") from None


def _mapped(memory: int, width: int, height: int) -> Pixels:
    """Private map: later writes stay in this process, and memory is only counted for those."""
    mapping = mmap.mmap(memory, width * height * 3, flags=mmap.MAP_PRIVATE | _NO_RESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return np.frombuffer(mapping, dtype=np.uint8).reshape(height, width, 3)


def _verdict(text: bytes) -> Exception:
    """The child's judgement of the file, itself checked: hostile bytes may have taken the child over."""
    try:
        status, message = json.loads(text)
        status, message = Status(status), str(message)
    except ValueError:
        return _ChildFailure(Status.DECODE_CRASH, "the decoder sent a broken reply")
    if status not in _DECODE_STATUSES:
        return _ChildFailure(Status.DECODE_CRASH, f"the decoder sent status {status}")
    return RowFailure(status, "".join(letter if letter.isprintable() else " " for letter in message))


def _clamped(page: int) -> int:
    return max(-(2**62), min(2**62, page))
