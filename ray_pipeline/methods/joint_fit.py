"""What ACS-Free's joint score is made of: the heads whose attention lies in good boxes, and how much each cost counts.

Legend: K candidates of a query, B those of all, N = C x L x H maps, F features of a map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ray_pipeline.methods.agreement import coordinate_means
from ray_pipeline.methods.box_features import MAP_FEATURES, POOL_FEATURES
from ray_pipeline.methods.box_training import BoxQuery, choice_loss
from ray_pipeline.methods.head_discovery import LEAST_SIGMA, ordered_pairs
from ray_pipeline.methods.regressor_training import CORRECT
from schemas.profile import COORDINATES, HeadProfile, JointScore, ProfiledHead

STEPS, RATE = 300, 0.05
PER_LAYER = 2  # pointing heads of one coordinate: heads of one layer see nearly the same


def with_joint_score(profile: HeadProfile, queries: Sequence[BoxQuery], layers: Sequence[int], pointing: int = 4) -> HeadProfile:
    """The profile with so many pointing heads and the weights under which its joint score chooses best.

    `layers` are the real indices behind the queries' L. Where the profile has no heads, entropy counts for nothing.

    Raises:
        ValueError: no query with right and wrong candidates.
    """
    found = pointing_heads(queries, layers, pointing)
    costs = [_costs(query, profile.heads, found, layers) for query in queries]
    weights = fitted(costs, [query.iou_K for query in queries])
    if not profile.heads:
        weights[0] = 0.0  # all alike in it, it could have any
    names = ("entropy", "surprise", "likelihood", "agreement")
    joint = JointScore.model_validate(dict(zip(names, (round(value, 4) for value in weights.tolist()), strict=True)))
    return profile.model_copy(update={"pointing": found, "joint": joint})


def pointing_heads(queries: Sequence[BoxQuery], layers: Sequence[int], count: int) -> tuple[ProfiledHead, ...]:
    """Heads with more attention inside right boxes than inside wrong ones of the same question, the best first.

    Raises:
        ValueError: no query with right and wrong candidates.
    """
    surprises = [-_maps(query)[..., MAP_FEATURES.index("log_inside")] for query in queries]
    pairs, ordered_N = 0, torch.zeros(surprises[0].shape[1], dtype=torch.float64)
    for query, surprise_KN in zip(queries, surprises, strict=True):
        right = query.iou_K >= CORRECT
        pairs += int(right.sum()) * int((~right).sum())
        ordered_N += ordered_pairs(surprise_KN[right], surprise_KN[~right])
    if not pairs:
        raise ValueError(f"in none of {len(queries)} queries are there right and wrong candidates, expected at least one")
    every_BN = torch.cat(surprises)
    auroc_N, mu_N, sigma_N = ordered_N / pairs, every_BN.mean(0), every_BN.std(0, correction=0).clamp(min=LEAST_SIGMA)
    heads: list[ProfiledHead] = []
    for place in auroc_N.argsort(descending=True, stable=True).tolist():
        coordinate, layer, number = _named(place, len(auroc_N), layers)
        if sum((known.coordinate, known.layer) == (COORDINATES[coordinate], layer) for known in heads) < PER_LAYER:
            about = dict(mu=float(mu_N[place]), sigma=float(sigma_N[place]), auroc=float(auroc_N[place]))
            heads.append(ProfiledHead(coordinate=COORDINATES[coordinate], layer=layer, head=number, **about))
        if len(heads) == count:
            break
    return tuple(heads)


def fitted(costs: Sequence[Tensor], ious: Sequence[Tensor]) -> Tensor:
    """Weights (costs,) of at least 0 under which the lowest sum is the best box most often, from costs (K, costs) per query."""
    question_B = torch.arange(len(costs)).repeat_interleave(torch.tensor([len(one) for one in costs]))
    costs_B, iou_B = torch.cat(list(costs)).float(), torch.cat(list(ious)).float()
    spread = costs_B.std(0, correction=0).clamp(min=LEAST_SIGMA)
    roots = torch.ones(costs_B.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([roots], lr=RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        choice_loss(-(costs_B / spread) @ roots.square(), iou_B, question_B, 1.0).backward()
        optimiser.step()
    return (roots.square() / spread).detach()


def _costs(query: BoxQuery, heads: Sequence[ProfiledHead], pointing: Sequence[ProfiledHead], layers: Sequence[int]) -> Tensor:
    """The four costs of `JointScore`, in its order, (K, 4)."""
    maps_KNF, known_KF = _maps(query), query.features_KF[:, -len(POOL_FEATURES) :].double()
    places = [_place(head, maps_KNF.shape[1], layers) for head in heads]
    entropy_KP = maps_KNF[:, places, MAP_FEATURES.index("entropy")]
    mu, sigma = (entropy_KP.new_tensor([getattr(head, name) for head in heads]) for name in ("mu", "sigma"))
    points = [_place(head, maps_KNF.shape[1], layers) for head in pointing]
    return torch.stack(
        [
            coordinate_means((entropy_KP - mu) / sigma, heads) if heads else torch.zeros(len(maps_KNF)).double(),
            coordinate_means(-maps_KNF[:, points, MAP_FEATURES.index("log_inside")], pointing),
            -known_KF[:, POOL_FEATURES.index("logprob")],
            -known_KF[:, POOL_FEATURES.index("agreement")],
        ],
        1,
    )


def _maps(query: BoxQuery) -> Tensor:
    maps_KNF: Tensor = query.features_KF[:, : -len(POOL_FEATURES)].double().unflatten(1, (-1, len(MAP_FEATURES)))
    return maps_KNF


def _named(place: int, maps: int, layers: Sequence[int]) -> tuple[int, int, int]:
    """Coordinate, real layer and head of a map."""
    heads = maps // (len(COORDINATES) * len(layers))
    coordinate, rest = divmod(place, len(layers) * heads)
    return coordinate, layers[rest // heads], rest % heads


def _place(head: ProfiledHead, maps: int, layers: Sequence[int]) -> int:
    heads = maps // (len(COORDINATES) * len(layers))
    return (COORDINATES.index(head.coordinate) * len(layers) + list(layers).index(head.layer)) * heads + head.head
