"""What stands on receipts, invoices, forms and labels: invented lines of text, as rows of pieces or one by one.

Nothing here is copied from a document: names are put together from word lists of several languages, numbers are
drawn. Part of the lines is random characters, so that a reader learns shapes and not only words. Runs of several
spaces stand for gaps between columns; whoever compares texts reads them as one space (`spoken`).
"""

import random
import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from ray_pipeline.synthesis.document_words import (
    CODAS,
    COMPANIES,
    CURRENCIES,
    FIELDS,
    GOODS,
    HEADINGS,
    LABELS,
    MONTHS,
    NUCLEI,
    ONSETS,
    PLACES,
    PLAIN,
    TAX_CODES,
    TRADE,
    UNITS,
)

ACCENTS = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ"
MARKS = "€£¥§°–—‘’“”•"
CHARACTERS = string.ascii_letters + string.digits + string.punctuation + ACCENTS + MARKS
_KNOWN = frozenset(CHARACTERS + " ")


@dataclass(frozen=True)
class Piece:
    """One run of text in a row of a document; rows hold their pieces from left to right."""

    text: str
    place: float  # of the anchor, from 0 (left edge of the print) to 1 (right edge)
    anchor: Literal["left", "middle", "right"]


def spoken(text: str) -> str:
    """The text as a reader answers it: outer spaces off, every run of spaces one space."""
    return " ".join(text.split())


def _digits(rng: random.Random, least: int, most: int) -> str:
    return "".join(rng.choices(string.digits, k=rng.randint(least, most)))


def _invented(rng: random.Random) -> str:
    return "".join(rng.choice(ONSETS) + rng.choice(NUCLEI) + rng.choice(CODAS) for _ in range(rng.choice((1, 1, 2, 2, 3))))


def _word(rng: random.Random) -> str:
    return rng.choice(rng.choice((GOODS, TRADE, PLACES, PLAIN))) if rng.random() < 0.65 else _invented(rng)


def amount(rng: random.Random) -> str:
    """Money with or without currency, such as 12.90, RM 4.00, 1,234.50, 8,99 € or (3.20)."""
    whole = rng.choice((rng.randint(0, 9), rng.randint(0, 99), rng.randint(0, 999), rng.randint(0, 99999)))
    comma = rng.random() < 0.12
    text = f"{whole:,}.{_digits(rng, 2, 2)}" if rng.random() < 0.6 else f"{whole}.{_digits(rng, 2, 2)}"
    text = text.translate(str.maketrans(".,", ",.")) if comma else text
    text = text + rng.choice((" €", "€", " EUR", " kr")) if comma and rng.random() < 0.5 else rng.choice(CURRENCIES) + text
    draw = rng.random()
    if draw < 0.06:
        return "-" + text
    return f"({text})" if draw < 0.08 else text + rng.choice((" ", "")) + rng.choice(TAX_CODES[:8]) if draw < 0.14 else text


def date(rng: random.Random) -> str:
    """A day in one of the usual formats."""
    day, month, year = rng.randint(1, 31), rng.randint(1, 12), rng.randint(1995, 2035)
    mark = rng.choice("//--..")
    name = rng.choice(MONTHS)
    return rng.choice(
        (
            f"{day:02d}{mark}{month:02d}{mark}{year}",
            f"{day:02d}{mark}{month:02d}{mark}{year % 100:02d}",
            f"{day}{mark}{month}{mark}{year}",
            f"{year}{mark}{month:02d}{mark}{day:02d}",
            f"{day:02d} {name} {year}",
            f"{day}-{name[:3]}-{year % 100:02d}",
            f"{name} {day}, {year}",
            f"{day:02d}{name[:3]}{year}",
            f"{name[:3]} {day:02d}'{year % 100:02d}",
        )
    )


def clock(rng: random.Random) -> str:
    """A time of day in one of the usual formats."""
    hour, minute, second = rng.randint(0, 23), rng.randint(0, 59), rng.randint(0, 59)
    half = rng.choice((" AM", " PM", "am", "pm", "PM", " p.m."))
    return rng.choice(
        (
            f"{hour:02d}:{minute:02d}",
            f"{hour:02d}:{minute:02d}:{second:02d}",
            f"{hour % 12 + 1}:{minute:02d}{half}",
            f"{hour % 12 + 1:02d}:{minute:02d}:{second:02d}{half}",
            f"{hour:02d}h{minute:02d}",
            f"{hour:02d}.{minute:02d}",
        )
    )


