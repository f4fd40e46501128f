"""The likeliest text of CTC columns: prefix beam search (Hannun et al. 2014, without a language model).

A text's probability is the sum over all its alignments, so the text found can differ from the best class of every
column. Few prefixes and few classes per column suffice where the columns are sure; a line costs under 1 ms.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLANK = 0  # class of "no character here"; class i + 1 is the alphabet's character i
_SURE = 0.9999  # a column that is blank with at least this probability only ends the character before it
_LEAST = 1e-3  # classes less likely than this are not tried

Prefix = tuple[int, ...]
Shares = dict[Prefix, tuple[float, float]]  # of the probability, ending in a blank and in the prefix's last character


@dataclass(frozen=True)
class LineText:
    """What was read: `text` without outer spaces and one natural logarithm of a probability per character of it."""

    text: str
    log_probabilities: tuple[float, ...]


def likeliest_text(log_probs_WC: NDArray[np.float32], alphabet: str, prefixes: int = 6, classes: int = 5) -> LineText:
    """The text with the greatest sum over alignments; a character's own probability is that of its best column."""
    shares: Shares = {(): (1.0, 0.0)}
    scores: dict[Prefix, tuple[float, ...]] = {(): ()}
    for column in np.exp(log_probs_WC.astype(np.float64)):
        if column[BLANK] >= _SURE:
            shares = {prefix: (blank + ink, 0.0) for prefix, (blank, ink) in shares.items()}
            continue
        likely = [(int(which), float(column[which])) for which in np.argsort(-column)[:classes] if column[which] > _LEAST]
        grown = _grown(shares, scores, likely)
        best = sorted(grown.items(), key=lambda entry: -sum(entry[1]))[:prefixes]
        whole = sum(blank + ink for _, (blank, ink) in best)
        shares = {prefix: (blank / whole, ink / whole) for prefix, (blank, ink) in best}
        scores = {prefix: scores[prefix] for prefix in shares}
    found = max(shares, key=lambda prefix: sum(shares[prefix]))
    text = "".join(alphabet[which - 1] for which in found)
    start, end = len(text) - len(text.lstrip(" ")), len(text.rstrip(" "))
    return LineText(text[start:end], scores[found][start:end])


def _grown(shares: Shares, scores: dict[Prefix, tuple[float, ...]], likely: list[tuple[int, float]]) -> Shares:
    """Every prefix with every likely class of the next column; enters the scores of the new ones."""
    grown: Shares = {}

    def add(prefix: Prefix, blank: float, ink: float, own: tuple[float, ...]) -> None:
        before = grown.get(prefix, (0.0, 0.0))
        grown[prefix] = (before[0] + blank, before[1] + ink)
        scores[prefix] = max(scores.get(prefix, own), own)

    for prefix, (blank, ink) in shares.items():
        own = scores[prefix]
        for which, chance in likely:
            score = float(np.log(chance))
            if which == BLANK:
                add(prefix, chance * (blank + ink), 0.0, own)
            elif prefix and prefix[-1] == which:
                add(prefix, 0.0, chance * ink, (*own[:-1], max(own[-1], score)))
                add((*prefix, which), 0.0, chance * blank, (*own, score))
            else:
                add((*prefix, which), 0.0, chance * (blank + ink), (*own, score))
    return grown
