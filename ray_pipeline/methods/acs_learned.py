"""CHOOSE by a learned reading of attention (ACS-Learned, section 5): the highest predicted IoU wins.

AIR-S, the published form, sees the attention maps that wrote a box, never pixels or the box itself, laid over the picture by
footprints, so it works for any family. `box_regressor.py` holds a form that is also told the box.
Legend: B batch, K candidates, C four coordinates, L layers, H heads, N = L x H channels, T visual tokens, V those that
count, Y X cells of a square grid, G = Y x X.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.geometry.raster import rasterise
from ray_pipeline.methods.agreement import fallback, preferred
from ray_pipeline.methods.candidates import Candidate
from ray_pipeline.methods.entropy import LEAST_MASS, kept_tokens, renormalised, shares_entropies
from ray_pipeline.methods.pool import Choice, Pool, TokenView, told
from schemas.profile import COORDINATES

METADATA = "air-s 1"  # one entry of JSON: several would be written in an order of their own each time
GRID = 24
WIDEST = 64  # channels behind the stem for models of many heads; fewer heads carry no more than themselves
GROUPS = 8
TOKENS_PER_RASTER = 64  # painted one by one side by side: all at once would cost the square of their number


def acs_learned(pool: Pool) -> Choice:
    """The highest predicted IoU among the candidates whose attention is readable, ties as everywhere.

    Where fewer than two of several can be read, the medoid stands in, flagged.

    Raises:
        ValueError: no regressor, or one of other layers or heads than were read.
    """
    regressor = pool.regressor
    if regressor is None:
        raise ValueError("acs_learned needs a regressor of this model, but there is none; calibrate this model first")
    if missing := sorted(set(regressor.layers) - set(pool.layers)):
        raise ValueError(f"the regressor reads layers {missing} too, but only {pool.layers} were read")
    readable = sum(candidate.readable for candidate in pool.candidates)
    if readable < min(2, len(pool.candidates)):
        return fallback(pool, f"attention of {readable} of {len(pool.candidates)} candidates is readable")
    own = [pool.layers.index(layer) for layer in regressor.layers]
    members = [
        replace(candidate, weights_CLHT=None if candidate.weights_CLHT is None else candidate.weights_CLHT[:, own])
        for candidate in pool.candidates
    ]
    predicted = regressor.rate(members, pool.footprints, pool.width, pool.height).double()
    if not predicted.isfinite().any():
        return fallback(pool, "the regressor predicts no number")
    place = preferred(pool.candidates, (-predicted).tolist())
    return pool.pick(place, f"highest predicted IoU, {float(predicted[place]):.3f}", predicted=told(predicted))


def token_cells(footprints: Footprints, kept_T: Tensor, width: int, height: int, grid: int) -> Tensor:
    """Which share of each token kept falls on which cell of the picture, (V, G) float32; rows sum to 1.

    A row is 0 where the token lies beside the picture.
    """
    rows = [torch.zeros(0, grid * grid)]
    for few in kept_T.nonzero()[:, 0].split(TOKENS_PER_RASTER):
        prints = Footprints(footprints.boxes_T4_px[few], footprints.view_T[few], footprints.valid_T[few])
        maps = rasterise(torch.eye(len(few)), prints, width, height, grid, grid)
        rows.append((maps.deposit_YX * maps.cell_area_px).flatten(1).float())
    return torch.cat(rows)


def features(weights_CLHT: Tensor, kept_T: Tensor, cells_VG: Tensor) -> tuple[Tensor, Tensor]:
    """What AIR-S sees of a candidate: maps (C, N, Y, X) and scalars (C, N, 2), float32, differentiable.

    A map is the renormalised attention resampled to the grid with its mass kept, then log1p(cells x share): ln 2 everywhere
    where a head looks everywhere. The scalars are the normalised entropy and the logarithm of the image mass.

    Raises:
        ValueError: what `entropy.renormalised` refuses.
    """
    shares, mass = renormalised(weights_CLHT.flatten(1, 2), kept_T)
    cells = cells_VG.shape[1]
    maps = torch.log1p(cells * (shares.float() @ cells_VG))
    scalars = torch.stack([shares_entropies(shares, mass).normalised, mass.clamp(min=LEAST_MASS).log()], -1)
    side = math.isqrt(cells)
    return maps.unflatten(-1, (side, side)), scalars.float()


class AirS(nn.Module):
    """The regressor: a 1x1 stem over heads shared by the coordinates, three strided blocks, scalars, and a small head.

    About 0.9 M parameters for 17 layers of 28 heads. `scalar_mean` and `scalar_spread` (C, N, 2) are those of its training
    set. `tokens` tells which view's tokens it was trained on.

    Raises:
        ValueError: no layers or heads, a layer twice, or a grid below 8 cells a side (three halvings).
    """

    scalar_mean: Tensor
    scalar_spread: Tensor

    def __init__(self, layers: Sequence[int], heads: int, grid: int = GRID, tokens: TokenView = "finest_view") -> None:
        if not layers or len(set(layers)) != len(layers) or heads < 1 or grid < 8:
            raise ValueError(f"layers {tuple(layers)} of {heads} heads on a grid of {grid}, expected distinct ones, 1 and 8")
        super().__init__()
        self.layers, self.heads, self.grid, self.tokens = tuple(layers), heads, grid, tokens
        channels = len(layers) * heads
        width = min(WIDEST, GROUPS * math.ceil(channels / GROUPS))
        self.stem = nn.Conv2d(channels, width, 1)
        self.coordinate = nn.Parameter(0.02 * torch.randn(len(COORDINATES), width))
        self.blocks = nn.Sequential(
            _block(len(COORDINATES) * width, 2 * width), _block(2 * width, 2 * width), _block(2 * width, 2 * width)
        )
        self.scalars = nn.Linear(len(COORDINATES) * channels * 2, width)
        self.head = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, 1))
        self.register_buffer("scalar_mean", torch.zeros(len(COORDINATES), channels, 2))
        self.register_buffer("scalar_spread", torch.ones(len(COORDINATES), channels, 2))

    def forward(self, maps_BCNYX: Tensor, scalars_BCN2: Tensor, kept_BN: Tensor | None = None) -> Tensor:
        """Expected IoU (B,). `kept_BN` scales the channels: 0 where one is dropped in training."""
        scalars = (scalars_BCN2 - self.scalar_mean) / self.scalar_spread
        maps = maps_BCNYX
        if kept_BN is not None:
            maps, scalars = maps * kept_BN[:, None, :, None, None], scalars * kept_BN[:, None, :, None]
        stems = self.stem(maps.flatten(0, 1)).unflatten(0, maps.shape[:2]) + self.coordinate[:, :, None, None]
        pooled = self.blocks(stems.flatten(1, 2)).mean((2, 3))
        read: Tensor = self.head(torch.cat([pooled, self.scalars(scalars.flatten(1))], 1))
        return read[:, 0].sigmoid()

    def rate(self, candidates: Sequence[Candidate], footprints: Footprints, width: int, height: int) -> Tensor:
        """`predict` for the candidates that can be read, NaN for the others, (K,)."""
        places = [place for place, candidate in enumerate(candidates) if candidate.readable]
        weights = [found for place in places if (found := candidates[place].weights_CLHT) is not None]
        predicted = torch.full((len(candidates),), math.nan)
        if weights:
            predicted[places] = self.predict(weights, footprints, width, height)
        return predicted

    @torch.no_grad()
    def predict(self, weights: Sequence[Tensor], footprints: Footprints, width: int, height: int) -> Tensor:
        """Expected IoU of K candidates of one picture, (K,), from their attention (C, L, H, T) at `layers`.

        Raises:
            ValueError: attention of another number of layers or heads.
        """
        for one in weights:
            if tuple(one.shape[:3]) != (len(COORDINATES), len(self.layers), self.heads):
                expected = (len(COORDINATES), len(self.layers), self.heads)
                raise ValueError(f"attention of shape {tuple(one.shape[:3])}, expected {expected}: coordinates, layers, heads")
        kept_T = kept_tokens(footprints, self.tokens)
        cells_VG = token_cells(footprints, kept_T, width, height, self.grid)
        seen = [features(one, kept_T, cells_VG) for one in weights]
        device = self.scalar_mean.device
        maps, scalars = (torch.stack(parts).to(device) for parts in zip(*seen, strict=True))
        predicted: Tensor = self(maps, scalars)
        return predicted.cpu()

    def to_bytes(self) -> bytes:
        """A safetensors file: weights, and what they belong to in its metadata."""
        about = dict(layers=list(self.layers), heads=self.heads, grid=self.grid, tokens=self.tokens)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        return save(tensors, {METADATA: json.dumps(about)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "AirS":
        """The inverse of `to_bytes`.

        Raises:
            ValueError: no safetensors file, one of another kind, or weights that do not fit its metadata.
        """
        try:
            tensors = load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        except SafetensorError as error:
            raise ValueError(f"regressor: not a safetensors file ({error})") from error
        about = json.loads(header.get(METADATA, "{}"))
        if sorted(about) != ["grid", "heads", "layers", "tokens"]:
            raise ValueError(f"regressor: metadata {header}, expected grid, heads, layers and tokens under {METADATA!r}")
        regressor = cls(**about)
        try:
            regressor.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"regressor: weights do not fit {about} ({error})") from error
        return regressor.eval()


def _block(wide: int, narrow: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, narrow, 3, stride=2, padding=1), nn.GroupNorm(GROUPS, narrow), nn.GELU())
