"""Invented companies, people, addresses, numbers, days and goods as they stand on till receipts, invoices and forms.

Put together from word lists and syllables, never copied from a document. Everything is written in mixed case or capitals
as a shop might print it; whoever sets the document may still turn it to capitals.
"""

import random
import string
from datetime import date as Day

from ray_pipeline.synthesis.document_phrases import (
    BUSINESS_STARTS,
    BUSINESSES,
    DISHES,
    FAMILY,
    GIVEN,
    LEGAL_FORMS,
    LEGAL_FORMS_ELSEWHERE,
    SHOP_WORDS,
    STATES,
    SYLLABLES,
    TOWNS,
)
from ray_pipeline.synthesis.document_texts import clock
from ray_pipeline.synthesis.document_words import CODAS, GOODS, NUCLEI, ONSETS, PLACES, TRADE, UNITS

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def digits(rng: random.Random, least: int, most: int) -> str:
    """Between `least` and `most` decimal figures."""
    return "".join(rng.choices(string.digits, k=rng.randint(least, most)))


def invented(rng: random.Random, syllables: int = 2) -> str:
    """A word that no language has, first letter a capital."""
    return "".join(rng.choice(ONSETS) + rng.choice(NUCLEI) + rng.choice(CODAS) for _ in range(syllables)).capitalize()


def person(rng: random.Random) -> str:
    """Someone's name, one to three words."""
    draw = rng.random()
    if draw < 0.35:
        return " ".join(rng.sample(SYLLABLES, 3))
    return rng.choice(GIVEN) if draw < 0.6 else f"{rng.choice(GIVEN)} {rng.choice(FAMILY)}"


def _stem(rng: random.Random) -> str:
    initials = "".join(rng.choices(string.ascii_uppercase, k=rng.choice((2, 3, 3, 4))))
    return rng.choice(
        (
            " ".join(rng.sample(SYLLABLES, 2)),
            " ".join(rng.sample(SYLLABLES, 2)),
            " ".join(rng.sample(SYLLABLES, 3)),
            f"{rng.choice(SYLLABLES)} {rng.choice(SYLLABLES)} {rng.choice(SHOP_WORDS)}",
            rng.choice(SHOP_WORDS),
            " ".join(rng.sample(SHOP_WORDS, 2)),
            initials,
            initials,
            f"{initials[0]}.{initials[1]}.",
            f"{initials[0]}&{initials[1]}",
            invented(rng, rng.choice((1, 2, 2, 3))),
            f"{invented(rng)} {invented(rng, 1)}",
            f"{rng.choice(SHOP_WORDS)}{invented(rng, 1).lower()}",
            f"{rng.choice(SHOP_WORDS)} {rng.randint(1, 999)}",
            f"{rng.randint(2, 999)} {rng.choice(SHOP_WORDS)}",
            f"{rng.choice(FAMILY)}'s",
            rng.choice(FAMILY),
            f"{rng.choice(GIVEN)} {rng.choice(FAMILY)}",
            f"{rng.choice(FAMILY)} & {rng.choice(FAMILY)}",
            f"{rng.choice(PLACES)} {rng.choice(SHOP_WORDS)}",
        )
    )


def brand(rng: random.Random) -> str:
    """A shop's sign without its legal form."""
    stem = _stem(rng)
    draw = rng.random()
    return f"{stem} {rng.choice(BUSINESSES)}" if draw < 0.5 else f"{rng.choice(BUSINESS_STARTS)} {stem}" if draw < 0.65 else stem


def company(rng: random.Random) -> str:
    """A firm's full name; two in three with a legal form."""
    stem, draw = _stem(rng), rng.random()
    if draw < 0.2:
        return f"{rng.choice(BUSINESS_STARTS)} {stem}" + (f" {rng.choice(LEGAL_FORMS)}" if rng.random() < 0.5 else "")
    words = [stem, rng.choice(BUSINESSES) if rng.random() < 0.8 else rng.choice(TRADE).capitalize()]
    if rng.random() < 0.15:
        words.insert(1, rng.choice(BUSINESSES))
    if rng.random() < 0.1:
        words.insert(1, f"({rng.choice(('KL', 'JB', 'M', 'PJ', 'Malaysia', 'S', 'Asia', rng.choice(PLACES)))})")
    if draw < 0.3:
        return " ".join(words)
    if draw < 0.33:
        return f"{rng.choice(FAMILY)} & {rng.choice(('Son', 'Sons', 'Daughters', 'Bros.', 'Partners'))}"
    if draw < 0.4 and len(words) > 1:
        return " ".join([*words[:-1], rng.choice(("Trading", "Enterprise", "Ent.", "Trading Co."))])
    return " ".join(
        [*words[: rng.choice((1, 2, 2, 3))], rng.choice(LEGAL_FORMS if rng.random() < 0.75 else LEGAL_FORMS_ELSEWHERE)]
    )


