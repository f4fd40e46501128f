"""Training the Attention-IoU regressor on labelled candidates (ACS section 5), and how well it selects.

Deterministic by seed on one kind of device. Legend: K candidates of a query, C coordinates, N channels, Y X cells, B batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_pipeline.methods.acs_learned import AirS, features, token_cells
from ray_pipeline.methods.entropy import kept_tokens
from ray_pipeline.methods.labelled_queries import LabelledQuery, image_parts
from ray_pipeline.methods.pool import TokenView

IOU_BINS = (0.0, 0.3, 0.6)  # 0, (0, .3], (.3, .6], (.6, 1]
CORRECT = 0.5  # IoU from which a box counts as right
LEAST_SPREAD = 1e-3  # of a scalar feature: below this it is a constant


@dataclass(frozen=True)
class FeatureQuery:
    """Features of the candidates of one query, and their IoU with what was asked for; maps may be halves."""

    image: str
    maps_KCNYX: Tensor
    scalars_KCN2: Tensor
    iou_K: Tensor


@dataclass(frozen=True)
class TrainingSettings:
    """As proposed in section 5. Warm-up is at most a tenth of the steps; `patience` in epochs without improvement."""

    epochs: int = 15
    batch: int = 256
    rate: float = 1e-3
    decay: float = 1e-2
    warmup_steps: int = 500
    dropout: float = 0.1
    validation_share: float = 0.2
    patience: int = 5
    device: str = "cpu"


@dataclass(frozen=True)
class Quality:
    """Predicted against true IoU over all candidates, within queries (what selection uses), and of the boxes selected.

    `within_query` is the mean Spearman correlation over queries whose IoUs differ; NaN where nothing differs.
    `correct` is the share of queries whose selected box has IoU 0.5 or more, `mean_iou` the mean IoU of those boxes.
    """

    pearson: float
    spearman: float
    within_query: float
    correct: float
    mean_iou: float


@dataclass(frozen=True)
class Trained:
    """The weights of the best epoch (from 1), and their quality on images that were not trained on."""

    regressor: AirS
    epoch: int
    validation: Quality


def feature_query(query: LabelledQuery, grid: int, tokens: TokenView, dtype: torch.dtype = torch.float16) -> FeatureQuery:
    """Attention laid over the picture, candidate by candidate; candidates with NaN in their attention are left out."""
    kept_T = kept_tokens(query.footprints, tokens)
    cells_VG = token_cells(query.footprints, kept_T, query.width, query.height, grid)
    rows = query.readable()
    seen = [features(weights.float(), kept_T, cells_VG) for weights in rows.weights_KCLHT]
    maps, scalars = (torch.stack(parts) for parts in zip(*seen, strict=True))
    return FeatureQuery(query.image, maps.to(dtype), scalars, rows.iou_K)


def train_regressor(
    queries: Sequence[FeatureQuery],
    layers: Sequence[int],
    heads: int,
    seed: int,
    tokens: TokenView = "finest_view",
    settings: TrainingSettings = TrainingSettings(),
) -> Trained:
    """Mean squared error on all images but a share, stopped where selection within held-out queries is best.

    `queries` may be any sequence, also one that reads from disk.

    Raises:
        ValueError: one image, or held-out queries in which no two candidates differ in IoU.
    """
    training, validation = _split(queries, settings.validation_share, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        regressor = AirS(layers, heads, queries[0].maps_KCNYX.shape[-1], tokens)
    _standardise(regressor, training)
    regressor.to(settings.device)
    course = _Course(regressor, training, settings, seed)
    best, kept = Trained(regressor, 0, quality([], [])), regressor.state_dict()
    for epoch in range(1, settings.epochs + 1):
        course.epoch()
        reached = quality([_predicted(regressor, query) for query in validation], [query.iou_K for query in validation])
        if not best.epoch or reached.within_query > best.validation.within_query:
            best, kept = Trained(regressor, epoch, reached), {k: v.clone() for k, v in regressor.state_dict().items()}
        elif epoch - best.epoch >= settings.patience:
            break
    regressor.load_state_dict(kept)
    regressor.to("cpu").eval()
    return best


def quality(predicted: Sequence[Tensor], iou: Sequence[Tensor]) -> Quality:
    """Of predictions (K,) per query; NaN where there is nothing to compare."""
    if not predicted:
        return Quality(math.nan, math.nan, math.nan, math.nan, math.nan)
    all_predicted, all_iou = torch.cat(list(predicted)).double(), torch.cat(list(iou)).double()
    within = [spearman(p, t) for p, t in zip(predicted, iou, strict=True) if len(t) > 1 and t.min() < t.max()]
    chosen = torch.stack([t[p.argmax()] for p, t in zip(predicted, iou, strict=True)]).double()
    return Quality(
        pearson(all_predicted, all_iou),
        spearman(all_predicted, all_iou),
        sum(within) / len(within) if within else math.nan,
        float((chosen >= CORRECT).double().mean()),
        float(chosen.mean()),
    )


def pearson(first_N: Tensor, second_N: Tensor) -> float:
    """Linear correlation; 0 where one side is constant."""
    first, second = first_N.double() - first_N.double().mean(), second_N.double() - second_N.double().mean()
    scale = float(first.norm() * second.norm())
    return float(first @ second) / scale if scale > 0 else 0.0


def spearman(first_N: Tensor, second_N: Tensor) -> float:
    """Rank correlation with mid-ranks; 0 where one side is constant."""
    return pearson(_mid_ranks(first_N), _mid_ranks(second_N))


def bin_weights(iou_N: Tensor) -> Tensor:
    """Weights (N,) with mean 1, inverse to the square root of how many fall into the same IoU bin."""
    place = torch.bucketize(iou_N, torch.tensor(IOU_BINS, dtype=iou_N.dtype))
    weights = torch.bincount(place, minlength=len(IOU_BINS) + 1).double().clamp(min=1).rsqrt()[place]
    return weights / weights.mean()


class _Course:
    """The state of training: optimiser, schedule, and the one stream of randomness behind shuffles and dropout."""

    def __init__(self, regressor: AirS, queries: Sequence[FeatureQuery], settings: TrainingSettings, seed: int) -> None:
        self.regressor, self.queries, self.settings = regressor, queries, settings
        self.members = [(q, k) for q, query in enumerate(queries) for k in range(len(query.iou_K))]
        self.iou = torch.cat([query.iou_K for query in queries]).float()
        self.weight = bin_weights(self.iou).float()
        self.random = torch.Generator().manual_seed(seed)
        self.optimiser = torch.optim.AdamW(regressor.parameters(), lr=settings.rate, weight_decay=settings.decay)
        steps = settings.epochs * math.ceil(len(self.members) / settings.batch)
        warmup = min(settings.warmup_steps, steps // 10)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: rate_share(step, warmup, steps))

    def epoch(self) -> None:
        """Every training candidate once, in random order."""
        self.regressor.train()
        for places in torch.randperm(len(self.members), generator=self.random).split(self.settings.batch):
            maps, scalars = self._batch(places.tolist())
            keep = torch.rand(len(places), maps.shape[2], generator=self.random) >= self.settings.dropout
            scale = keep.float() / (1 - self.settings.dropout)
            device = self.settings.device
            predicted = self.regressor(maps.to(device), scalars.to(device), scale.to(device))
            error = F.mse_loss(predicted, self.iou[places].to(device), reduction="none")
            self.optimiser.zero_grad()
            (error * self.weight[places].to(device)).mean().backward()
            self.optimiser.step()
            self.schedule.step()

    def _batch(self, places: list[int]) -> tuple[Tensor, Tensor]:
        members = [self.members[place] for place in places]
        maps = torch.stack([self.queries[q].maps_KCNYX[k] for q, k in members])
        return maps.float(), torch.stack([self.queries[q].scalars_KCN2[k] for q, k in members]).float()


def rate_share(step: int, warmup: int, steps: int) -> float:
    """Share of the full learning rate at a step from 0 on: rising linearly to 1, then by a cosine down to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.no_grad()
