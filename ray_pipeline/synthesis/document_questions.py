"""Questions about invented documents with their answers, and a fast account of where the lines of text stand.

The documents are receipts mostly, besides invoices, forms, labels and tables. "Total" is what is to be paid, after
discount, tax and rounding and before any payment; "company" is who issued the document, by its full name; "date" is the
day it was issued. Where a document says such a thing twice, the answers agree.
"""

import random
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from ray_pipeline.synthesis import document_fields as fields
from ray_pipeline.synthesis.document_drafts import Draft, Fact
from ray_pipeline.synthesis.document_forms import form, invoice, label, table
from ray_pipeline.synthesis.document_phrases import WORDINGS
from ray_pipeline.synthesis.document_receipts import receipt
from ray_pipeline.synthesis.document_rows import Row
from ray_pipeline.synthesis.document_sheets import Box, SheetLine, grouped

NOT_SHOWN = "not shown"
MAIN_ROLES = ("total", "date", "company")
MOST_ROWS = 70
_MAKERS = {receipt: 0.7, invoice: 0.1, form: 0.1, label: 0.05, table: 0.05}

_MONEY = (
    "subtotal",
    "discount",
    "service charge",
    "tax",
    "untaxed",
    "unrounded",
    "rounding",
    "cash",
    "change",
    "card",
    "savings",
)
_LABELLED = tuple(role for role in _MONEY if role != "unrounded")
_ABSENT = (
    ("subtotal", ("SUB",)),
    ("change", ("CHANGE", "BAKI", "BALANCE", "CKGELD")),
    ("service charge", ("SERV", "SVC")),
    ("discount", ("DISC", "LESS", "SAV")),
    ("rounding adjustment", ("ROUND", "RND", "ADJ")),
    ("tip", ("TIP",)),
    ("deposit", ("DEPOSIT",)),
    ("delivery charge", ("DELIVER", "SHIP")),
    ("room number", ("ROOM",)),
    ("flight number", ("FLIGHT",)),
    ("postage", ("POST",)),
    ("IBAN", ("IBAN",)),
    ("voucher number", ("VOUCHER",)),
    ("insurance number", ("INSUR",)),
    ("customer's signature", ("SIGN",)),
    ("driver's name", ("DRIVER",)),
    ("warranty period", ("WARRANT",)),
    ("blood group", ("BLOOD",)),
    ("temperature", ("TEMP",)),
)


@dataclass(frozen=True)
class DocumentQuestion:
    """A question as a user words it, and its answer as printed, without its label and without a currency sign.

    `line` is the whole text of the piece that holds the answer; where an answer stands on two rows, both pieces with a
    line break between them (the answer has a space there). For what the document does not hold the answer is
    `NOT_SHOWN` and there is no line. `role` is "total", "date", "company", a kind of field, of reading, or "not_shown".
    """

    question: str
    answer: str
    line: str | None
    role: str


def asked_document(rng: random.Random) -> tuple[list[Row], list[DocumentQuestion]]:
    """A document of 5 to `MOST_ROWS` rows and up to 16 questions about it, those of `MAIN_ROLES` once each if it holds them."""
    makers, weights = list(_MAKERS), list(_MAKERS.values())
    while True:
        draft = rng.choices(makers, weights)[0](rng)
        if len(draft.rows) <= MOST_ROWS:
            return draft.rows, _questions(rng, draft)