def number(rng: random.Random) -> str:
    """Telephone, tax, registration, bar code, card and document numbers."""
    letters = "".join(rng.choices(string.ascii_uppercase, k=rng.randint(1, 4)))
    return rng.choice(
        (
            _digits(rng, 1, 3),
            _digits(rng, 4, 8),
            _digits(rng, 8, 13),
            _digits(rng, 12, 13),
            letters + _digits(rng, 3, 10),
            f"{_digits(rng, 2, 3)}-{_digits(rng, 6, 8)}",
            f"{_digits(rng, 2, 3)}-{_digits(rng, 3, 4)} {_digits(rng, 4, 4)}",
            f"({_digits(rng, 2, 3)}) {_digits(rng, 3, 4)}-{_digits(rng, 4, 4)}",
            f"+{_digits(rng, 2, 2)} {_digits(rng, 1, 2)}-{_digits(rng, 7, 8)}",
            f"{_digits(rng, 5, 7)}-{letters[0]}",
            f"({_digits(rng, 5, 7)}-{letters[0]})",
            f"{letters}{_digits(rng, 2, 4)}-{_digits(rng, 2, 6)}",
            f"{_digits(rng, 3, 3)}/{_digits(rng, 2, 4)}/{_digits(rng, 4, 6)}",
            f"#{_digits(rng, 2, 6)}",
            f"XXXX XXXX XXXX {_digits(rng, 4, 4)}",
            f"****{_digits(rng, 4, 4)}",
            " ".join(_digits(rng, 2, 4) for _ in range(rng.randint(2, 4))),
            f"{letters}-{_digits(rng, 2, 8)}",
        )
    )


