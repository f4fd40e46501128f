"""Average normalised Levenshtein similarity, one answer at a time (Biten et al., Scene Text Visual Question Answering, 2019).

The similarity is 1 minus the edit distance over the longer text's length. From a distance of THRESHOLD on an answer counts as
another one rather than as misread, and scores 0; so reads the paper, while the published script still grants 0.5 at 0.5.
"""

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from ray_pipeline.scoring.spelling import folded

THRESHOLD = 0.5


def anls(said: str, references: Sequence[str]) -> float:
    """The best over all references, 0 or more than 0.5 up to 1; case and white space do not count.

    Raises:
        ValueError: there is no reference.
    """
    if not references:
        raise ValueError("0 references, expected at least one")
    return max(_similarity(folded(said), folded(reference)) for reference in references)


def exact_match(said: str, references: Sequence[str]) -> float:
    """1 where the answer is one of the references, case and white space aside, else 0."""
    return float(folded(said) in {folded(reference) for reference in references})


def _similarity(said: str, reference: str) -> float:
    distance = float(Levenshtein.normalized_distance(said, reference))
    return 1.0 - distance if distance < THRESHOLD else 0.0