def _questions(rng: random.Random, draft: Draft) -> list[DocumentQuestion]:
    asked: dict[str, DocumentQuestion] = {}

    def ask(question: str, answer: str, line: str | None, role: str) -> None:
        asked.setdefault(_varied(rng, question).strip(), DocumentQuestion("", answer, line, role))

    main = {fact.role: fact for fact in reversed(draft.facts) if fact.role in MAIN_ROLES}
    for role in MAIN_ROLES:
        if role in main and rng.random() < 0.99:
            ask(rng.choice(WORDINGS[role]), main[role].answer, main[role].line, role)
        elif role not in main and rng.random() < 0.2 and not any(fact.role == "maker" for fact in draft.facts):
            ask(rng.choice(WORDINGS[role][:6]), NOT_SHOWN, None, "not_shown")
    labels = Counter(fact.label.upper() for fact in draft.facts)
    others = _clear([fact for fact in draft.facts if fact.role not in (*MAIN_ROLES, "nothing")])
    for fact in rng.sample(others, min(len(others), rng.randint(5, 8))):
        ask(_worded(rng, fact, labels[fact.label.upper()] == 1), fact.answer, fact.line, fact.role)
    readings = _readings(draft.rows)
    for role, name, answer, line in rng.sample(readings, min(len(readings), rng.randint(1, 3))):
        ask(rng.choice(WORDINGS[role]).format(name=name), answer, line, role)
    for name in _absent(rng, draft, rng.choice((1, 1, 2))):
        ask(rng.choice(WORDINGS["field"]).format(name=name), NOT_SHOWN, None, "not_shown")
    return [DocumentQuestion(question, known.answer, known.line, known.role) for question, known in asked.items()]


def _varied(rng: random.Random, question: str) -> str:
    """As people type: now and then without the mark at the end, small or in capitals. What is quoted stays."""
    draw = rng.random()
    if draw < 0.1 and len(question) > 1:
        question = question.rstrip("?.")
    if "'" in question:
        return question
    return question.lower() if draw < 0.06 or draw > 0.95 else question.upper() if draw > 0.92 else question


def _clear(facts: list[Fact]) -> list[Fact]:
    """Those that no other fact of the document could be mistaken for."""
    keys = [(fact.role, fields.group_of(fact.names[0]) if fact.role in ("field", *_MONEY) else fact.names) for fact in facts]
    return [fact for fact, key in zip(facts, keys, strict=True) if keys.count(key) == 1 and fact.answer]


def _worded(rng: random.Random, fact: Fact, alone: bool) -> str:
    """`alone`: nothing else has its label. What was before rounding is never asked for by a label, which may well say total."""
    if fact.role == "cell":
        article, head = fact.names
        return rng.choice(
            (
                f"What is the {head} of {article}?",
                f"{head} of {article}",
                f"{article}, {head}",
                f"What does {article} show under '{head}'?",
            )
        )
    if fact.label and alone and fact.role in ("field", "customer", "time", *_LABELLED) and rng.random() < 0.35:
        return rng.choice(WORDINGS["label"]).format(label=fact.label)
    kind = "money" if fact.role in _MONEY else fact.role
    return rng.choice(WORDINGS[kind]).format(name=rng.choice(fact.names))


def _readings(rows: list[Row]) -> list[tuple[str, str, str, str]]:
    """Role, text named in the question, answer, line: for rows that stand alone and texts that occur once."""
    texts = [
        [piece.text for piece in row.pieces if any(map(str.isalnum, piece.text))] for row in rows if row.kind in ("text", "bars")
    ]
    texts = [row for row in texts if row]
    flat = [text for row in texts for text in row]
    found = [(role, "", row[0], row[0]) for role, row in (("first line", texts[0]), ("last line", texts[-1])) if len(row) == 1]
    for upper, lower in pairwise(texts):
        if len(upper) == len(lower) == 1 and flat.count(upper[0]) == 1:
            found.append(("line below", upper[0], lower[0], lower[0]))
    for row in texts:
        if len(row) == 2 and flat.count(row[0]) == 1 and row[1].strip(" :"):
            found.append(("next to", row[0].strip(" :"), row[1].strip(" :"), row[1]))
    return found


