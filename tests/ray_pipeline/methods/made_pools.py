"""Candidates, pools and labelled attention made by hand, for the tests of CHOOSE."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ray_pipeline.geometry.footprints import Footprints, grid_footprints
from ray_pipeline.methods.candidates import Candidate
from ray_pipeline.methods.labelled_queries import LabelledQuery
from ray_pipeline.methods.pool import Pool
from schemas.methods import SelectSettings
from schemas.picture import Box
from schemas.profile import COORDINATES, HeadProfile, ProfiledHead

WIDTH, HEIGHT = 640, 480
FIRST, SHIFTED, NEAR = (100.0, 100, 120, 120), (104.0, 104, 124, 124), (101.0, 99, 121, 119)  # the published medoid example
FAR = (400.0, 300, 460, 420)
ROWS, COLUMNS = 6, 8
LAYERS, HEADS = (5, 7, 9), 4
PLANTED = {  # the heads that look more closely the better the box: coordinate → (place in LAYERS, head)
    "x0": {(1, 2), (2, 0)},
    "y0": {(1, 3), (2, 1)},
    "x1": {(1, 0), (2, 3)},
    "y1": {(1, 1), (2, 2)},
}


def candidate(box: Box, index: int = 0, logprob: float = -1.0, weights: Tensor | None = None, **more: Any) -> Candidate:
    return Candidate(box, f"answer {index}", logprob, more.pop("entropy", 1.0), weights, index, **more)


def line(tokens: int, view: int = 0) -> Footprints:
    """Tokens side by side, over the whole picture."""
    return grid_footprints((0, 0, WIDTH, HEIGHT), 1, tokens, view)


def pool(candidates: Sequence[Candidate], footprints: Footprints | None = None, method: str = "medoid", **more: Any) -> Pool:
    settings = SelectSettings(method=method, **{k: more.pop(k) for k in ("aggregate", "agreement") if k in more})
    return Pool(tuple(candidates), line(4) if footprints is None else footprints, WIDTH, HEIGHT, settings, **more)


def head(coordinate: str, layer: int = 0, number: int = 0, mu: float = 0.0, sigma: float = 1.0) -> ProfiledHead:
    return ProfiledHead(coordinate=coordinate, layer=layer, head=number, mu=mu, sigma=sigma, auroc=0.7)


def one_head_each() -> tuple[ProfiledHead, ...]:
    return tuple(head(name) for name in COORDINATES)


def profile(heads: Sequence[ProfiledHead], tokens: str = "finest_view") -> HeadProfile:
    return HeadProfile(
        model="0" * 64, transformers="5.23.0", dtype="float32", tokens=tokens, prompt_sha256="1" * 64,
        calibrated_on="made by hand", date="2026-11-21", heads=tuple(heads),
    )  # fmt: skip


def planted_query(image: str, candidates: int, random: torch.Generator) -> LabelledQuery:
    """Planted heads put more of their attention on one token the higher the IoU; the others as much as they like.

    Half of the candidates miss altogether. How closely all the others look differs by candidate, and all heads by picture.
    """
    iou = torch.rand(candidates, generator=random)
    iou[torch.rand(candidates, generator=random) < 0.5] = 0
    shape = (candidates, len(COORDINATES), len(LAYERS), HEADS)
    closeness = 0.4 * torch.rand(shape, generator=random) + 0.3 * torch.rand(candidates, 1, 1, 1, generator=random)
    for c, name in enumerate(COORDINATES):
        for layer, number in PLANTED[name]:
            closeness[:, c, layer, number] = 0.5 * iou + 0.2 * torch.rand(candidates, generator=random)
    closeness = closeness + 0.25 * torch.rand((), generator=random)
    spread = torch.rand(*shape, ROWS * COLUMNS, generator=random)
    peak = torch.nn.functional.one_hot(torch.randint(ROWS * COLUMNS, shape, generator=random), ROWS * COLUMNS)
    weights = closeness[..., None] * peak + (1 - closeness[..., None]) * spread / spread.sum(-1, keepdim=True)
    mass = 0.1 + 0.2 * torch.rand((*shape, 1), generator=random)
    prints = grid_footprints((0, 0, WIDTH, HEIGHT), ROWS, COLUMNS, 0)
    return LabelledQuery(image, prints, WIDTH, HEIGHT, mass * weights, iou)


def planted_queries(count: int, candidates: int = 8, seed: int = 0) -> list[LabelledQuery]:
    """Two queries to an image."""
    random = torch.Generator().manual_seed(seed)
    return [planted_query(f"image {k // 2}", candidates, random) for k in range(count)]