def _predicted(regressor: AirS, query: FeatureQuery) -> Tensor:
    regressor.eval()
    device = regressor.scalar_mean.device
    predicted: Tensor = regressor(query.maps_KCNYX.float().to(device), query.scalars_KCN2.float().to(device))
    return predicted.cpu()


def _split(queries: Sequence[FeatureQuery], share: float, seed: int) -> tuple[list[FeatureQuery], list[FeatureQuery]]:
    images = sorted({query.image for query in queries})
    held_out = max(1, round(share * len(images)))
    if len(images) <= held_out:
        raise ValueError(f"{len(images)} images of which {held_out} are held out, expected at least one to train on")
    parts = image_parts(images, len(images), str(seed))
    validation = [query for query in queries if parts[query.image] < held_out]
    if not any(len(query.iou_K) > 1 and query.iou_K.min() < query.iou_K.max() for query in validation):
        raise ValueError(f"in none of {len(validation)} held-out queries do candidates differ in IoU; nothing to select by")
    return [query for query in queries if parts[query.image] >= held_out], validation


def _standardise(regressor: AirS, queries: Sequence[FeatureQuery]) -> None:
    scalars = torch.cat([query.scalars_KCN2 for query in queries]).double()
    regressor.scalar_mean.copy_(scalars.mean(0))
    regressor.scalar_spread.copy_(scalars.std(0, correction=0).clamp(min=LEAST_SPREAD))


def _mid_ranks(values_N: Tensor) -> Tensor:
    _, place, count = torch.unique(values_N, return_inverse=True, return_counts=True)
    ranks: Tensor = count.cumsum(0).double() - (count.double() - 1) / 2
    return ranks[place]
