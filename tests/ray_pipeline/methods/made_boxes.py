"""Boxes around a planted place: one head's row, the same for all candidates of a question, peaks where the truth is."""

from functools import cache

import torch

from ray_pipeline.geometry.boxes import iou
from ray_pipeline.geometry.footprints import grid_footprints
from ray_pipeline.methods.box_regressor import AirB
from ray_pipeline.methods.box_training import BoxQuery, train_box_regressor
from ray_pipeline.methods.candidates import Candidate, boxes_of
from tests.ray_pipeline.methods.made_pools import HEIGHT, WIDTH, candidate

LAYERS, HEADS = (3, 6), 3
PRINTS = grid_footprints((0, 0, WIDTH, HEIGHT), 12, 12, 0)
POINTS = ("x0", 6, 1)  # the planted head


def planted(seed: int) -> tuple[list[Candidate], torch.Tensor]:
    """Six boxes of one size around the truth; one head's first row, the same for all, peaks where the truth is."""
    random = torch.Generator().manual_seed(seed)
    place = torch.rand(2, generator=random, dtype=torch.float64) * torch.tensor([400.0, 300.0]) + 60
    truth = torch.cat([place, place + torch.tensor([120.0, 90.0])])
    corners = truth + (torch.randn(6, 2, generator=random, dtype=torch.float64) * 60).repeat(1, 2)
    weights = torch.rand(6, 4, 2, 3, 144, generator=random)
    shared = torch.rand(2, 3, 144, generator=random)
    boxes = PRINTS.boxes_T4_px.double()
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    shared[1, 1] = (-((centre - place - torch.tensor([60.0, 45.0])) / 45).square().sum(1)).exp().float() + 1e-3
    weights[:, 0] = shared
    members = [candidate((x0, y0, x1, y1), k, -1.0, weights[k]) for k, (x0, y0, x1, y1) in enumerate(corners.tolist())]
    return members, iou(boxes_of(members), truth[None])[:, 0].float()


@cache
def box_queries() -> tuple[BoxQuery, ...]:
    untrained, found = AirB(LAYERS, HEADS), []
    for seed in range(150):
        members, ious = planted(seed)
        found.append(BoxQuery(str(seed), untrained.features(members, PRINTS, WIDTH, HEIGHT).half(), ious))
    return tuple(found)


@cache
def trained_on_boxes() -> AirB:
    return train_box_regressor(box_queries(), LAYERS, HEADS, seed=1)
