"""A printed sheet before it is scanned: rows of a receipt, form, table or label set in type, and where each line stands.

Frame: pixels of the flat sheet, x right, y down. Ink is a coverage raster, 0 = bare paper, 255 = full ink. A *line* is what
a reader takes in one go: the words of one row whose gaps are at most `GAP_CAPITALS` capital heights; a label and its
amount further right are two lines. Rules, rows of dashes, barcodes and drawings are no lines.
"""

import random
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ray_pipeline.synthesis.document_rows import Row, document_rows
from ray_pipeline.synthesis.document_texts import Piece
from ray_pipeline.synthesis.fonts import capital_ratio, font_at
from ray_pipeline.synthesis.line_strips import draws, is_text_font

Box = tuple[float, float, float, float]
GAP_CAPITALS = 1.9  # a wider gap between two words of a row ends the line
_EVEN_PITCH = ("mono", "courier", "typewriter", "cursor", "consol", "terminal", "fixed", "code")
_SLANTED = ("italic", "oblique")
DRAWN_CAPITAL_PX = (9, 44)  # what hinting and memory allow a sheet to be set in


@dataclass(frozen=True)
class SheetLine:
    """A line of text. The box reaches from the capitals' top (or above) to the base line (or below), ink to ink across."""

    text: str
    box: Box


@dataclass(frozen=True)
class Sheet:
    """Ink coverage with the lines in reading order: rows from top to bottom, within a row from left to right."""

    ink_YX: NDArray[np.uint8]
    lines: tuple[SheetLine, ...]
    capital_px: float


@dataclass(frozen=True)
class _Type:
    """One way to set words: font, em in pixels, horizontal stretch, extra stroke."""

    font: str
    em_px: int
    stretch: float
    stroke_px: int

    @property
    def capital_px(self) -> float:
        return self.em_px * capital_ratio(self.font)

    def width(self, text: str) -> float:
        return font_at(self.font, self.em_px).getlength(text) * self.stretch


@dataclass
class _Press:
    """The sheet while it is printed: raster, current height on it, and the lines so far."""

    rng: random.Random
    width: int
    margin: float
    plain: _Type
    pitch: float
    image: Image.Image
    y: float
    lines: list[SheetLine] = field(default_factory=list)

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)


def sample_sheet(seed: int, fonts: list[str], capital_px: float, most_rows: int = 60) -> Sheet:
    """The sheet of one seed, its plain text set in capitals of about `capital_px` (limited to `DRAWN_CAPITAL_PX`)."""
    rng = random.Random(seed)
    return sheet_of(rng, document_rows(rng, most_rows), fonts, capital_px)


def sheet_of(rng: random.Random, rows: list[Row], fonts: list[str], capital_px: float) -> Sheet:
    """A sheet with these rows, set as `sample_sheet` says."""
    font = _font(rng, fonts)
    capital = min(max(capital_px, DRAWN_CAPITAL_PX[0]), DRAWN_CAPITAL_PX[1])
    plain = _Type(font, max(8, round(capital / capital_ratio(font))), 1.0, 0)
    if rng.random() < 0.25:
        plain = _Type(font, plain.em_px, rng.choice([0.75, 0.85, 0.9, 1.15, 1.3]), 0)
    columns = max(row.columns for row in rows)
    figure = plain.width("0") if rng.random() < 0.7 else plain.width("0n") / 2
    margin = figure * rng.uniform(0.3, 4)
    pitch = plain.capital_px * rng.uniform(1.4, 2.3)
    width = round(columns * figure * rng.uniform(1.0, 1.15) + 2 * margin)
    tall = round(sum(row.height for row in rows) * pitch * 2.2 + 6 * pitch)
    press = _Press(rng, width, margin, plain, pitch, Image.new("L", (width, tall)), pitch * rng.uniform(0.5, 3))
    heading = _font(rng, fonts) if rng.random() < 0.3 else font
    for row in rows:
        _PRINT[row.kind](press, row, heading)
    bottom = min(tall, round(press.y + pitch * rng.uniform(0.5, 3)))
    _frames(press, bottom)
    ink = np.asarray(press.image.crop((0, 0, width, bottom)))
    return Sheet(ink, tuple(press.lines), plain.capital_px)


def _font(rng: random.Random, fonts: list[str]) -> str:
    """One that can set a document; tills and line printers have even pitch, so such fonts come more often."""
    even = [font for font in fonts if any(name in font.lower() for name in _EVEN_PITCH)]
    for _ in range(100):
        font = rng.choice(even if even and rng.random() < 0.35 else fonts)
        if prints(font) and not (any(name in font.lower() for name in _SLANTED) and rng.random() < 0.7):
            return font
    raise ValueError(f"none of 100 fonts drawn from {len(fonts)} can print Latin text; expected most to")


def prints(font: str) -> bool:
    """Whether a font is for Latin text, in usual proportions."""
    return is_text_font(font) and 0.45 < capital_ratio(font) < 1.0


