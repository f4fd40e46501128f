"""What calibration learned about one model revision: the heads ACS reads, and how they behave.

Layers and heads are 0-based; heads count query heads. Entropies are normalised (divided by the logarithm of the number
of visual tokens), so that they travel between picture sizes.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Coordinate = Literal["x0", "y0", "x1", "y1"]
COORDINATES: tuple[Coordinate, ...] = ("x0", "y0", "x1", "y1")


class ProfiledHead(BaseModel):
    """A head that looks more concentrated while it writes a good box. `mu`, `sigma` of its normalised entropy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coordinate: Coordinate
    layer: Annotated[int, Field(ge=0)]
    head: Annotated[int, Field(ge=0)]
    mu: float
    sigma: Annotated[float, Field(gt=0)]
    auroc: Annotated[float, Field(ge=0, le=1)]


class JointScore(BaseModel):
    """How much each of four costs counts in ACS-Free's joint score, none below 0.

    `entropy`: mean z-score of the heads' entropy. `surprise`: nats by which attention misses the box, minus the logarithm of
    its share inside, mean over the pointing heads. `likelihood`: minus the digits' mean log-probability. `agreement`: minus
    the mean IoU with the other candidates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entropy: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    surprise: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    likelihood: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    agreement: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class HeadProfile(BaseModel):
    """The ACS profile of one model revision (ACS section 6, step 5). `model` names weights by their sha256.

    `pointing` are heads whose attention lies inside good boxes; their `mu`, `sigma` and `auroc` are those of the surprise of
    `joint`, which is this project's own and absent from profiles of the published form.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    transformers: str
    dtype: str
    rows: Literal["prediction"] = "prediction"
    tokens: Literal["finest_view", "all"] = "finest_view"
    prompt_sha256: str
    calibrated_on: str
    date: str
    heads: tuple[ProfiledHead, ...]
    pointing: tuple[ProfiledHead, ...] = ()
    joint: JointScore | None = None
    regressor_layers: tuple[int, ...] = ()

    @property
    def head_layers(self) -> tuple[int, ...]:
        """Every layer with a profiled head, ascending."""
        return tuple(sorted({head.layer for head in (*self.heads, *self.pointing)}))

    @property
    def layers(self) -> tuple[int, ...]:
        """Every layer that any selector of this profile reads, ascending."""
        return tuple(sorted({*self.head_layers, *self.regressor_layers}))
