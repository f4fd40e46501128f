"""How spread out attention is: entropy over the visual tokens of one view of the picture (ACS sections 4.1 and 4.2).

Legend: T visual tokens, V those that count, ... any leading dimensions. Everything is computed in float64.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_pipeline.geometry.footprints import WHOLE_PICTURE, Footprints
from ray_pipeline.methods.pool import TokenView

LEAST_MASS = 1e-8  # attention on the picture below which a head says nothing about where (section 4.1)
LEAST_SHARE = 1e-12  # floor under the logarithm: 0 ln 0 = 0, with a finite gradient


@dataclass(frozen=True)
class Entropies:
    """Of each map (...): entropy in nats, the same divided by ln |V| (0..1), and the image mass before renormalising.

    A map that is not valid counts as looking everywhere. NaN in, NaN out.
    """

    nats: Tensor
    normalised: Tensor
    mass: Tensor

    @property
    def valid(self) -> Tensor:
        """Enough mass on the picture, (...) bool."""
        return self.mass >= LEAST_MASS


def kept_tokens(footprints: Footprints, tokens: TokenView) -> Tensor:
    """Which tokens count, (T,) bool; those without a place (newlines, separators) never do.

    `finest_view` leaves out the view of the whole picture where crops or tiles show the same place more finely: two tokens
    that see one place are not dispersion (section 4.2).
    """
    placed = footprints.valid_T
    finer = placed & (footprints.view_T > WHOLE_PICTURE)
    if tokens == "finest_view" and finer.any():
        return placed & (footprints.view_T != WHOLE_PICTURE)
    return placed


def renormalised(weights_T: Tensor, kept_T: Tensor) -> tuple[Tensor, Tensor]:
    """Shares (..., V) that sum to 1 over the tokens kept, and the mass (...) they had; shares of invalid maps are equal.

    Raises:
        ValueError: weights and tokens differ in number, or a weight is negative.
    """
    if weights_T.shape[-1] != len(kept_T):
        raise ValueError(f"{weights_T.shape[-1]} weights for {len(kept_T)} tokens: they would fall on the wrong tokens")
    if (weights_T < 0).any():
        raise ValueError(f"attention weight {float(weights_T.nan_to_num().min())}, expected 0 or more")
    kept = weights_T[..., kept_T].double()
    mass = kept.sum(-1)
    empty = (mass < LEAST_MASS)[..., None]
    shares = torch.where(empty, 1 / max(1, kept.shape[-1]), kept / mass.clamp(min=LEAST_MASS)[..., None])
    return shares, mass


def read_entropies(weights_T: Tensor, kept_T: Tensor) -> Entropies:
    """Entropies of maps (..., T) over the tokens kept. A single token leaves nothing to spread over: both are 0.

    Raises:
        ValueError: what `renormalised` refuses.
    """
    shares, mass = renormalised(weights_T, kept_T)
    return shares_entropies(shares, mass)


def shares_entropies(shares_V: Tensor, mass: Tensor) -> Entropies:
    """Entropies of shares (..., V) that sum to 1, differentiable."""
    nats = -(shares_V * shares_V.clamp(min=LEAST_SHARE).log()).sum(-1)
    tokens = shares_V.shape[-1]
    return Entropies(nats, nats / math.log(tokens) if tokens > 1 else torch.zeros_like(nats), mass)
