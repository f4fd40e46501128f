"""Training AIR-B: mean squared error on IoU, and a loss on the choice itself, which is what the regressor is for.

Easy questions move the squared error more than the candidates of one question do among each other. So each question's
predictions are also read as a lottery (softmax of the logits): the box it draws should be good.
Deterministic by seed. Legend: Q questions, B candidates of a batch of questions, K those of one, F features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_pipeline.methods.box_regressor import AirB
from ray_pipeline.methods.pool import TokenView
from ray_pipeline.methods.regressor_training import CORRECT, LEAST_SPREAD, rate_share


@dataclass(frozen=True)
class BoxQuery:
    """One question's readable candidates as `AirB.features` sees them (may be halves), and their IoU with the truth."""

    image: str
    features_KF: Tensor
    iou_K: Tensor


@dataclass(frozen=True)
class BoxTraining:
    """`batch` in questions. `sharpness` multiplies the logits of the lottery, `choice` is its loss's weight.

    `dropout` leaves out inputs: of many maps that say nearly the same no single one shall decide.
    """

    epochs: int = 12
    batch: int = 32
    rate: float = 2e-3
    decay: float = 1e-2
    dropout: float = 0.3
    error: float = 4.0
    choice: float = 1.0
    sharpness: float = 3.0


def train_box_regressor(
    queries: Sequence[BoxQuery],
    layers: Sequence[int],
    heads: int,
    seed: int,
    tokens: TokenView = "finest_view",
    settings: BoxTraining = BoxTraining(),
) -> AirB:
    """The regressor after the last epoch; nothing is held out.

    Raises:
        ValueError: no queries, or none with candidates.
    """
    queries = [query for query in queries if len(query.iou_K)]
    if not queries:
        raise ValueError("0 queries with candidates, expected at least 1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        regressor = AirB(layers, heads, tokens)
        _standardise(regressor, queries)
        optimiser = torch.optim.AdamW(regressor.parameters(), lr=settings.rate, weight_decay=settings.decay)
        steps = settings.epochs * math.ceil(len(queries) / settings.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_share(step, min(100, steps // 10), steps))
        regressor.train()
        for _ in range(settings.epochs):
            for places in torch.randperm(len(queries)).split(settings.batch):
                optimiser.zero_grad()
                _loss(regressor, [queries[place] for place in places.tolist()], settings).backward()
                optimiser.step()
                schedule.step()
    return regressor.eval()


def choice_loss(logits_B: Tensor, iou_B: Tensor, question_B: Tensor, sharpness: float) -> Tensor:
    """Minus what each question's lottery is expected to draw: the mean of IoU and of being right, mean over questions.

    `question_B` numbers the questions from 0 on, without a gap.
    """
    count = int(question_B.max()) + 1
    scaled_B = logits_B * sharpness
    peak_Q = torch.full((count,), -torch.inf).scatter_reduce(0, question_B, scaled_B.detach(), "amax")
    odds_B = (scaled_B - peak_Q[question_B]).exp()
    chance_B = odds_B / torch.zeros(count).index_add(0, question_B, odds_B)[question_B]
    worth_B = (iou_B + (iou_B >= CORRECT).float()) / 2
    return -(chance_B * worth_B).sum() / count


def _loss(regressor: AirB, queries: Sequence[BoxQuery], settings: BoxTraining) -> Tensor:
    seen_BF = regressor.standardised(torch.cat([query.features_KF for query in queries]).float())
    kept_BF = torch.rand_like(seen_BF) >= settings.dropout
    logits_B = regressor(seen_BF * kept_BF / (1 - settings.dropout))
    iou_B = torch.cat([query.iou_K for query in queries]).float()
    question_B = torch.arange(len(queries)).repeat_interleave(torch.tensor([len(query.iou_K) for query in queries]))
    error = F.mse_loss(logits_B.sigmoid(), iou_B)
    return settings.error * error + settings.choice * choice_loss(logits_B, iou_B, question_B, settings.sharpness)


def _standardise(regressor: AirB, queries: Sequence[BoxQuery]) -> None:
    """By running sums: all features at once in double precision would not fit beside their halves."""
    count, total_F, squares_F = 0, torch.zeros_like(regressor.mean_F).double(), torch.zeros_like(regressor.mean_F).double()
    for query in queries:
        seen_KF = query.features_KF.double()
        count, total_F, squares_F = count + len(seen_KF), total_F + seen_KF.sum(0), squares_F + seen_KF.square().sum(0)
    mean_F = total_F / count
    regressor.mean_F.copy_(mean_F)
    regressor.spread_F.copy_((squares_F / count - mean_F.square()).clamp(min=0).sqrt().clamp(min=LEAST_SPREAD))