def registration(rng: random.Random) -> str:
    """A company's registration number."""
    letter = rng.choice("ADHKMPTUVWX")
    old = f"{digits(rng, 5, 7)}-{letter}"
    new = f"{rng.randint(1995, 2022)}0{digits(rng, 7, 7)}"
    return rng.choice(
        (old, old, old, f"{digits(rng, 6, 6)} {letter}", f"{letter}{letter}{digits(rng, 7, 7)}-{letter}", new, f"{new} ({old})")
    )


def tax_number(rng: random.Random) -> str:
    """A number under which a firm pays goods or sales tax."""
    dashed = f"{digits(rng, 2, 2)}-{digits(rng, 8, 8)}-{rng.choice('RG')}"
    plain = f"00{digits(rng, 10, 10)}"
    return rng.choice(
        (
            plain,
            plain,
            plain,
            plain,
            f"B{digits(rng, 2, 2)}-{digits(rng, 4, 4)}-{digits(rng, 8, 8)}",
            dashed,
            f"DE{digits(rng, 9, 9)}",
        )
    )


def phone(rng: random.Random) -> str:
    """A telephone number in one of the usual groupings."""
    area, rest = rng.choice(("03", "07", "04", "05", "06", "09", "012", "016", "019", "011")), digits(rng, 8, 8)
    return rng.choice(
        (
            f"{area}-{rest}",
            f"{area}-{rest[:4]} {rest[4:]}",
            f"{area}-{rest[:7]}",
            f"{area} {rest}",
            f"{area}{rest}",
            f"+6{area}-{rest[:4]} {rest[4:]}",
            f"6{area}-{rest}",
            f"({area}) {rest[:4]} {rest[4:]}",
            f"+65 {rest[:4]} {rest[4:]}",
            f"{rest[:4]} {rest[4:]}",
            f"1300-{rest[:2]}-{rest[2:6]}",
        )
    )


def address(rng: random.Random) -> list[str]:
    """Where a firm is, one to four lines, commas at their ends as printed."""
    house = (
        f"{rng.randint(1, 299)}{rng.choice(('', '', '', 'A', '-1', '-G', f' & {rng.randint(2, 300)}', f'-{rng.randint(1, 9)}'))}"
    )
    road = rng.choice(("Jalan", "Jalan", "Jalan", "Jln", "Lorong", "Persiaran", "Lebuh", "Lrg"))
    street = f"{road} {rng.choice(rng.choice((PLACES, SHOP_WORDS)))}"
    street += rng.choice(
        (
            "",
            "",
            f" {rng.randint(1, 30)}",
            f" {rng.randint(1, 30)}/{rng.randint(1, 40)}",
            f" SS{rng.randint(1, 25)}/{rng.randint(1, 90)}",
        )
    )
    quarter = rng.choice(
        ("Taman", "Taman", "Bandar", "Kampung", "Bukit", "Seksyen", "Pusat Perdagangan", "Kawasan Perindustrian")
    )
    quarter += " " + rng.choice((rng.choice(SHOP_WORDS), rng.choice(PLACES), invented(rng)))
    town, state = rng.choice(TOWNS), rng.choice(STATES)
    first = rng.choice(
        (
            f"No. {house}, {street}",
            f"No {house}, {street}",
            f"{house}, {street}",
            f"NO.{house} {street}",
            f"Lot {house}, {street}",
        )
    )
    first = (
        rng.choice(
            (f"{rng.choice(('G', 'Ground', '1st', 'LG'))} Floor, {first}", f"Lot {rng.choice('LGFU')}-{house}, {quarter} Mall")
        )
        if rng.random() < 0.12
        else first
    )
    last = rng.choice(
        (
            f"{digits(rng, 5, 5)} {town}",
            f"{digits(rng, 5, 5)} {town}, {state}",
            f"{town}, {state}",
            f"{digits(rng, 5, 5)}, {town}, {state}",
        )
    )
    if rng.random() < 0.12:
        house_no, road = rng.randint(1, 999), rng.choice((invented(rng), rng.choice(FAMILY), rng.choice(PLACES)))
        kind = rng.choice(("Street", "Road", "Avenue", "Lane", "Drive"))
        first, quarter, last = (
            f"{house_no} {road} {kind}",
            f"#{digits(rng, 2, 2)}-{digits(rng, 2, 3)}",
            f"Singapore {digits(rng, 6, 6)}",
        )
    lines = rng.choice(
        (
            [first, quarter, last],
            [first, quarter, last],
            [first, last],
            [f"{first}, {quarter}", last],
            [first, quarter, last, state],
            [last],
        )
    )
    comma = rng.choice((",", ",", ""))
    return [line + comma for line in lines[:-1]] + [lines[-1] + rng.choice(("", "", "."))]


