"""Edits between what was read and what stands there, in characters and words: the parts of CER and WER.

Both depend on the order of the text. White space counts as one space between words; case counts.
"""

from collections.abc import Sequence

import jiwer

from ray_pipeline.scoring.share import Share
from ray_pipeline.scoring.spelling import collapsed


def character_edits(said: str, references: Sequence[str]) -> Share:
    """Substituted, deleted and inserted characters over the reference's length, for the nearest reference."""
    return _nearest([_characters(collapsed(said), collapsed(reference)) for reference in references])


def word_edits(said: str, references: Sequence[str]) -> Share:
    """The same in words."""
    return _nearest([_words(collapsed(said), collapsed(reference)) for reference in references])


def _nearest(shares: list[Share]) -> Share:
    """The lowest rate. An empty reference has no rate: it is nearest only where nothing was said, and else last."""
    if not shares:
        raise ValueError("0 references, expected at least one")
    return min(
        shares, key=lambda share: share.part / share.whole if share.whole else share.part * float("inf") if share.part else 0
    )


def _characters(said: str, reference: str) -> Share:
    if not said or not reference:
        return Share(len(said) + len(reference), len(reference))
    counted = jiwer.process_characters(reference, said)
    return Share(counted.substitutions + counted.deletions + counted.insertions, len(reference))


def _words(said: str, reference: str) -> Share:
    if not said or not reference:
        return Share(len(said.split()) + len(reference.split()), len(reference.split()))
    counted = jiwer.process_words(reference, said)
    return Share(counted.substitutions + counted.deletions + counted.insertions, len(reference.split()))
