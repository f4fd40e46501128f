"""Pages as read, with questions, answers and where each answer stands: what the model of read lines is trained on.

Two sources: documents that were never drawn, read by the imitation of `reading_noise`, and drawn pages read by the true
reader. Places are looked up by geometry, so both are treated alike. Frame: `_px` are pixels of the page, drawn or not.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ray_pipeline.models.line_tokens import LineTokens, line_tokens
from ray_pipeline.synthesis.document_questions import NOT_SHOWN, DocumentQuestion, asked_document, drawn_lines
from ray_pipeline.synthesis.document_sheets import SheetLine
from ray_pipeline.synthesis.document_texts import CHARACTERS
from ray_pipeline.training.reading_noise import error_rate, misread, seen_in
from schemas.picture import Box

GENERAL = ("Write a general description of the image. ", "Write a general description of the image.", "Describe the picture.")
FIRST = ("total", "date", "company", "where")  # asked for more often than others
PLACES = 3  # an answer printed more often than that, such as a quantity of 1, says nothing about where to look
WHERE = ("Where is '{}'?", "Where is '{}'?", "Where is {}?", "Find '{}'.", "Where is the text '{}'?")
LOCATED, LOCATING, ONLY_LOCATED = 4, 0.4, 14  # where-questions of a page; share of pages with nothing else, and so many of them
PART, OTHER_CASE, ABSENT = 0.25, 0.1, 0.1  # shares of them: about some words of a line, in other case, about what is not there


@dataclass(frozen=True)
class PageTurn:
    """One question. `places_px` are the boxes of the answer (or of its lines), empty where it is not shown; `spelt`: the
    first of them shows the whole answer. `box_px`: what is to be located, for where-questions, and `phrase` where in the
    question its text stands, first and behind the last character."""

    question: str
    answer: str
    places_px: tuple[Box, ...]
    role: str
    spelt: bool = False
    box_px: Box | None = None
    phrase: tuple[int, int] | None = None


@dataclass(frozen=True)
class AskedPage:
    """A page of `size_px` (width, height): what was read at first sight, and in a zoomed region where there is one."""

    size_px: tuple[float, float]
    base: LineTokens
    zoom: LineTokens | None
    turns: tuple[PageTurn, ...]


def imagined_page(seed: int, zoomed: bool, most_turns: int) -> AskedPage:
    """A page that was never drawn."""
    rng = random.Random(seed)
    while True:
        rows, questions = asked_document(rng)
        lines, size = _laid(rng, drawn_lines(rng, rows))
        turns = turns_of(rng, lines, questions)
        if any(turn.places_px for turn in turns):
            break
    whole = (0.0, 0.0, *size)
    base = line_tokens(misread(rng, lines, _base_rate(rng, zoomed)), whole, size)
    if not zoomed:
        return AskedPage(size, base, None, chosen(rng, turns, None, most_turns))
    region = region_around(rng, rng.choice([turn for turn in turns if turn.places_px]).places_px[0], size)
    zoom = line_tokens(misread(rng, seen_in(lines, region), 0.3 * error_rate(rng)), region, size)
    return AskedPage(size, base, zoom, chosen(rng, turns, region, most_turns))


def _base_rate(rng: random.Random, zoomed: bool) -> float:
    """Pages that are zoomed into are mostly those that cannot be read well as a whole."""
    rate = error_rate(rng)
    return max(rate, rng.choice((0.02, 0.1, 0.3, 0.5))) if zoomed else rate


def _laid(rng: random.Random, lines: Sequence[SheetLine]) -> tuple[list[SheetLine], tuple[float, float]]:
    """The sheet on a page with margins of its own."""
    right, bottom = max(line.box[2] for line in lines), max(line.box[3] for line in lines)
    left, top = right * rng.uniform(0, 0.15) ** 1.5, bottom * rng.uniform(0, 0.1)
    size = right + left + right * rng.uniform(0.01, 0.2), bottom + top + bottom * rng.choice((0.01, 0.05, 0.3)) * rng.random()
    if rng.random() < 0.2:  # a small slip on a large glass
        left, size = left + size[0] * rng.random(), (size[0] * 2, size[1])
    return [
        SheetLine(line.text, (line.box[0] + left, line.box[1] + top, line.box[2] + left, line.box[3] + top)) for line in lines
    ], size


def turns_of(rng: random.Random, lines: Sequence[SheetLine], questions: Sequence[DocumentQuestion]) -> list[PageTurn]:
    """The document's own questions with their places, one about nothing in particular, some where-questions; or these alone."""
    if rng.random() < LOCATING and (located := where_turns(rng, lines, ONLY_LOCATED)):
        return located
    turns = [
        PageTurn(one.question, one.answer, (*whole, *parts), one.role, 0 < len(whole) <= PLACES)
        for one in questions
        for whole, parts in [places(lines, one)]
    ]
    turns = [turn for turn in turns if turn.places_px or turn.role == "not_shown"]
    turns.append(PageTurn(rng.choice(GENERAL), "document", (), "general"))
    return turns + where_turns(rng, lines, LOCATED)