def printable(text: str, font: str) -> str:
    """The text without the characters that the font does not have."""
    return "".join(sign for sign in text if draws(font, sign))


def _type_of(press: _Press, row: Row, heading: str) -> _Type:
    """Headings are larger, bolder or double-width; double-height is a squeezed larger font."""
    plain = press.plain
    if row.size == 1 and not row.bold:
        return plain
    font = heading if row.size > 1 else plain.font
    em = max(8, round(plain.capital_px * row.size / capital_ratio(font)))
    stretch = press.rng.choice([1.0, 1.0, 1.0 / row.size, 1.5]) if row.size > 1 else plain.stretch
    return _Type(font, em, stretch, round(em / 28 + 0.3) if row.bold else 0)


def _text_row(press: _Press, row: Row, heading: str) -> None:
    kind = _type_of(press, row, heading)
    inner = press.width - 2 * press.margin
    widest = max(_piece_width(piece, kind, inner) for piece in row.pieces)
    if widest > 1:
        kind = _Type(kind.font, max(7, int(kind.em_px / max(1.0, widest / 1.6))), kind.stretch / min(widest, 1.6), kind.stroke_px)
    base = press.y + kind.capital_px * 1.15
    if row.reversed:
        press.draw.rectangle(
            (press.margin, press.y - 0.1 * kind.capital_px, press.width - press.margin, base + 0.35 * kind.capital_px), fill=255
        )
    words: list[tuple[str, Box]] = []
    free = press.margin
    for piece in row.pieces:
        x = _start(piece, kind, press.margin, inner)
        x = max(x, free)  # pieces never overprint one another
        placed, free = _set(press, piece.text, x, base, kind, 0 if row.reversed else 255)
        free += kind.width(" ")
        words += placed
        if row.underlined and placed:
            y = base + 0.2 * kind.capital_px
            press.draw.line((placed[0][1][0], y, placed[-1][1][2], y), 255, max(1, round(kind.capital_px / 12)))
    press.lines += grouped(words, kind.capital_px, base)
    press.y += max(press.pitch * row.height, kind.capital_px * 1.4) * (1 if row.size == 1 else 1.05)


def _piece_width(piece: Piece, kind: _Type, inner: float) -> float:
    """As a share of the room from where the piece starts to where it must end."""
    room = {"left": 1 - piece.place, "right": piece.place, "middle": 1.0}[piece.anchor]
    return kind.width(piece.text) / max(1.0, inner * room)


def _start(piece: Piece, kind: _Type, margin: float, inner: float) -> float:
    width, anchor = kind.width(piece.text), margin + piece.place * inner
    return {"left": anchor, "right": anchor - width, "middle": anchor - width / 2}[piece.anchor]


def _set(press: _Press, text: str, x: float, base: float, kind: _Type, tone: int) -> tuple[list[tuple[str, Box]], float]:
    """Words of one piece with their ink boxes, and where the pen stops. Several spaces keep their width."""
    font = font_at(kind.font, kind.em_px)
    space, words = kind.width(" "), []
    for word in printable(text, kind.font).split(" "):
        if word:
            x0, y0, x1, y1 = font.getbbox(word, anchor="ls", stroke_width=kind.stroke_px)
            left, right = x + x0 * kind.stretch, x + x1 * kind.stretch
            if right > press.width or y1 <= y0 or x1 <= x0:
                break
            if kind.stretch == 1.0:
                press.draw.text((x, base), word, fill=tone, font=font, anchor="ls", stroke_width=kind.stroke_px)
            else:
                _stretched(press, word, left, base + y0, (x0, y0, x1, y1), kind, tone)
            words.append((word, (left, base + y0, right, base + y1)))
            x += kind.width(word)
        x += space
    return words, x - space


def _stretched(press: _Press, word: str, left: float, top: float, ink: Box, kind: _Type, tone: int) -> None:
    x0, y0, x1, y1 = ink
    tile = Image.new("L", (round(x1 - x0), round(y1 - y0)))
    ImageDraw.Draw(tile).text(
        (-x0, -y0), word, fill=255, font=font_at(kind.font, kind.em_px), anchor="ls", stroke_width=kind.stroke_px
    )
    tile = tile.resize((max(1, round(tile.width * kind.stretch)), tile.height), Image.Resampling.BILINEAR)
    press.image.paste(tone, (round(left), round(top)), tile)


def grouped(words: list[tuple[str, Box]], capital_px: float, base: float) -> list[SheetLine]:
    """Words of one row, left to right, as lines; those without a letter or figure at all are left out."""
    lines: list[list[tuple[str, Box]]] = []
    for word in words:
        if lines and word[1][0] - lines[-1][-1][1][2] <= GAP_CAPITALS * capital_px:
            lines[-1].append(word)
        else:
            lines.append([word])
    return [_line(line, capital_px, base) for line in lines if any(c.isalnum() for text, _ in line for c in text)]