def _absent(rng: random.Random, draft: Draft, count: int) -> list[str]:
    """Names of things that the document does not hold, nor anything that looks like them."""
    text = " ".join(piece.text for row in draft.rows for piece in row.pieces).upper()
    groups = {fields.group_of(name) for fact in draft.facts for name in fact.names}
    roles = {fact.role for fact in draft.facts}
    free = [name for name, signs in _ABSENT if name.split()[0] not in roles and not any(sign in text for sign in signs)]
    for kind in rng.sample(fields.ALL, 12):
        if kind.group not in groups and not any(label.upper() in text for label in kind.labels) and kind.names[0] not in roles:
            free.append(rng.choice(kind.names))
    return rng.sample(free, min(count, len(free)))


_NARROW, _WIDE = frozenset("iljtfrI1.,:;'!|()[]`‘’°•-\"/\\ "), frozenset("mwMWQOGDHNU@%&€—Æ")

_HANGING = frozenset("gjpqy,;()[]Q@$")


@dataclass(frozen=True)
class _Setting:
    """How a sheet is set, in pixels: height of capitals, advance of narrow, plain and wide characters, room for text."""

    capital: float
    advance: float
    narrow: float
    wide: float
    margin: float
    inner: float
    overhang: float
    descent: float

    def width(self, word: str) -> float:
        narrow, wide = sum(sign in _NARROW for sign in word), sum(sign in _WIDE for sign in word)
        return narrow * self.narrow + wide * self.wide + (len(word) - narrow - wide) * self.advance


def drawn_lines(rng: random.Random, rows: list[Row]) -> list[SheetLine]:
    """Where the lines of a flat sheet with these rows would stand, without printing it; see `document_sheets`.

    Pixels; capitals of 9 to 44, even or proportional pitch. Every character of the rows is on some line, except what
    stands alone without a letter or figure.
    """
    setting = _sample_setting(rng, max(row.columns for row in rows))
    pitch = setting.capital * rng.uniform(1.4, 2.3)
    y, lines = pitch * rng.uniform(0.5, 3), []
    for row in rows:
        if row.kind != "text":
            y += pitch * row.height * (rng.uniform(1, 2) if row.kind == "bars" else 1)
            if row.kind != "bars" or not row.pieces:
                continue
        tall = setting.capital * row.size
        base = y + tall * 1.15
        lines += grouped(_row_words(setting, row, base), tall, base)
        y += max(pitch * row.height, tall * 1.4) * (1 if row.size == 1 else 1.05)
    return lines


def _sample_setting(rng: random.Random, columns: int) -> _Setting:
    capital = rng.uniform(9, 44)
    advance = capital * rng.uniform(0.55, 1.0)
    uneven = rng.choice((0.0, 0.0, rng.uniform(0.2, 0.5)))
    return _Setting(
        capital,
        advance,
        narrow=advance * (1 - uneven),
        wide=advance * (1 + uneven),
        margin=advance * rng.uniform(0.3, 4),
        inner=columns * advance * rng.uniform(1.0, 1.15),
        overhang=capital * rng.uniform(0.0, 0.12),
        descent=capital * rng.uniform(0.15, 0.35),
    )


def _row_words(setting: _Setting, row: Row, base: float) -> list[tuple[str, Box]]:
    """The words of a row with their boxes; larger rows are squeezed to the room there is."""
    words, free, advance = [], setting.margin, setting.advance
    pieces = [[(word, setting.width(word)) for word in piece.text.split(" ")] for piece in row.pieces]
    needed = sum(size + advance for piece in pieces for _, size in piece)
    scale = min(row.size, setting.inner / needed)
    top = base - setting.capital * row.size - setting.overhang
    for piece, sized in zip(row.pieces, pieces, strict=True):
        width = (sum(size + advance for _, size in sized) - advance) * scale
        anchor = setting.margin + piece.place * setting.inner
        x = max(free, {"left": anchor, "right": anchor - width, "middle": anchor - width / 2}[piece.anchor])
        for word, size in sized:
            low = base + (setting.descent if not _HANGING.isdisjoint(word) else 0.0)
            words.append((word, (x, top, x + (size - 0.1 * advance) * scale, low)))
            x += (size + advance) * scale
        free = x
    return words