def day(rng: random.Random) -> Day:
    """A day of trade in the last decades."""
    return Day(
        rng.choice((rng.randint(2012, 2026), rng.randint(2016, 2019), rng.randint(1999, 2030))),
        rng.randint(1, 12),
        rng.randint(1, 28),
    )


def day_printed(rng: random.Random, when: Day) -> str:
    """A day as tills print it; day before month mostly."""
    d, m, y = when.day, when.month, when.year
    name, mark = _MONTHS[m - 1], rng.choice("////---..")
    common = (f"{d:02d}{mark}{m:02d}{mark}{y}",) * 5 + (f"{d:02d}{mark}{m:02d}{mark}{y % 100:02d}",) * 2
    other = (
        f"{d}{mark}{m}{mark}{y}",
        f"{d}{mark}{m:02d}{mark}{y}",
        f"{d}/{m}/{y % 100:02d}",
        f"{y}{mark}{m:02d}{mark}{d:02d}",
        f"{y}-{m:02d}-{d:02d}",
        f"{m:02d}/{d:02d}/{y}",
        f"{d:02d} {name[:3]} {y}",
        f"{d:02d} {name[:3].upper()} {y}",
        f"{d:02d} {name[:3].upper()} {y % 100:02d}",
        f"{d} {name} {y}",
        f"{d:02d}-{name[:3]}-{y}",
        f"{d:02d}-{name[:3].upper()}-{y % 100:02d}",
        f"{d:02d}/{name[:3]}/{y}",
        f"{d:02d}{name[:3].upper()}{y}",
        f"{name[:3]} {d:02d}, {y}",
        f"{name} {d}, {y}",
        f"{name[:3].upper()} {d}, {y}",
        f"{y}{m:02d}{d:02d}",
        f"{d:02d} {m:02d} {y}",
    )
    return rng.choice(common) if rng.random() < 0.55 else rng.choice(other)


def time_printed(rng: random.Random) -> str:
    """A time of day, mostly within opening hours and with a colon."""
    hour, minute, second = rng.randint(8, 22), rng.randint(0, 59), rng.randint(0, 59)
    half = rng.choice((" AM", "AM", " am")) if hour < 12 else rng.choice((" PM", "PM", " pm"))
    twelve = (hour - 1) % 12 + 1
    plain = (f"{hour:02d}:{minute:02d}", f"{hour:02d}:{minute:02d}:{second:02d}", f"{twelve}:{minute:02d}{half}")
    return rng.choice(
        (*plain, *plain, f"{twelve:02d}:{minute:02d}:{second:02d}{half}", f"{twelve}:{minute:02d}:{second:02d}{half}", clock(rng))
    )


def goods(rng: random.Random) -> str:
    """Something sold, one to four words, with its size at times."""
    if rng.random() < 0.25:
        return rng.choice(DISHES) + (
            f" ({rng.choice(('L', 'S', 'R', 'Hot', 'Cold', 'Set', 'Takeaway'))})" if rng.random() < 0.15 else ""
        )
    words = [
        rng.choice(GOODS) if rng.random() < 0.8 else invented(rng, rng.choice((1, 2))) for _ in range(rng.choice((1, 2, 2, 3)))
    ]
    if rng.random() < 0.2:
        words.insert(0, invented(rng) if rng.random() < 0.6 else rng.choice(SHOP_WORDS))
    if rng.random() < 0.3:
        size = rng.choice(
            (str(rng.randint(1, 999)), rng.choice(("100", "250", "500")), f"{rng.randint(1, 9)}.{rng.randint(1, 9)}")
        )
        words.append(size + rng.choice(UNITS))
    text = " ".join(words)
    return (text[:1].upper() + text[1:] if rng.random() < 0.5 else text.title())[:34].strip()
