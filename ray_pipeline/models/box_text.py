"""Box notations in generated text -> numbers, and which characters spell each of them. Frames are the caller's business.

    locations   KX7<at><loc012><loc100><loc250><loc180>                 the embedded model
    JSON        [{"bbox_2d": [12, 7, 340, 98], "label": "spoon"}]       Qwen, also fenced as ```json
    marked      <ref>spoon</ref><box>[[12, 7, 340, 98]]</box>           InternVL
    fractions   spoon [0.40, 0.55, 0.50, 0.65]                          LLaVA

Numbers are as written, in the family's own frame: x0, y0, x1, y1 with their corners put in order, not clipped.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[int, int]  # first character and the one behind the last, in the raw text
Numbered = tuple[float, Span]

_AT = re.compile(r"<at>((?:<loc\d{3}>)*)")
_LOCATION = re.compile(r"<loc(\d{3})>")
_NUMBER = r"\s*([-+]?(?:\d+(?:\.\d+)?|\.\d+))\s*"
_FOUR = re.compile(rf"\[{','.join([_NUMBER] * 4)}\]")
_STRING = r'"(?:[^"\\]|\\.)*+(?:"|\Z)'
OBJECT = rf'\{{(?:[^{{}}"]|{_STRING})*+\}}?'  # flat; braces in its strings do not count; may be cut off
_OBJECTS = re.compile(rf"(?:```(?:json)?\s*)?\[?\s*{OBJECT}(?:[\s,]*{OBJECT})*\s*\]?(?:\s*```)?")
BOX_KEY = re.compile(r'"bbox_2d"\s*:\s*')
_LABEL = re.compile(r'"label"\s*:\s*("(?:[^"\\]|\\.)*+")')
MARKED = re.compile(r"(?:<ref>((?:(?!</?ref>).)*+)</ref>\s*)?<box>((?:(?!</?box>|<ref>).)*+)(?:</box>)?", re.DOTALL)
_INNER_LIST = re.compile(r"\[[^\[\]]*(?:\]|\Z)")
_FRACTIONS = re.compile(r"\[\s*[01]?\.\d[\d\s.,]*(?:\]|\Z)")  # a list that begins with a fraction


@dataclass(frozen=True)
class WrittenBox:
    """The four numbers of a box, the characters that spell each, and the name written with them, if any."""

    values: tuple[float, float, float, float]
    spans: tuple[Span, Span, Span, Span]
    label: str | None = None


@dataclass(frozen=True)
class BoxText:
    """An answer split into text without box notation (names stay) and its boxes.

    `box` is the first one whose label matches what was asked for, else the first; `extra` are the others in order.
    `malformed` says that a box was begun and none can be read: unreadable is not the same as absent.
    """

    text: str
    box: WrittenBox | None
    extra: tuple[WrittenBox, ...]
    malformed: bool

    @property
    def values(self) -> tuple[float, float, float, float] | None:
        return self.box.values if self.box else None

    @property
    def spans(self) -> tuple[Span, Span, Span, Span] | None:
        return self.box.spans if self.box else None


def read_locations(raw: str) -> BoxText:
    """Location tokens, 0..999 of a view. Only the first `<at>` counts, has no name, and must be four corners in order."""
    match = _AT.search(raw)
    text = _LOCATION.sub("", _AT.sub("", raw)).strip()
    if match is None:
        return BoxText(text, None, (), malformed="<loc" in raw)
    found = [(float(value[1]), value.span(1)) for value in _LOCATION.finditer(raw, *match.span(1))]
    if len(found) != 4 or found[0][0] >= found[2][0] or found[1][0] >= found[3][0]:
        return BoxText(text, None, (), malformed=True)
    return BoxText(text, _box(found, None), (), malformed=False)


def read_json_boxes(raw: str, asked: str = "") -> BoxText:
    """The `bbox_2d` of a JSON answer's objects; the last object may be cut off behind it.

    Names take the place of the JSON in the text. The digit of the key is not one of the box's.
    """
    boxes: list[WrittenBox | None] = []
    for match in re.finditer(OBJECT, raw):
        if key := BOX_KEY.search(match[0]):
            names = _names(match[0])
            boxes.append(list_box(raw, match.start() + key.end(), names[0] if names else None))
    text = _OBJECTS.sub(lambda found: ", ".join(_names(found[0])) if '"bbox_2d"' in found[0] else found[0], raw)
    return _answer(text, boxes, asked, begun='"bbox_2d' in raw)


def read_marked_boxes(raw: str, asked: str = "") -> BoxText:
    """`<box>[[x0, y0, x1, y1], ...]</box>`, named by the `<ref>` right before it."""
    boxes: list[WrittenBox | None] = []
    for match in MARKED.finditer(raw):
        name = match[1].strip() if match[1] else None
        boxes += [list_box(raw, found.start(), name) for found in _INNER_LIST.finditer(raw, *match.span(2))]
    text = MARKED.sub(lambda found: found[1] or "", raw)
    return _answer(re.sub(r"</?(?:ref|box)>", "", text), boxes, asked, begun="<box>" in raw)


def read_fractions(raw: str, asked: str = "") -> BoxText:
    """Lists of four fractions of a side, each named by the text before it; other lists are text.

    Spans hold the digits behind the decimal point, which the model had to decide; all digits of a bare 0 or 1.
    """
    boxes, kept, done = [], [], 0
    for match in _FOUR.finditer(raw):
        before = raw[done : match.start()]
        box = _fractions(raw, list_box(raw, match.start(), before.strip(" \n,;:.") or None))
        if box is not None:
            boxes.append(box)
            kept.append(before.rstrip(" "))
            done = match.end()
    return _answer("".join([*kept, raw[done:]]), boxes, asked, begun=bool(_FRACTIONS.search(raw)))


def list_box(raw: str, start: int, label: str | None) -> WrittenBox | None:
    """The box in the list that begins at `start`, or None: not four numbers, not closed, or without extent."""
    match = _FOUR.match(raw, start)
    found = [(float(match[k]), match.span(k)) for k in range(1, 5)] if match else []
    if not found or found[0][0] == found[2][0] or found[1][0] == found[3][0]:
        return None
    return _box(found, label)


def _box(found: Sequence[Numbered], label: str | None) -> WrittenBox:
    """Corners in order; a span travels with its number."""
    (x0, x1), (y0, y1) = sorted([found[0], found[2]]), sorted([found[1], found[3]])
    return WrittenBox((x0[0], y0[0], x1[0], y1[0]), (x0[1], y0[1], x1[1], y1[1]), label)


def _fractions(raw: str, box: WrittenBox | None) -> WrittenBox | None:
    if box is None or not all(0 <= value <= 1 for value in box.values):
        return None
    x0, y0, x1, y1 = ((start + raw[start:stop].find(".") + 1, stop) for start, stop in box.spans)
    return WrittenBox(box.values, (x0, y0, x1, y1), box.label)


def _names(written: str) -> list[str]:
    """Labels of JSON objects, each once, in order."""
    return list(dict.fromkeys(name for match in _LABEL.finditer(written) if (name := _unquoted(match[1]))))


def _unquoted(string: str) -> str:
    try:
        return str(json.loads(string, strict=False)).strip()
    except ValueError:  # an escape that JSON does not know
        return string[1:-1].strip()


def _answer(text: str, boxes: Sequence[WrittenBox | None], asked: str, begun: bool) -> BoxText:
    readable = [box for box in boxes if box is not None]
    if not readable:
        return BoxText(text.strip(), None, (), malformed=begun)
    best = max(range(len(readable)), key=lambda k: (_match(readable[k].label, asked), -k))
    return BoxText(text.strip(), readable[best], tuple(readable[:best] + readable[best + 1 :]), malformed=False)


def _match(label: str | None, asked: str) -> int:
    """2 the same words, 1 one within the other, 0 neither."""
    name, wanted = (" ".join(re.findall(r"\w+", text.casefold())) for text in (label or "", asked))
    if not name or not wanted:
        return 0
    return 2 if name == wanted else int(f" {name} " in f" {wanted} " or f" {wanted} " in f" {name} ")
