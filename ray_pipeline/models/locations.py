"""Boxes as four location tokens, 0..999 along each side of a frame."""

from torch import Tensor

from ray_pipeline.models.decoding import token_log_probability

LOCATIONS = 1000
TOLERANCE = 10  # bins: a location's probability is the mass within 1 % of the axis


def location_score(log_p: Tensor, tokens: Tensor, first: int) -> Tensor:
    """Log-probability of written tokens (T,) from (T, vocabulary), locations with the mass of bins that mean the same place.

    `first` is the id of location 0; the others follow it.
    """
    own = token_log_probability(log_p, tokens)
    near = [k for k, token in enumerate(tokens.tolist()) if first <= token < first + LOCATIONS]
    for k in near:
        token = int(tokens[k])
        low, high = max(first, token - TOLERANCE), min(first + LOCATIONS, token + TOLERANCE + 1)
        own[k] = log_p[k, low:high].logsumexp(0).clamp(max=0.0)
    return own
