"""What calibration learned about one model revision: the layer to look at, the heads ACS reads and how they behave, what
confidences are worth, and which settings serve best.

Layers and heads are 0-based; heads count query heads. Entropies are normalised (divided by the logarithm of the number
of visual tokens), so that they travel between picture sizes.
"""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, model_validator

from schemas.methods import FusionSettings, RefineSettings, SelectSettings
from schemas.model import PromptSettings, ViewSettings

Coordinate = Literal["x0", "y0", "x1", "y1"]
COORDINATES: tuple[Coordinate, ...] = ("x0", "y0", "x1", "y1")


class ProfiledHead(BaseModel):
    """A head that looks more concentrated while it writes a good box. `mu`, `sigma` of its normalised entropy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coordinate: Coordinate
    layer: Annotated[int, Field(ge=0)]
    head: Annotated[int, Field(ge=0)]
    mu: FiniteFloat
    sigma: Annotated[FiniteFloat, Field(gt=0)]
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


Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sure = Literal["answer", "box", "baseline"]


class FocusLayer(BaseModel):
    """The decoder layer whose importance map is most concentrated in the true boxes of `rows` questions.

    `ratio`: geometric mean of the map's share inside the box over the box's share of the picture, 1 is chance. `hit`: share
    of maps whose largest cell has its middle in the box.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: Annotated[int, Field(ge=0)]
    ratio: Annotated[FiniteFloat, Field(ge=0)]
    hit: Share
    rows: Annotated[int, Field(ge=1)]


class RegressorFile(BaseModel):
    """The regressor beside the profile, by its file's digest, and its quality on pictures that nothing was learned from.

    `within_query` is the mean Spearman correlation among the candidates of one question.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Sha256
    queries: Annotated[int, Field(ge=1)]
    held_out: Annotated[int, Field(ge=1)]
    pearson: FiniteFloat
    within_query: FiniteFloat


class ConfidenceMap(BaseModel):
    """What a confidence is worth: the share of right answers, rising with it, read off between knots in straight lines.

    `rows` it was fitted on. `before` and `after` are expected calibration errors (10 bins of equal width) on `held_out` rows
    of other pictures.

    Raises:
        ValueError: knots that do not rise, shares that fall, or another number of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    knots: Annotated[tuple[Share, ...], Field(min_length=1, max_length=100_000)]
    shares: Annotated[tuple[Share, ...], Field(min_length=1, max_length=100_000)]
    rows: Annotated[int, Field(ge=1)]
    held_out: Annotated[int, Field(ge=1)]
    before: Share
    after: Share

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.knots) != len(self.shares):
            raise ValueError(f"{len(self.knots)} knots and {len(self.shares)} shares, expected equally many")
        if any(low >= high for low, high in zip(self.knots, self.knots[1:], strict=False)):
            raise ValueError("knots that do not rise, expected each above the one before")
        if any(low > high for low, high in zip(self.shares, self.shares[1:], strict=False)):
            raise ValueError("shares that fall, expected none below the one before")
        return self

    def of(self, confidence: float) -> float:
        """The calibrated confidence, in 0..1."""
        return float(np.clip(np.interp(confidence, self.knots, self.shares), 0.0, 1.0))


class Strategy(BaseModel):
    """Settings, by dotted name, that did best on `rows` rows within the cost allowed. Brackets of 95 % around `accuracy`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: dict[str, JsonValue]
    rows: Annotated[int, Field(ge=1)]
    accuracy: Share
    low: Share
    high: Share
    row_s: Annotated[FiniteFloat, Field(ge=0)]
    cost_per_row_s: Annotated[FiniteFloat, Field(gt=0)] | None


class FittedUnder(BaseModel):
    """The settings that confidences depend on, beside the model: maps say nothing about answers found in other ways."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    views: ViewSettings
    refine: RefineSettings
    select: SelectSettings
    fusion: FusionSettings
    prompt: PromptSettings


class Profile(BaseModel):
    """All of it, for the weights whose digest is `model`. What could not be learned is None or absent, and `left_out` says why.

    `focus`, `heads` and `regressor` hold whatever the settings; `confidences` belong to the settings `under`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    model: Sha256
    manifest_sha256: Sha256
    date: str
    focus: FocusLayer | None = None
    heads: HeadProfile | None = None
    regressor: RegressorFile | None = None
    strategy: Strategy | None = None
    under: FittedUnder
    confidences: dict[Sure, ConfidenceMap] = {}
    left_out: dict[str, str] = {}

    @model_validator(mode="after")
    def _is_of_one_model(self) -> Self:
        if self.heads is not None and self.heads.model != self.model:
            raise ValueError(f"heads of weights {self.heads.model[:12]}, expected {self.model[:12]} as the profile")
        return self
