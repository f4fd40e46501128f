"""ACS-Learned beyond the published form: expected IoU from where attention lies to the box, likelihood and agreement.

AIR-S (`acs_learned.py`) sees maps alone, as published; a small model's one-token coordinates leave it little to tell
candidates of one question apart by. AIR-B is told the box, and how the answers spread. Trained by `box_training.py`.
Legend: B candidates of any questions, K those of one, F features, L layers, H heads.
"""

import json
from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.methods.acs_learned import METADATA as AIR_S
from ray_pipeline.methods.acs_learned import AirS
from ray_pipeline.methods.box_features import map_features, pool_features, width_of_features
from ray_pipeline.methods.candidates import Candidate, boxes_of
from ray_pipeline.methods.entropy import kept_tokens
from ray_pipeline.methods.pool import IouRegressor, TokenView
from schemas.profile import COORDINATES

METADATA = "air-b 1"
HIDDEN = 32
FURTHEST = 5.0  # standard deviations of the training set


class AirB(nn.Module):
    """Two hidden layers over standardised features. `mean_F` and `spread_F` are those of its training set.

    Raises:
        ValueError: no layers or heads, or a layer twice.
    """

    mean_F: Tensor
    spread_F: Tensor

    def __init__(self, layers: Sequence[int], heads: int, tokens: TokenView = "finest_view") -> None:
        if not layers or len(set(layers)) != len(layers) or heads < 1:
            raise ValueError(f"layers {tuple(layers)} of {heads} heads, expected distinct ones and at least 1")
        super().__init__()
        self.layers, self.heads, self.tokens = tuple(layers), heads, tokens
        width = width_of_features(len(layers), heads, len(COORDINATES))
        self.register_buffer("mean_F", torch.zeros(width))
        self.register_buffer("spread_F", torch.ones(width))
        self.read = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.GELU(), nn.Dropout(0.1), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1)
        )

    def standardised(self, features_BF: Tensor) -> Tensor:
        """Features in standard deviations of the training questions from their mean, cut at `FURTHEST`."""
        return ((features_BF - self.mean_F) / self.spread_F).clamp(-FURTHEST, FURTHEST)

    def forward(self, standardised_BF: Tensor) -> Tensor:
        """The logit of the expected IoU, (B,)."""
        read: Tensor = self.read(standardised_BF)
        return read[:, 0]

    @torch.no_grad()
    def rate(self, candidates: Sequence[Candidate], footprints: Footprints, width: int, height: int) -> Tensor:
        """Expected IoU of all candidates of one question, (K,), NaN where attention cannot be read.

        Raises:
            ValueError: attention of another number of layers or heads.
        """
        features_KF = self.features(candidates, footprints, width, height)
        expected: Tensor = self(self.standardised(features_KF)).sigmoid()
        return expected.masked_fill(~features_KF.isfinite().all(1), torch.nan)

    def features(self, candidates: Sequence[Candidate], footprints: Footprints, width: int, height: int) -> Tensor:
        """All that is known of each candidate, (K, F) float32; NaN where its attention cannot be read."""
        kept_T = kept_tokens(footprints, self.tokens)
        readable = [place for place, candidate in enumerate(candidates) if candidate.readable]
        weights = [found for place in readable if (found := candidates[place].weights_CLHT) is not None]
        for one in weights:
            if tuple(one.shape[:3]) != (expected := (len(COORDINATES), len(self.layers), self.heads)):
                raise ValueError(f"attention of shape {tuple(one.shape[:3])}, expected {expected}: coordinates, layers, heads")
        known_KF = pool_features(candidates, footprints, kept_T, width, height)
        maps_KF = torch.full((len(candidates), len(self.mean_F) - known_KF.shape[1]), torch.nan)
        if weights:
            boxes_K4 = boxes_of(candidates)[readable]
            maps_KF[readable] = map_features(torch.stack(weights), boxes_K4, footprints, kept_T, width, height).flatten(1)
        return torch.cat([maps_KF, known_KF], 1)

    def to_bytes(self) -> bytes:
        """A safetensors file: weights as halves, and what they belong to in its metadata."""
        about = dict(layers=list(self.layers), heads=self.heads, tokens=self.tokens)
        return save(
            {name: tensor.detach().cpu().half().contiguous() for name, tensor in self.state_dict().items()},
            {METADATA: json.dumps(about)},
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "AirB":
        """The inverse of `to_bytes`, up to rounding to halves.

        Raises:
            ValueError: no safetensors file, one of another kind, or weights that do not fit its metadata.
        """
        about = json.loads(_metadata(data).get(METADATA, "{}"))
        if sorted(about) != ["heads", "layers", "tokens"]:
            raise ValueError(f"regressor: metadata {_metadata(data)}, expected heads, layers and tokens under {METADATA!r}")
        regressor = cls(**about)
        try:
            regressor.load_state_dict({name: tensor.float() for name, tensor in load(data).items()})
        except RuntimeError as error:
            raise ValueError(f"regressor: weights do not fit {about} ({error})") from error
        return regressor.eval()


def read_regressor(data: bytes) -> IouRegressor:
    """The regressor in a file, of whichever kind it says it is.

    Raises:
        ValueError: what either kind refuses.
    """
    return AirS.from_bytes(data) if AIR_S in _metadata(data) else AirB.from_bytes(data)


def _metadata(data: bytes) -> dict[str, str]:
    try:
        load(data)
    except SafetensorError as error:
        raise ValueError(f"regressor: not a safetensors file ({error})") from error
    header: dict[str, str] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    return header