def _company(rng: random.Random) -> str:
    names = [rng.choice(TRADE) if rng.random() < 0.5 else _word(rng).capitalize() for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.15:
        names.insert(1, rng.choice(("&", "and", "@", "'n'", "+")))
    return " ".join([*names, rng.choice(COMPANIES)]).strip()


def _address(rng: random.Random) -> str:
    place, other = rng.choice(PLACES), rng.choice(PLACES)
    house = f"{rng.randint(1, 399)}{rng.choice(['', '', 'A', 'B', '-1', '/3', 'G'])}"
    end = rng.choice(("", "", ",", "."))
    return (
        rng.choice(
            (
                f"No. {house}, {place} {_invented(rng).capitalize()} {rng.randint(1, 30)}/{rng.randint(1, 99)}",
                f"NO {house}, {place} {other}",
                f"{_digits(rng, 5, 5)} {place} {other}",
                f"{house} {_invented(rng).capitalize()} {place}",
                f"{place} {other}, {rng.choice(PLACES)}",
                f"Lot {house}, {rng.choice(('GF', 'Ground Floor', 'Level 2', 'Blk C', '1st Floor'))}, {place} {other}",
                f"{place} {rng.randint(1, 199)}",
                f"{_digits(rng, 4, 6)} {place}, {other}",
                f"{place} {other} {_digits(rng, 5, 5)}-{_digits(rng, 4, 4)}",
            )
        )
        + end
    )


def _goods(rng: random.Random) -> str:
    words = [rng.choice(GOODS) if rng.random() < 0.6 else _word(rng) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.3:
        size = rng.choice(
            (f"{rng.randint(1, 999)}", f"{rng.randint(1, 20)}.{rng.randint(1, 9)}", f"{rng.randint(1, 9)}/{rng.randint(2, 8)}")
        )
        words.append(size + rng.choice(UNITS))
    text = " ".join(words)
    draw = rng.random()
    marks = {
        0.07: f"{text} ({_word(rng)})",
        0.12: f"{number(rng)} {text}",
        0.16: f"{text}-{_word(rng)}",
        0.19: f"SR: {text}",
        0.22: f"{text} {rng.randint(1, 99)}'S",
        0.25: f"{text} {rng.randint(1, 30)}X{rng.randint(1, 60)}",
        0.28: f"*{text}",
    }
    return next((marked for share, marked in marks.items() if draw < share), text)


def _quantity(rng: random.Random) -> str:
    count = rng.randint(1, 12) if rng.random() < 0.8 else rng.randint(1, 999)
    return rng.choice(
        (
            f"{count}",
            f"{count}",
            f"{count}x",
            f"{count} x",
            f"{count}.00",
            f"{count}.000",
            f"{count} {rng.choice(UNITS)}",
            f"@{count}",
        )
    )


def _sentence(rng: random.Random) -> str:
    words = [rng.choice(PLAIN) if rng.random() < 0.8 else _word(rng) for _ in range(rng.randint(2, 7))]
    text = " ".join(words)
    return (text[:1].upper() + text[1:] if rng.random() < 0.6 else text) + rng.choice(("", "", "", ".", "!", ",", ":"))


def _field(rng: random.Random) -> str:
    value = rng.choice((number, number, date, clock, amount, _word, _company))(rng)
    return rng.choice(FIELDS) + rng.choice((": ", ":", " : ", " ", "   : ", ". ", "    ")) + value


def _labelled_amount(rng: random.Random) -> str:
    label = rng.choice(LABELS) + rng.choice(
        ("", "", "", " (RM)", f" {rng.randint(1, 25)}%", f" @ {rng.randint(1, 20)}%", " ($)", " (6%)")
    )
    return label + rng.choice((" ", "  ", "     ", ": ", " : ", ":", "      ")) + amount(rng)


def _item_line(rng: random.Random) -> str:
    gap = " " * rng.randint(1, 6)
    columns = rng.choice(
        (
            (_goods, amount),
            (_quantity, _goods, amount),
            (_goods, _quantity, amount, amount),
            (_quantity, amount, amount),
            (number, _quantity, amount),
            (_quantity, _goods),
            (number, _goods),
        )
    )
    return gap.join(column(rng) for column in columns)


def _rate(rng: random.Random) -> str:
    percent = rng.choice((f"{rng.randint(0, 25)}%", f"{rng.randint(0, 25)}.{rng.choice(('00', '0', '5', '50'))}%"))
    name = rng.choice((*TAX_CODES, "GST", "VAT", "Tax", "Disc", "Service Charge", _word(rng)))
    return rng.choice(
        (
            f"{name} @ {percent}",
            f"{name} @{percent}",
            f"{name} ({percent})",
            f"{name}@{percent}:",
            f"({percent})",
            f"{name} {percent} -",
        )
    )


def _web(rng: random.Random) -> str:
    end = rng.choice(("com", "com.my", "net", "org", "de", "co.uk", "fr", "es"))
    host = f"{_invented(rng)}{rng.choice(['', '-', ''])}{_word(rng).lower()}.{end}"
    return rng.choice((f"www.{host}", f"http://{host}", f"{_invented(rng)}@{host}", host, f"https://{host}/{_invented(rng)}"))


def _tiny(rng: random.Random) -> str:
    few = (
        rng.choice(CURRENCIES).strip() or "RM",
        f": {_word(rng)}",
        f"{rng.randint(0, 99)}%",
        f"{rng.randint(0, 30)}.00%",
        "0.00",
        "%",
        ":",
    )
    single = (rng.choice(CHARACTERS), rng.choice(string.ascii_uppercase), str(rng.randint(0, 9)))
    return rng.choice((*few, *single, rng.choice(TAX_CODES), rng.choice(UNITS), str(rng.randint(0, 999))))


def _random_characters(rng: random.Random) -> str:
    letters = rng.choice(
        (
            CHARACTERS,
            string.ascii_letters + string.digits,
            string.ascii_uppercase + string.digits,
            ACCENTS + MARKS + string.ascii_letters,
            string.ascii_letters + string.digits + string.punctuation,
            string.punctuation + string.digits,
        )
    )
    return spoken("".join(rng.choices(letters + " ", k=rng.randint(2, 16)))) or rng.choice(letters)


def _rule(rng: random.Random) -> str:
    stars = "*" * rng.randint(1, 4)
    return rng.choice("-=*_.") * rng.randint(4, 30) if rng.random() < 0.4 else f"{stars} {_sentence(rng)} {stars}"


_KINDS: list[tuple[Callable[[random.Random], str], float]] = [
    (amount, 14),
    (number, 9),
    (date, 4),
    (clock, 3),
    (_field, 9),
    (_labelled_amount, 7),
    (_company, 6),
    (_address, 8),
    (_goods, 9),
    (_item_line, 7),
    (_sentence, 6),
    (lambda rng: rng.choice(HEADINGS), 6),
    (lambda rng: rng.choice(LABELS), 4),
    (lambda rng: rng.choice(FIELDS) + rng.choice(("", ":", " :")), 4),
    (_web, 2),
    (_rate, 4),
    (_tiny, 6),
    (_word, 4),
    (_random_characters, 9),
    (_rule, 1),
]
_MAKERS = [maker for maker, _ in _KINDS]
_WEIGHTS = [weight for _, weight in _KINDS]


def _cased(rng: random.Random, text: str) -> str:
    draw = rng.random()
    cased = text.upper() if draw < 0.45 else text.title() if draw < 0.55 else text.lower() if draw < 0.6 else text
    return cased if _KNOWN.issuperset(cased) else text


def random_line(rng: random.Random, longest: int = 60) -> str:
    """One line or one column entry of a document, 1 to `longest` characters of CHARACTERS and spaces."""
    while True:
        text = rng.choices(_MAKERS, _WEIGHTS)[0](rng)
        text = _cased(rng, text)[:longest].strip()
        if text:
            return text


def receipt_lines(rng: random.Random) -> list[list[Piece]]:
    """One whole receipt from head to foot: rows of pieces; an empty row is a blank line.

    Head and foot are centred (or all left), fields hang at the left or in two columns, items have one line with
    columns or two lines (goods, then quantity and prices), amounts end at the right edge.
    """
    upper = rng.random() < 0.5
    middle = rng.random() < 0.75
    rows: list[list[Piece]] = []

    def whole(text: str) -> None:
        rows.append([Piece(text, 0.5, "middle") if middle else Piece(text, 0.0, "left")])

    whole(_company(rng))
    for _ in range(rng.randint(1, 4)):
        whole(_address(rng))
    for _ in range(rng.randint(0, 3)):
        whole(_field(rng))
    whole(rng.choice(HEADINGS))
    rows += _field_rows(rng) + _item_rows(rng) + _total_rows(rng)
    for _ in range(rng.randint(1, 4)):
        whole(rng.choice((_sentence, _sentence, _rule, _web))(rng))
    return [[_shown(piece, upper) for piece in row] for row in rows]


def _shown(piece: Piece, upper: bool) -> Piece:
    capitals = piece.text.upper()
    return replace(piece, text=spoken(capitals if upper and _KNOWN.issuperset(capitals) else piece.text))


def _field_rows(rng: random.Random) -> list[list[Piece]]:
    rows: list[list[Piece]] = []
    split = rng.random() < 0.5
    for _ in range(rng.randint(1, 6)):
        if split:
            value = rng.choice((number, date, clock, _word))(rng)
            rows.append([Piece(rng.choice(FIELDS), 0.0, "left"), Piece(f": {value}", rng.choice((0.25, 0.3, 0.4)), "left")])
        else:
            rows.append([Piece(_field(rng), 0.0, "left")])
        if rng.random() < 0.25:
            rows[-1][1:] = [Piece(rng.choice((date, clock))(rng), 1.0, "right")]
    return rows


def _item_rows(rng: random.Random) -> list[list[Piece]]:
    columns = sorted(rng.uniform(0.45, 0.85) for _ in range(rng.randint(0, 2)))
    two_lines = rng.random() < 0.4
    heads = [Piece(rng.choice(("Item", "Description", "Qty Item", "Code")), 0.0, "left")]
    heads += [Piece(rng.choice(("Qty", "Price", "U/P", "Disc", "Tax")), place, "right") for place in columns]
    rows = [[*heads, Piece(rng.choice(("Amount", "Amt", "Total", "RM")), 1.0, "right")]] if rng.random() < 0.6 else []
    for _ in range(rng.randint(1, 14)):
        numbers = [Piece(rng.choice((_quantity, amount))(rng), place, "right") for place in columns]
        end = [*numbers, Piece(amount(rng), 1.0, "right")]
        goods = Piece(_goods(rng)[: 40 if two_lines or not columns else 18], 0.0, "left")
        rows += [[goods], [Piece(_digits(rng, 8, 13), 0.05, "left"), *end]] if two_lines else [[goods, *end]]
    return rows


def _total_rows(rng: random.Random) -> list[list[Piece]]:
    left = rng.choice((0.0, 0.0, 0.3))
    rows = [[Piece("-" * rng.randint(20, 40), 0.5, "middle")]] if rng.random() < 0.4 else []
    for _ in range(rng.randint(2, 7)):
        rows.append([Piece(rng.choice(LABELS) + rng.choice(("", ":", " :")), left, "left"), Piece(amount(rng), 1.0, "right")])
    return rows
