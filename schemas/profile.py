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


class HeadProfile(BaseModel):
    """The ACS profile of one model revision (ACS section 6, step 5). `model` names weights by their sha256."""

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
    regressor_layers: tuple[int, ...] = ()

    @property
    def layers(self) -> tuple[int, ...]:
        """Every layer that any selector of this profile reads, ascending."""
        return tuple(sorted({head.layer for head in self.heads} | set(self.regressor_layers)))