def _line(words: list[tuple[str, Box]], capital_px: float, base: float) -> SheetLine:
    boxes = [box for _, box in words]
    top, bottom = min(base - capital_px, *(b[1] for b in boxes), 1e9), max(base, *(b[3] for b in boxes), -1.0)
    return SheetLine(" ".join(text for text, _ in words), (boxes[0][0], top, boxes[-1][2], bottom))


def _rule_row(press: _Press, row: Row, heading: str) -> None:
    """A drawn rule, or a row of dashes, stars or dots in the plain font."""
    kind, room = press.plain, press.width - 2 * press.margin
    middle = press.y + 0.5 * press.pitch * row.height
    if row.pieces:
        sign = row.pieces[0].text
        text = sign * int(room / max(1.0, kind.width(sign)))
        if text:
            press.draw.text(
                (press.margin, middle + kind.capital_px / 2), text, fill=255, font=font_at(kind.font, kind.em_px), anchor="ls"
            )
    else:
        stroke = press.rng.choice([1, 1, 2, max(1, round(kind.capital_px / 6))])
        for k in range(press.rng.choice([1, 1, 1, 2])):
            y = middle + 3 * k * stroke
            press.draw.line((press.margin, y, press.width - press.margin, y), 255, stroke)
    press.y += press.pitch * row.height


def _bars_row(press: _Press, row: Row, heading: str) -> None:
    """A barcode, sometimes with its figures below."""
    tall = press.pitch * row.height * 0.8
    x, end = press.width * press.rng.uniform(0.1, 0.3), press.width * press.rng.uniform(0.7, 0.9)
    unit = max(1, round(press.plain.capital_px / 8))
    while x < end:
        bar = unit * press.rng.randint(1, 3)
        press.draw.rectangle((x, press.y, x + bar - 1, press.y + tall), fill=255)
        x += bar + unit * press.rng.randint(1, 3)
    press.y += tall + 0.3 * press.pitch
    if row.pieces:
        _text_row(press, Row("text", row.pieces), heading)


def _blocks_row(press: _Press, row: Row, heading: str) -> None:
    """A two-dimensional code: random square cells."""
    count, cell = press.rng.randint(12, 30), max(2, round(press.plain.capital_px * press.rng.uniform(0.2, 0.5)))
    noise = np.random.default_rng(press.rng.getrandbits(63)).integers(0, 2, (count, count), np.uint8) * 255
    block = Image.fromarray(noise).resize((count * cell, count * cell), Image.Resampling.NEAREST)
    press.image.paste(block, (max(0, round((press.width - block.width) * press.rng.uniform(0.2, 0.8))), round(press.y)))
    press.y += block.height + press.pitch


def _drawing_row(press: _Press, row: Row, heading: str) -> None:
    """A logo: overlapping ellipses, boxes and thick strokes."""
    tall, rng, draw = press.pitch * row.height, press.rng, press.draw
    cx, wide = press.width * rng.uniform(0.3, 0.7), tall * rng.uniform(0.7, 2.5)
    for _ in range(rng.randint(2, 5)):
        x0, x1 = sorted(cx + wide * rng.uniform(-0.5, 0.5) for _ in range(2))
        y0, y1 = sorted(press.y + tall * rng.uniform(0, 0.9) for _ in range(2))
        tone, stroke = rng.choice([255, 255, 150, 0]), max(1, round(tall * rng.uniform(0.02, 0.12)))
        shape = rng.random()
        if shape < 0.4:
            draw.ellipse((x0, y0, x1, y1), fill=tone if shape < 0.2 else None, outline=tone, width=stroke)
        elif shape < 0.7:
            draw.rectangle((x0, y0, x1, y1), fill=tone if shape < 0.5 else None, outline=tone, width=stroke)
        else:
            draw.line((x0, y1, (x0 + x1) / 2, y0, x1, y1), tone, stroke)
    press.y += tall


def _blank_row(press: _Press, row: Row, heading: str) -> None:
    press.y += press.pitch * row.height


def _frames(press: _Press, bottom: int) -> None:
    """Boxes drawn around neighbouring lines, as forms and summary tables have."""
    rng, lines = press.rng, press.lines
    if len(lines) < 4 or rng.random() > 0.3:
        return
    for _ in range(rng.choice([1, 1, 2, 4])):
        first = rng.randrange(len(lines) - 2)
        group = lines[first : first + rng.randint(1, 12)]
        pad = 0.45 * press.plain.capital_px
        box = (
            min(one.box[0] for one in group) - 2 * pad,
            group[0].box[1] - pad,
            max(one.box[2] for one in group) + 2 * pad,
            group[-1].box[3] + pad,
        )
        if box[2] > box[0] and box[3] > box[1]:
            press.draw.rectangle(box, outline=255, width=max(1, round(press.plain.capital_px / 12)))


_PRINT = {
    "text": _text_row,
    "rule": _rule_row,
    "bars": _bars_row,
    "blocks": _blocks_row,
    "drawing": _drawing_row,
    "blank": _blank_row,
}
