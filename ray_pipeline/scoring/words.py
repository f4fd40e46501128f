"""Words found, whatever their order: the parts of word precision, recall and F1, as receipt benchmarks count them.

A word is a run of A-Z, 0-9 and full stops in the text's upper case: other letters and signs separate words. Each word counts
as often as it stands there.
"""

import re
from collections import Counter

from ray_pipeline.scoring.share import Share

_WORD = re.compile(r"[A-Z0-9.]+")


def words_of(text: str) -> Counter[str]:
    """How often each word stands there."""
    return Counter(_WORD.findall(text.upper()))


def found_words(said: str, reference: str) -> tuple[Share, Share, Share]:
    """Shares of precision, recall and F1. Two texts without words add nothing to any of them."""
    read, wanted = words_of(said), words_of(reference)
    common, said_count, wanted_count = (read & wanted).total(), read.total(), wanted.total()
    return Share(common, said_count), Share(common, wanted_count), Share(2 * common, said_count + wanted_count)
