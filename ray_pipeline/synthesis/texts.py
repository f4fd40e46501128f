"""Short texts as they stand on signs, labels, plates, tags and slips.

Letters whose upper and lower case look alike (c, o, s, ...) would make exact match measure the font instead of the
reader, so every text holds at least one character whose case can be seen, and I, O and Q never stand in codes.
"""

import random

CODE_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
DIGITS = "0123456789"
LOWER = "abcdefghijklmnopqrstuvwxyz"
PUNCTUATION = ".,:-/$%#&+!?"
TEXT_CHARACTERS = CODE_LETTERS + LOWER + DIGITS + PUNCTUATION + " "

_CASE_SHOWS_UPPER = set("ABDEFGHJKLMNRTY")
_CASE_SHOWS_LOWER = set("abdefghjmnrqty")
_ONSETS = ["b", "br", "c", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pl", "r", "s", "st", "t", "tr"]
_VOWELS = ["a", "e", "i", "o", "u", "a", "e", "o"]
_CODAS = ["", "", "n", "r", "s", "t", "l", "m", "nd", "ck", "x", "ff", "y", "v", "w", "z", "q"]


def pseudo_word(rng: random.Random, longest: int = 6) -> str:
    """A pronounceable lower-case word of 3 to `longest` letters; invented, so it can be read but not guessed."""
    while True:
        word = rng.choice(_ONSETS) + rng.choice(_VOWELS)
        word += rng.choice(_ONSETS) + rng.choice(_VOWELS) if rng.random() < 0.5 else ""
        word += rng.choice(_CODAS)
        if 3 <= len(word) <= longest and _CASE_SHOWS_LOWER & set(word):
            return word


def code(rng: random.Random) -> str:
    """3 to 6 capitals and digits, such as KX7 or 48TRA."""
    while True:
        text = "".join(rng.choice(CODE_LETTERS + DIGITS) for _ in range(rng.randint(3, 6)))
        if _CASE_SHOWS_UPPER & set(text) or set(text) & set(DIGITS):
            return text


def price(rng: random.Random) -> str:
    """An amount with two decimals, with or without a dollar sign."""
    whole = rng.randint(0, 9) if rng.random() < 0.6 else rng.randint(10, 99)
    return f"{rng.choice(['', '', '$'])}{whole}.{rng.randint(0, 99):02d}"


def _marked(rng: random.Random) -> str:
    number = rng.randint(1, 99)
    letter = rng.choice(sorted(_CASE_SHOWS_UPPER))
    forms = [
        f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
        f"{letter}-{number}",
        f"{number}%",
        f"#{number}{rng.randint(0, 9)}",
        f"{rng.randint(1, 31)}/{rng.randint(1, 12)}",
        f"{letter}&{rng.choice(sorted(_CASE_SHOWS_UPPER))}{number}",
        f"+{rng.randint(100, 9999)}",
        f"{pseudo_word(rng, 5)}{rng.choice('!?')}",
        f"{rng.randint(1, 9)},{rng.randint(100, 999)}",
    ]
    return rng.choice(forms)


def short_text(rng: random.Random) -> str:
    """One text of 3 to 6 characters: a code, a word (lower, capitalised or upper case), an amount, or a marked form."""
    draw = rng.random()
    if draw < 0.42:
        return code(rng)
    if draw < 0.70:
        word = pseudo_word(rng)
        style = rng.random()
        if style < 0.55:
            return word
        capitals = word.upper() if style > 0.8 else word.capitalize()
        return capitals if not set("IOQ") & set(capitals) and _CASE_SHOWS_UPPER & set(capitals[:1]) else word
    return price(rng) if draw < 0.83 else _marked(rng)


def slip_line(rng: random.Random) -> str:
    """One line of a receipt-like slip: a short item and its amount."""
    return f"{pseudo_word(rng, 4)} {rng.randint(0, 9)}.{rng.randint(0, 99):02d}"
