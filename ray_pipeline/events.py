"""What happens in a run, as one JSON object per line: for people who look for the cause, and for programs that count.

    log = events.logger()
    log.info("part_committed", part=3, rows=64)
    {"event": "part_committed", "level": "info", "part": 3, "rows": 64, "time": "2026-11-21T10:00:00.000000Z"}

A line is plain ASCII and belongs to one event, whatever stands in its values: control, bidirectional and other invisible
characters are spelt out, long texts are cut and named by their digest, addresses lose what may be secret, and so do the
texts of exceptions and of what caused them.
"""

import hashlib
import logging
import math
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from ray_pipeline.delivery.escapes import visible
from ray_pipeline.scrubbing import REMOVED, names_a_secret, scrubbed

LONGEST_TEXT, LONGEST_NAME = 300, 60  # characters
MOST_MEMBERS, DEEPEST = 20, 3
LONGEST_CHAIN, MOST_FRAMES = 5, 6  # exceptions shown of a chain, places shown of each
LONGEST_LINE = 16_000  # below what a pipe or an appended file takes in one piece


def logger(file: Path | None = None, **facts: Any) -> FilteringBoundLogger:
    """A log that adds `facts` to every line. Lines go to stderr, or to the end of a file that may not be there yet.

    Raises:
        OSError: the file cannot be opened. Once it could, nothing that happens to it disturbs the work: lines go to stderr.
    """
    steps: list[Processor] = [structlog.processors.add_log_level, _with_exception, _line]
    made: FilteringBoundLogger = structlog.wrap_logger(
        _Lines(file), processors=steps, wrapper_class=structlog.make_filtering_bound_logger(logging.INFO), **facts
    )
    return made


def shown_text(text: str) -> str:
    """Any text as a line shows it: without secrets, visible, cut."""
    clean = visible(scrubbed(text))
    if len(text) <= LONGEST_TEXT and len(clean) <= 2 * LONGEST_TEXT:
        return clean
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{clean[:LONGEST_TEXT]}... ({len(text)} characters, sha256 {digest})"


class _Lines:
    """Where structlog's last processor leaves its text. Each line is one write: lines of several processes do not mix."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        if file is not None:
            os.close(_opened(file))

    def msg(self, line: str) -> None:
        try:
            self._write(line + "\n")
        except (OSError, ValueError):  # a full disk, a closed stderr
            self.file = None
            with suppress(OSError, ValueError):
                self._write(line + "\n")

    def _write(self, line: str) -> None:
        if self.file is None:
            sys.stderr.write(line)
            sys.stderr.flush()
            return
        descriptor = _opened(self.file)
        try:
            os.write(descriptor, line.encode("ascii"))
        finally:
            os.close(descriptor)

    debug = info = warning = error = critical = exception = log = msg


def _opened(file: Path) -> int:
    """A descriptor for one line: whoever moves or cuts the file may do so at any time. A link is not followed."""
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)


def _with_exception(_: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    """`exc_info` as the chain of exceptions that it stands for."""
    found = fields.pop("exc_info", None)
    if isinstance(found, tuple):
        found = found[1]
    error = found if isinstance(found, BaseException) else sys.exception() if found else None
    if error is not None:
        fields["exception"] = error
    return fields


def _line(_: WrappedLogger, method: str, fields: EventDict) -> str:
    """The JSON text. What the log itself says of an event cannot be said by one of its values."""
    own = {"event": fields.pop("event", ""), "level": fields.pop("level", method)}
    clean = {_name(key): _value(key, value, DEEPEST) for key, value in fields.items()}
    own = {"event": shown_text(str(own["event"])), "level": own["level"]}
    stamped = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")(None, method, clean | own)
    line = _json(stamped)
    if len(line) <= LONGEST_LINE:
        return line
    digest = hashlib.sha256(line.encode()).hexdigest()[:12]
    short = {key: value for key, value in list(stamped.items())[:MOST_MEMBERS] if len(str(value)) <= LONGEST_NAME}
    return _json(short | own | {"time": stamped["time"], "left_out": f"{len(line)} characters, sha256 {digest}"})


def _json(fields: Mapping[str, Any]) -> str:
    return str(structlog.processors.JSONRenderer(sort_keys=True, ensure_ascii=True, allow_nan=False)(None, "", dict(fields)))


def _value(key: str, value: Any, depth: int) -> Any:
    """What JSON can hold of a value. Nothing in here may raise: a log must not end the work it tells of."""
    if names_a_secret(key) and not isinstance(value, bool | int | float | None):
        return REMOVED
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or abs(value) < 2**63 else shown_text(hex(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, BaseException):
        return _chain(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()[:12]}"
    if depth and isinstance(value, Mapping):
        return {_name(str(k)): _value(str(k), v, depth - 1) for k, v in list(value.items())[:MOST_MEMBERS]}
    if depth and isinstance(value, Sequence | set | frozenset) and not isinstance(value, str):
        return [_value("", member, depth - 1) for member in list(value)[:MOST_MEMBERS]]
    return shown_text(_text(value))


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"{type(value).__name__} without a text ({type(error).__name__})"


def _name(key: str) -> str:
    """A field's own name; names of the log's own fields are not for values."""
    name = visible(scrubbed(key[:LONGEST_NAME]))
    return f"{name}_" if name in ("event", "level", "time", "left_out") else name


def _chain(error: BaseException) -> list[dict[str, Any]]:
    """The exception and what it came from, outermost first, as Python would print them."""
    chain: list[dict[str, Any]] = []
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen and len(chain) < LONGEST_CHAIN:
        seen.add(id(one))
        notes = [shown_text(_text(note)) for note in list(getattr(one, "__notes__", []))[:MOST_MEMBERS]]
        said = {"type": _name(type(one).__name__), "text": shown_text(_text(one)), "at": _places(one)}
        chain.append(said | ({"notes": notes} if notes else {}))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return chain


def _places(error: BaseException) -> list[str]:
    """The last places of the trace as `file:line function`; neither source lines nor values of variables."""
    frames = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    return [shown_text(f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno} {frame.name}") for frame in frames]
