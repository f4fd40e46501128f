"""VQA accuracy: an answer that three of the other people gave is right (Antol et al., VQA: Visual Question Answering, 2015).

Averaged over leaving each person out: with ten answers, 0, 30, 60, 90 and 100 % for 0, 1, 2, 3 and 4 or more matches.
Where there are fewer than four references nobody could ever have three others agree; they are then taken as accepted spellings,
and one match is enough. With one reference it is exact match after the normalisation below.
"""

import re
from collections.abc import Sequence

AGREEING = 3
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_COMMA = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {"none": "0", "zero": "0"} | {
    word: str(value)
    for value, word in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), 1)
}
_SPELT = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
    how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
    oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
    there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
    where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all
    y'all'll y'all'd've you'd you'd've you'll you're you've
"""
# By their letters alone: written with or without apostrophes they are one word.
_CONTRACTIONS = {word.replace("'", ""): word for word in _SPELT.split()}


def vqa_accuracy(said: str, references: Sequence[str]) -> float:
    """The score in 0..1; each reference is one person's answer.

    Raises:
        ValueError: there is no reference.
    """
    if not references:
        raise ValueError("0 references, expected at least one")
    people = len(references)
    answer = vqa_normalised(said)
    matches = sum(vqa_normalised(reference) == answer for reference in references)
    if people <= AGREEING:
        return float(matches > 0)
    among_others = matches * min((matches - 1) / AGREEING, 1.0) + (people - matches) * min(matches / AGREEING, 1.0)
    return among_others / people if matches else 0.0


def vqa_normalised(text: str) -> str:
    """The text as it is compared: no punctuation or articles, number words as digits, contractions with their apostrophes."""
    words = _without_marks(text.replace("’", "'")).lower().split()
    spelt = (_NUMBERS.get(word, word) for word in words)
    return " ".join(_CONTRACTIONS.get(word.replace("'", ""), word) for word in spelt if word not in _ARTICLES)


def _without_marks(text: str) -> str:
    """A mark between letters becomes a space; beside a space, or in a text with a number such as 1,000, it vanishes."""
    line = " ".join(text.split())
    has_number_comma = _NUMBER_COMMA.search(line) is not None
    cleared = line
    for mark in _MARKS:
        vanishes = has_number_comma or f"{mark} " in line or f" {mark}" in line
        cleared = cleared.replace(mark, "" if vanishes else " ")
    return _FULL_STOP.sub("", cleared)