def where_turns(rng: random.Random, lines: Sequence[SheetLine], most: int) -> list[PageTurn]:
    """Where single lines, or words of them, stand; some ask for what the page does not show."""
    turns = []
    for line in rng.sample(list(lines), min(most, len(lines))):
        text, box = _words_of(rng, line) if rng.random() < PART else (line.text, line.box)
        if len(text) < 3 or sum(f" {other.text} ".count(f" {text} ") for other in lines) != 1:
            continue
        if rng.random() < ABSENT:
            text = _unlike(rng, text)
            if not any(text.casefold() in other.text.casefold() for other in lines):
                turns.append(PageTurn(rng.choice(WHERE).format(text), NOT_SHOWN, (), "not_shown"))
            continue
        if rng.random() < OTHER_CASE:
            text = rng.choice((text.lower(), text.upper()))
        template = rng.choice(WHERE)
        start = template.index("{}")
        turns.append(PageTurn(template.format(text), "", (box,), "where", box_px=box, phrase=(start, start + len(text))))
    return turns


def _words_of(rng: random.Random, line: SheetLine) -> tuple[str, Box]:
    """Some words in a row, and where they stand."""
    words = line.text.split(" ")
    first = rng.randrange(len(words))
    count = rng.randrange(1, len(words) - first + 1)
    piece = " ".join(words[first : first + count])
    return piece, _part(line, len(" ".join([*words[:first], ""])), len(piece))


def _unlike(rng: random.Random, text: str) -> str:
    """A text of the same look that is another one: its letters and digits in another order, or others."""
    signs = list(text)
    rng.shuffle(signs)
    drawn = [rng.choice(CHARACTERS) if sign.isalnum() and rng.random() < 0.3 else sign for sign in signs]
    return " ".join("".join(drawn).split()) or "-"


def places(lines: Sequence[SheetLine], question: DocumentQuestion) -> tuple[list[Box], list[Box]]:
    """Boxes of the answer within lines that hold it, and lines that hold a part of it: some answers take two.

    Lines that are just the printed piece come before longer ones.
    """
    if question.line is None:
        return [], []
    piece = " ".join(question.line.split())
    same = [line for line in lines if line.text == piece]
    longer = [line for line in lines if f" {piece} " in f" {line.text} "]
    pieces = [line for line in lines if len(line.text) > 3 and line.text in piece and question.answer in line.text]
    holding = same or longer or pieces
    whole = [
        _part(line, line.text.find(question.answer, max(0, line.text.find(piece))), len(question.answer)) for line in holding
    ]
    return whole, [] if whole else [line.box for line in lines if len(line.text) > 3 and line.text in question.answer]


def _part(line: SheetLine, start: int, count: int) -> Box:
    x0, y0, x1, y1 = line.box
    wide = (x1 - x0) / len(line.text)
    return x0 + wide * start, y0, x0 + wide * (start + count), y1


def region_around(rng: random.Random, box_px: Box, size_px: tuple[float, float]) -> Box:
    """A zoomed region that holds a box, off its middle, a fifth to all of the page wide."""
    width, height = size_px
    x0, y0, x1, y1 = box_px
    wide = min(width, max((x1 - x0) * 1.1, width * rng.uniform(0.2, 1.0)))
    tall = min(height, max((y1 - y0) * 2.0, height * rng.uniform(0.05, 0.5)))
    left = min(max(0.0, x0 - rng.random() * max(0.0, wide - (x1 - x0))), width - wide)
    top = min(max(0.0, y0 - rng.random() * max(0.0, tall - (y1 - y0))), height - tall)
    return left, top, left + wide, top + tall


def chosen(rng: random.Random, turns: Sequence[PageTurn], region: Box | None, most: int) -> tuple[PageTurn, ...]:
    """So many of the turns; behind a zoomed region mostly those it answers."""

    def shown(turn: PageTurn) -> bool:
        return region is not None and any(_middle_in(box, region) for box in turn.places_px)

    keyed = sorted(turns, key=lambda turn: rng.random() * (0.35 if shown(turn) else 1.0) * (0.5 if turn.role in FIRST else 1.0))
    return tuple(keyed[:most])


def _middle_in(box: Box, region: Box) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return region[0] < x < region[2] and region[1] < y < region[3]
