"""The maps of the heads a profile names, of every candidate that can be read (ACS sections 4 and 7.3).

Legend: K candidates, P heads, T visual tokens, V those that count, C coordinates, L layers, H heads of a layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_pipeline.geometry.boxes import clip, contained_share
from ray_pipeline.methods.candidates import boxes_of
from ray_pipeline.methods.entropy import LEAST_MASS, kept_tokens, renormalised
from ray_pipeline.methods.pool import Pool
from schemas.profile import COORDINATES, HeadProfile, ProfiledHead


@dataclass(frozen=True)
class ProfiledMaps:
    """Shares and masses of the ranked candidates (the true ones of `ranked_K`, in order) at the heads left.

    `heads` are those of the profile that see enough of the picture for every ranked candidate. `defect` says why nothing can
    be ranked, else None.
    """

    shares_KPV: Tensor
    mass_KP: Tensor
    heads: tuple[ProfiledHead, ...]
    kept_T: Tensor
    ranked_K: Tensor
    defect: str | None

    def spread(self, values: Tensor) -> Tensor:
        """Values of the ranked candidates in their places in the pool, NaN elsewhere, (K,) float64."""
        everywhere = torch.full((len(self.ranked_K),), math.nan, dtype=torch.float64)
        everywhere[self.ranked_K] = values.double()
        return everywhere


def profiled_maps(pool: Pool, heads: Sequence[ProfiledHead] = ()) -> ProfiledMaps:
    """Of some heads, the profile's own unless told, its pointing ones where it has no others.

    Candidates with NaN in their attention are not ranked; a head that is invalid for one of the others is so for all.
    Nothing can be ranked where fewer than two candidates of several are readable, or a coordinate loses all its heads.

    Raises:
        ValueError: no profile with heads, or one that does not fit the attention read.
    """
    profile = profiled_heads(pool)
    asked = tuple(heads) or profile.heads or profile.pointing
    kept_T = kept_tokens(pool.footprints, profile.tokens)
    ranked = [candidate for candidate in pool.candidates if candidate.readable]
    ranked_K = torch.tensor([candidate.readable for candidate in pool.candidates])
    rows = [head_rows(one.weights_CLHT, pool.layers, asked) for one in ranked if one.weights_CLHT is not None]
    stacked = torch.stack(rows) if rows else torch.zeros(0, len(asked), len(kept_T))
    shares, mass = renormalised(stacked, kept_T)
    usable_P = (mass >= LEAST_MASS).all(0)
    left = tuple(head for head, usable in zip(asked, usable_P.tolist(), strict=True) if usable)
    return ProfiledMaps(shares[:, usable_P], mass[:, usable_P], left, kept_T, ranked_K, _defect(pool, len(ranked), asked, left))


def inside_shares(pool: Pool, maps: ProfiledMaps) -> Tensor:
    """The share of each map inside its own candidate's box, (K ranked, P) in 0..1."""
    prints_V4 = clip(pool.footprints.boxes_T4_px[maps.kept_T].double(), pool.width, pool.height)
    inside_VK = contained_share(prints_V4, boxes_of(pool.candidates))[:, maps.ranked_K]
    return torch.einsum("kpv,vk->kp", maps.shares_KPV, inside_VK)


def profiled_heads(pool: Pool) -> HeadProfile:
    """The pool's profile.

    Raises:
        ValueError: there is none, or none with heads.
    """
    if pool.profile is None or not (pool.profile.heads or pool.profile.pointing):
        found = "there is no profile" if pool.profile is None else f"the profile of {pool.profile.model} names none"
        raise ValueError(f"{pool.settings.method} needs profiled heads, but {found}; calibrate this model first")
    return pool.profile


def head_rows(weights_CLHT: Tensor, layers: Sequence[int], heads: Sequence[ProfiledHead]) -> Tensor:
    """The maps of profiled heads, (P, T), from attention at `layers`.

    Raises:
        ValueError: a head at a layer that was not read, or one the model does not have.
    """
    for head in heads:
        if head.layer not in layers or head.head >= weights_CLHT.shape[2]:
            known = f"layers {tuple(layers)} of {weights_CLHT.shape[2]} heads were read"
            raise ValueError(f"profile names head {head.head} of layer {head.layer}, but {known}")
    coordinate = torch.tensor([COORDINATES.index(head.coordinate) for head in heads])
    layer = torch.tensor([list(layers).index(head.layer) for head in heads])
    return weights_CLHT[coordinate, layer, torch.tensor([head.head for head in heads])]


def _defect(pool: Pool, ranked: int, profiled: Sequence[ProfiledHead], left: Sequence[ProfiledHead]) -> str | None:
    if ranked < min(2, len(pool.candidates)):
        return f"attention of {ranked} of {len(pool.candidates)} candidates is readable"
    lost = [name for name in COORDINATES if name in {h.coordinate for h in profiled} - {h.coordinate for h in left}]
    return f"no valid head left for {', '.join(lost)}" if lost else None
