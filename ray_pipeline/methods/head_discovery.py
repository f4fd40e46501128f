"""Which heads look more concentrated while a good box is written: from labelled queries to a head profile (ACS section 6).

Legend: K candidates of a query, C coordinates, L layers, H heads.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_pipeline.methods.acs_learned import AirS, features, token_cells
from ray_pipeline.methods.entropy import kept_tokens
from ray_pipeline.methods.labelled_queries import LabelledQuery, QueryReading, image_parts
from ray_pipeline.methods.pool import TokenView
from schemas.profile import COORDINATES, HeadProfile, ProfiledHead

GOOD = 0.6  # IoU above which a candidate is good; bad ones miss altogether (the paper's groups)
LEAST_SIGMA = 1e-6


@dataclass(frozen=True)
class HeadRules:
    """Step by step what a head must be to enter the profile (section 6, steps 2 to 4).

    Below `least_pairs` pairs of a good and a bad candidate within one query, all pairs are compared by normalised entropy.
    """

    layers: int = 10
    least_mass: float = 0.01
    least_auroc: float = 0.58
    per_coordinate: int = 4
    per_layer: int = 2
    least_pairs: int = 30


@dataclass(frozen=True)
class Origin:
    """What a profile belongs to and where it comes from, word for word as `HeadProfile` keeps it."""

    model: str
    transformers: str
    dtype: str
    prompt_sha256: str
    calibrated_on: str
    date: str
    tokens: TokenView = "finest_view"


def discover(
    readings: Sequence[QueryReading],
    layers: Sequence[int],
    attribution_L: Tensor,
    origin: Origin,
    rules: HeadRules = HeadRules(),
    regressor_layers: Sequence[int] = (),
) -> HeadProfile:
    """The profile of the heads that pass the rules; without any where none passes.

    `layers` are the real indices behind the readings' L, `attribution_L` their weight in the regressor.

    Raises:
        ValueError: layers that differ in number, or no good or no bad candidates in a half of the images.
    """
    read = readings[0].entropies.nats.shape[2]
    if not len(layers) == len(attribution_L) == read:
        raise ValueError(f"{len(layers)} layers, {len(attribution_L)} attributions and readings of {read}; expected equally many")
    auroc_CLH = head_auroc(readings, rules.least_pairs)
    passed_CLH = _passing(readings, rules)
    passed_CLH[:, attribution_L.argsort(descending=True, stable=True)[rules.layers :]] = False
    normalised = torch.cat([reading.entropies.normalised for reading in readings])
    mu_CLH, sigma_CLH = normalised.mean(0), normalised.std(0, correction=0).clamp(min=LEAST_SIGMA)
    heads = [
        ProfiledHead(
            coordinate=name, layer=layers[layer], head=head, mu=float(mu_CLH[c, layer, head]),
            sigma=float(sigma_CLH[c, layer, head]), auroc=float(auroc_CLH[c, layer, head]),
        )
        for c, name in enumerate(COORDINATES)
        for layer, head in best_heads(auroc_CLH[c], passed_CLH[c], rules)
    ]  # fmt: skip
    return HeadProfile(
        model=origin.model, transformers=origin.transformers, dtype=origin.dtype, tokens=origin.tokens,
        prompt_sha256=origin.prompt_sha256, calibrated_on=origin.calibrated_on, date=origin.date, heads=tuple(heads),
        regressor_layers=tuple(regressor_layers),
    )  # fmt: skip


def head_auroc(readings: Sequence[QueryReading], least_pairs: int) -> Tensor:
    """P(a bad candidate's entropy is above a good one's), (C, L, H): 0.5 says nothing, 1 tells them apart.

    Pairs are drawn within queries, where pictures and things are the same; else over all, by normalised entropy.

    Raises:
        ValueError: no good or no bad candidates.
    """
    good = [reading.iou_K > GOOD for reading in readings]
    bad = [reading.iou_K <= 0 for reading in readings]
    both = [k for k in range(len(readings)) if good[k].any() and bad[k].any()]
    pairs = sum(int(good[k].sum()) * int(bad[k].sum()) for k in both)
    if both and pairs >= least_pairs:
        nats = [readings[k].entropies.nats for k in both]
        return torch.stack([ordered_pairs(n[good[k]], n[bad[k]]) for k, n in zip(both, nats, strict=True)]).sum(0) / pairs
    values = torch.cat([reading.entropies.normalised for reading in readings])
    good_K, bad_K = torch.cat(good), torch.cat(bad)
    if not good_K.any() or not bad_K.any():
        raise ValueError(f"{int(good_K.sum())} good and {int(bad_K.sum())} bad candidates, expected at least one of each")
    return ordered_pairs(values[good_K], values[bad_K]) / (int(good_K.sum()) * int(bad_K.sum()))


def ordered_pairs(good: Tensor, bad: Tensor) -> Tensor:
    """How many pairs of (good, ...) and (bad, ...) have the bad value above the good one, (...); ties count one half."""
    shape = good.shape[1:]
    ascending = good.flatten(1).T.contiguous().sort(1).values
    asked = bad.flatten(1).T.contiguous()
    below = torch.searchsorted(ascending, asked) + torch.searchsorted(ascending, asked, right=True)
    return (below.double().sum(1) / 2).reshape(shape)


def best_heads(auroc_LH: Tensor, passed_LH: Tensor, rules: HeadRules) -> list[tuple[int, int]]:
    """(layer, head) of one coordinate, the best first: at most so many in all and of one layer."""
    heads: list[tuple[int, int]] = []
    for place in auroc_LH.flatten().argsort(descending=True, stable=True).tolist():
        layer, head = divmod(place, auroc_LH.shape[1])
        if passed_LH[layer, head] and sum(known == layer for known, _ in heads) < rules.per_layer:
            heads.append((layer, head))
        if len(heads) == rules.per_coordinate:
            break
    return heads


def layer_attribution(regressor: AirS, queries: Iterable[LabelledQuery]) -> Tensor:
    """How much each of the regressor's layers weighs in what it predicts, (L,): gradient times input, summed over tokens.

    Mean over candidates, coordinates and heads (section 6, step 2); queries it was not trained on, read at its layers.

    Raises:
        ValueError: no queries.
    """
    found = []
    for query in queries:
        kept_T = kept_tokens(query.footprints, regressor.tokens)
        cells_VG = token_cells(query.footprints, kept_T, query.width, query.height, regressor.grid)
        for weights_CLHT in query.readable().weights_KCLHT:
            attention = weights_CLHT.float().requires_grad_()
            maps, scalars = features(attention, kept_T, cells_VG)
            (gradient,) = torch.autograd.grad(regressor(maps[None], scalars[None]).sum(), attention)
            found.append((attention * gradient).detach().abs().sum(-1).mean((0, 2)))
    if not found:
        raise ValueError("0 queries to attribute layers by, expected at least 1")
    return torch.stack(found).mean(0)


def _passing(readings: Sequence[QueryReading], rules: HeadRules) -> Tensor:
    """Heads that look at the picture and tell good from bad in either half of the images, (C, L, H) bool."""
    passed = torch.cat([reading.entropies.mass for reading in readings]).median(0).values >= rules.least_mass
    halves = image_parts((reading.image for reading in readings), 2)
    for half in (0, 1):
        own = [reading for reading in readings if halves[reading.image] == half]
        passed = passed & (head_auroc(own, rules.least_pairs) >= rules.least_auroc)
    return passed
