"""How the texts of a document stand: receipts, tables, letters and labels as rows with sizes, rules, codes and drawings.

Positions across the sheet are shares of the room between its margins, 0 left to 1 right. What the texts say comes from
`document_texts`.
"""

import random
from dataclasses import dataclass, replace
from typing import Literal

from ray_pipeline.synthesis.document_texts import Piece, amount, clock, date, number, random_line, receipt_lines

RULE_SIGNS = ("-", "-", "-", "=", "*", ".", "_", "- ", "~", "+-")
LONGEST = 78  # characters of the longest text of a page


@dataclass(frozen=True)
class Row:
    """One row. `size` multiplies the plain capitals, `height` the row pitch. A rule with a piece repeats its text across."""

    kind: Literal["text", "rule", "bars", "blocks", "drawing", "blank"]
    pieces: tuple[Piece, ...] = ()
    size: float = 1.0
    bold: bool = False
    underlined: bool = False
    reversed: bool = False
    height: float = 1.0

    @property
    def columns(self) -> int:
        """How many plain characters side by side it needs."""
        return round(sum(len(piece.text) + 1 for piece in self.pieces) * min(self.size, 1.3)) if self.kind == "text" else 1


def document_rows(rng: random.Random, most_rows: int) -> list[Row]:
    """One document's rows, at most `most_rows`."""
    draw = rng.random()
    make = _receipt if draw < 0.64 else _table if draw < 0.8 else _letter if draw < 0.9 else _label
    return make(rng)[:most_rows]


def _receipt(rng: random.Random) -> list[Row]:
    """The rows of `receipt_lines`, set: a large head, rules between its parts, some amounts large, codes at the foot."""
    texts = [row for row in receipt_lines(rng) if row]
    rows = [Row("drawing", height=rng.uniform(2, 5))] if rng.random() < 0.15 else []
    head, loud = rng.choice([1.0, 1.0, 1.2, 1.4, 1.8, 2.2]), rng.random() < 0.5
    rules = rng.choice([0.03, 0.08, 0.15])
    for k, pieces in enumerate(texts):
        text = "".join(piece.text for piece in pieces)
        if not any(sign.isalnum() for sign in text):
            rows += _separator(rng)
            continue
        row = Row("text", tuple(pieces))
        if k == 0:
            row = replace(row, size=head, bold=rng.random() < 0.4)
        elif loud and len(text) < 24 and rng.random() < 0.15:
            row = replace(row, size=rng.choice([1.0, 1.3, 1.8]), bold=rng.random() < 0.6)
        elif len(pieces) == 1 and rng.random() < 0.03:
            row = replace(row, underlined=rng.random() < 0.6, reversed=rng.random() < 0.4)
        rows += [row, *(_separator(rng) if rng.random() < rules else [])]
    if rng.random() < 0.2:
        figures = (Piece(str(rng.randint(10**9, 10**13)), 0.5, "middle"),) if rng.random() < 0.6 else ()
        rows.append(Row("bars", figures, height=rng.uniform(2, 4)))
    return [*rows, Row("blocks")] if rng.random() < 0.06 else rows


def _table(rng: random.Random) -> list[Row]:
    """A few lines of heading, columns of amounts under a head of their own, rules now and then."""
    count = rng.randint(3, 7)
    rows = [Row("text", (Piece(random_line(rng, 40), 0.0, "left"),), bold=rng.random() < 0.3) for _ in range(rng.randint(0, 5))]
    stops = [0.2 + 0.8 * (k + 1) / (count - 1) if rng.random() < 0.8 else rng.uniform(0.25, 1) for k in range(count - 1)]
    for k in range(rng.randint(4, 30)):
        cells = [Piece(random_line(rng, 20 if k else 10), 0.0, "left")]
        cells += [
            Piece((amount(rng) if k else random_line(rng, 8))[:10], stop, "right")
            for stop in sorted(stops)
            if rng.random() < 0.92
        ]
        rows.append(Row("text", tuple(cells), bold=k == 0 and rng.random() < 0.5, reversed=k == 0 and rng.random() < 0.15))
        rows += [Row("rule", height=0.4)] if k == 0 or rng.random() < 0.1 else []
    return rows


def _letter(rng: random.Random) -> list[Row]:
    """Paragraphs: full rows and a shorter last one."""
    wide, rows = rng.randint(40, LONGEST), []
    for _ in range(rng.randint(1, 4)):
        rows += [Row("text", (Piece(_filled(rng, wide), 0.0, "left"),)) for _ in range(rng.randint(2, 8))]
        rows += [Row("text", (Piece(random_line(rng, wide // 2), 0.0, "left"),)), Row("blank", height=rng.uniform(0.3, 1.5))]
    return rows


def _filled(rng: random.Random, wide: int) -> str:
    text = random_line(rng, wide)
    while len(text) < wide - 6:
        text += " " + random_line(rng, wide - 1 - len(text))
    return " ".join(text.split())


def _label(rng: random.Random) -> list[Row]:
    """A few texts, mostly large, and codes between them."""
    rows = []
    for _ in range(rng.randint(2, 8)):
        text = rng.choice([lambda rng: random_line(rng, 18), number, amount, date, clock])(rng)
        piece = rng.choice([Piece(text, 0.5, "middle"), Piece(text, 0.0, "left")])
        rows.append(Row("text", (piece,), size=rng.choice([1.0, 1.0, 1.4, 2.0, 3.0]), bold=rng.random() < 0.3))
        rows += [Row(rng.choice(["bars", "blocks", "drawing"]), height=rng.uniform(2, 4))] if rng.random() < 0.15 else []
    return rows


def _separator(rng: random.Random) -> list[Row]:
    draw = rng.random()
    if draw < 0.45:
        return [Row("rule", (Piece(rng.choice(RULE_SIGNS), 0.0, "left"),), height=rng.uniform(0.7, 1))]
    return [Row("rule", height=rng.uniform(0.3, 0.8))] if draw < 0.75 else [Row("blank", height=rng.uniform(0.3, 1.5))]
