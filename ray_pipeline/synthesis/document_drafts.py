"""A document while it is written: its rows, and beside them what they say (facts that can be asked for)."""

import random
from dataclasses import dataclass, field
from typing import Literal

from ray_pipeline.synthesis.document_rows import RULE_SIGNS, Row
from ray_pipeline.synthesis.document_texts import CHARACTERS, Piece, spoken

_CAPITALS = {ord(sign): sign.upper() for sign in CHARACTERS if len(sign.upper()) == 1 and sign.upper() in CHARACTERS}
_KNOWN = frozenset(CHARACTERS + " ")
BREAK = "\n"  # between the pieces of a fact that stands on two rows


@dataclass(frozen=True)
class Fact:
    """Something the document says.

    `names` are what a user may call it, `label` is how the document calls it ("" where it has no label); `line` is the
    text of the piece that holds the answer, or of two pieces with `BREAK` between them.
    """

    role: str
    names: tuple[str, ...]
    label: str
    answer: str
    line: str


@dataclass
class Draft:
    """Rows and facts so far, and the manner the whole document keeps: capitals, centred head, how pairs stand."""

    rng: random.Random
    upper: bool
    middle: bool
    pairing: Literal["joined", "columns", "ends"]
    colon: str
    stop: float  # where the values of pairs in columns begin
    rows: list[Row] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)

    def shown(self, text: str) -> str:
        """As it will stand on the document: in capitals if all is, runs of spaces one space, only known characters."""
        if not _KNOWN.issuperset(text):
            text = "".join(sign for sign in text if sign in _KNOWN)
        return spoken(text.translate(_CAPITALS) if self.upper else text)

    def put(self, *pieces: Piece, size: float = 1.0, bold: bool = False) -> None:
        """One row of text; pieces without a character are left out."""
        kept = tuple(Piece(self.shown(piece.text), piece.place, piece.anchor) for piece in pieces)
        kept = tuple(piece for piece in kept if piece.text)
        if kept:
            self.rows.append(Row("text", kept, size=size, bold=bold))

    def whole(self, text: str, size: float = 1.0, bold: bool = False) -> str:
        """A row of one piece in the manner of the head; what stands there."""
        self.put(Piece(text, 0.5, "middle") if self.middle else Piece(text, 0.0, "left"), size=size, bold=bold)
        return self.shown(text)

    def rule(self) -> None:
        """A dashed or drawn rule, or an empty row."""
        draw = self.rng.random()
        if draw < 0.45:
            self.rows.append(Row("rule", (Piece(self.rng.choice(RULE_SIGNS), 0.0, "left"),), height=self.rng.uniform(0.7, 1)))
        elif draw < 0.75:
            self.rows.append(Row("rule", height=self.rng.uniform(0.3, 0.8)))
        else:
            self.rows.append(Row("blank", height=self.rng.uniform(0.3, 1.5)))

    def note(self, role: str, names: tuple[str, ...], answer: str, line: str, label: str = "") -> None:
        """Keep a fact; everything is turned to what is shown, so that the answer stands in its line letter by letter."""
        texts = BREAK.join(self.shown(part) for part in line.split(BREAK))
        self.facts.append(Fact(role, names, self.shown(label).strip(" :."), self.shown(answer), texts))

    def pair(self, label: str, value: str, role: str, names: tuple[str, ...], answer: str | None = None) -> None:
        """A row that names something and says it, with its fact. `answer` is the part of `value` asked for, all by default."""
        line = self.paired(label, value)
        self.note(role, names, value if answer is None else answer, line, label)

    def paired(self, label: str, value: str) -> str:
        """A row that names something and says it; the text of the piece that holds the value."""
        if self.pairing == "joined" or not label:
            text = f"{label}{self.colon}{value}" if label else value
            self.put(Piece(text, 0.0, "left"))
            return text
        if self.pairing == "columns":
            signs = self.colon.strip()
            front, back = (label, f"{signs} {value}") if signs and self.stop > 0.3 else (f"{label}{signs}", value)
            self.put(Piece(front, 0.0, "left"), Piece(back, self.stop, "left"))
            return back
        self.put(Piece(label + self.colon.rstrip(), 0.0, "left"), Piece(value, 1.0, "right"))
        return value


def new_draft(rng: random.Random) -> Draft:
    """An empty document with a manner drawn for all of it."""
    return Draft(
        rng,
        upper=rng.random() < 0.5,
        middle=rng.random() < 0.75,
        pairing=rng.choices(("joined", "columns", "ends"), (0.6, 0.3, 0.1))[0],
        colon=rng.choices((": ", ":", " : ", " :", " ", "   : ", ". "), (0.3, 0.2, 0.25, 0.1, 0.08, 0.05, 0.02))[0],
        stop=rng.choice((0.25, 0.3, 0.33, 0.4)),
    )
