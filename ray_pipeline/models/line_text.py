"""Lines of text in what a model wrote about a page, with the box and the characters of each.

    JSON      [{"bbox_2d": [12, 7, 340, 98], "text_content": "TOTAL 12.50"}]        Qwen, also fenced as ```json
    marked    <ref>TOTAL 12.50</ref><box>[[12, 7, 340, 98]]</box>                   InternVL, also without its marks
    plain     TOTAL 12.50                                                           all others, one line each

Numbers are as written, in the family's own frame, as in box_text. An answer that was cut off keeps what it has of its
last line. A line without a box is not the same as one whose box cannot be read.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ray_pipeline.models.box_text import BOX_KEY, MARKED, OBJECT, Span, list_box

_TEXT = re.compile(r'"(?:text_content|text|transcription|label)"\s*:\s*"((?:[^"\\]|\\.)*+)')
_BARE = re.compile(r"^(?P<text>[^\n]*?)\s*(?P<box>\[\[[^\[\]\n]*(?:\]\]?)?)\s*$", re.MULTILINE)
_FENCE = re.compile(r"^```\w*$")
Values = tuple[float, float, float, float]


@dataclass(frozen=True)
class WrittenLine:
    """One line: its text, the characters that spell it, and its four numbers. `unreadable`: a box was begun in vain."""

    text: str
    span: Span
    values: Values | None
    unreadable: bool = False


def read_plain_lines(raw: str) -> list[WrittenLine]:
    """Every line that says something."""
    lines, at = [], 0
    for line in raw.split("\n"):
        text = line.strip()
        if text and not _FENCE.match(text):
            start = at + line.index(text)
            lines.append(WrittenLine(text, (start, start + len(text)), None))
        at += len(line) + 1
    return lines


def read_json_lines(raw: str) -> list[WrittenLine]:
    """Objects with a text; plain lines where nothing looks like one."""
    lines = []
    for found in re.finditer(OBJECT, raw):
        said = _TEXT.search(found[0])
        if said is None or not (text := _unescaped(said[1]).strip()):
            continue
        key = BOX_KEY.search(found[0])
        box = list_box(raw, found.start() + key.end(), None) if key else None
        span = found.start() + said.start(1), found.start() + said.end(1)
        lines.append(WrittenLine(text, span, box.values if box else None, key is not None and box is None))
    return lines if lines or "{" in raw or raw.strip() in ("[]", "```json\n[]\n```") else read_plain_lines(raw)


def read_marked_lines(raw: str) -> list[WrittenLine]:
    """Names with their boxes, one line per box; where the marks are missing, lines that end in a box; else plain lines."""
    lines = list(_marked(raw)) or list(_bare(raw))
    return lines or read_plain_lines(raw)


def _marked(raw: str) -> Iterator[WrittenLine]:
    for found in MARKED.finditer(raw):
        if found[1] is None or not (text := found[1].strip()):
            continue
        start = raw.index(text, found.start(1))
        box = _first_box(raw, *found.span(2))
        yield WrittenLine(text, (start, start + len(text)), box, box is None)


def _bare(raw: str) -> Iterator[WrittenLine]:
    for found in _BARE.finditer(raw):
        if text := found["text"].strip():
            box = _first_box(raw, *found.span("box"))
            start = raw.index(text, found.start("text"))
            yield WrittenLine(text, (start, start + len(text)), box, box is None)


def _first_box(raw: str, start: int, stop: int) -> Values | None:
    """The first list of four numbers in a stretch of text."""
    for place in range(start, stop):
        if raw[place] == "[" and (box := list_box(raw, place, None)) is not None:
            return box.values
    return None


def _unescaped(characters: str) -> str:
    """What stands between the quotes of a JSON string, cut off or not."""
    try:
        return str(json.loads(f'"{characters}"', strict=False))
    except ValueError:  # an escape that JSON does not know, or half of one
        return characters
