"""Settings of the methods: FOCUS (where to zoom), CHOOSE (which candidate) and fusion of several scales."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from schemas.model import Settings


def _upright(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ValueError("expected x0, y0, x1, y1 with 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1")
    return box


_ONE_REGION = "expected a method that looks for one region, mode 'corrected'"
UnitBox = Annotated[tuple[float, float, float, float], AfterValidator(_upright)]


class RefineSettings(Settings):
    """FOCUS: find the important region by attention, cut it from the full-resolution picture, answer again."""

    method: Literal["none", "rel_att", "grad_att", "pure_grad", "auto", "fixed"] = Field(
        "rel_att",
        description="`none` answers from the picture as shown; `auto` combines the methods' maps by their confidence; `fixed` "
        "zooms into regions_unit of every picture",
    )
    mode: Literal["corrected", "official"] = Field(
        "corrected", description="`official` reproduces the published maps and box selection defect for defect"
    )
    layer: Annotated[int, Field(ge=0)] | None = Field(
        None, description="decoder layer (0-based) whose attention is read; null = the family's profile for this model"
    )
    base_window_px: Annotated[float, Field(gt=0)] | None = Field(
        None, description="smallest crop side in picture pixels; null = the family's rule"
    )
    regions: Annotated[int, Field(ge=1, le=8)] = Field(1, description="most disjoint regions to zoom into")
    regions_unit: Annotated[tuple[UnitBox, ...], Field(max_length=8)] = Field(
        (), description="for `fixed`: boxes x0, y0, x1, y1 in shares of the picture's width and height, 0 to 1"
    )
    looks: Annotated[int, Field(ge=1, le=4)] = Field(
        1,
        description="most crops, one after the other: each further one lies around the box of the answer before, unless that "
        "is as sure as the gate asks; for models that write boxes beside their texts",
    )
    hold_answer: bool = Field(
        False,
        description="the smallest window also takes in the first answer's box with room around it: the map says where to look, "
        "the answer how large it is; for models that write boxes beside their texts",
    )
    block_px: Annotated[int, Field(ge=64)] | None = Field(
        None, description="map pictures block by block where a side is longer than this (1024 as published); null = never"
    )
    gate: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="do not zoom when the first answer's confidence is at least this, and let `auto` read no further "
        "methods once a map's is; null = the family's default, 1 = always zoom by all",
    )
    first_answer: bool = Field(
        True, description="also answer before zooming: gives the baseline columns, the gate and the choice of the surer"
    )
    keep: Literal["surer", "refined"] = Field(
        "surer", description="which answer to return: the surer of the two, or always the zoomed one"
    )
    boost: Annotated[float, Field(ge=1, le=10)] = Field(
        1.0, description="multiply attention to the chosen region's tokens by this in the refined answer; 1 = leave it"
    )

    @model_validator(mode="after")
    def _refuse_regions_without_their_method(self) -> "RefineSettings":
        if (self.method == "fixed") != bool(self.regions_unit):
            found = f"refine.method {self.method!r} with {len(self.regions_unit)} refine.regions_unit"
            raise ValueError(f"{found}; expected `fixed` with one region or more, or another method with none")
        if self.looks > 1 and self._finds_no_single_region():
            raise ValueError(f"{self.looks} refine.looks with {self._way()}; {_ONE_REGION}")
        if self.hold_answer and (not self.first_answer or self._finds_no_single_region()):
            raise ValueError(f"refine.hold_answer with {self._way()}, first_answer {self.first_answer}; {_ONE_REGION}, true")
        if self.method == "fixed" and self.mode == "official":
            raise ValueError("refine.mode 'official' with method 'fixed': nothing of it is published, expected 'corrected'")
        return self

    def _finds_no_single_region(self) -> bool:
        return self.regions > 1 or self.method in ("none", "fixed") or self.mode == "official"

    def _way(self) -> str:
        return f"method {self.method!r}, mode {self.mode!r}, {self.regions} region(s)"


class SelectSettings(Settings):
    """CHOOSE: which of several sampled candidate boxes becomes the answer."""

    method: Literal[
        "greedy", "acs_free", "acs_learned", "medoid", "cluster", "likeliest", "least_entropy", "inside_mass", "mean", "median",
        "random",
    ] = Field(
        "greedy",
        description="`acs_*` go by attention (need a profile), the others by agreement or likelihood; `greedy` samples nothing",
    )  # fmt: skip
    samples: Annotated[int, Field(ge=2, le=64)] = Field(10, description="candidates, the greedy answer among them")
    temperature: Annotated[float, Field(gt=0, le=5)] = Field(0.8, description="of the sampled candidates")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(0.95, description="nucleus of the sampled candidates")
    greedy_first: bool = Field(True, description="count the greedy answer among the candidates; false as published")
    aggregate: Literal["mean", "zscore", "rank", "joint"] | None = Field(
        None,
        description="how heads' entropies join in acs_free; `joint` also counts attention in the box, likelihood and agreement, "
        "as the profile weighs them; null = joint where the profile has weights, else zscore",
    )
    agreement: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight of agreement with the other candidates in acs_free, in standard deviations of the score"
    )
    profile: str | None = Field(None, description="profile.json of this model revision; null = the one in the model's folder")


class FusionSettings(Settings):
    """Several scales of one picture, answered side by side: boxes merged by NMS, the surest answer kept."""

    scales: tuple[Annotated[float, Field(ge=1, le=8)], ...] = Field(
        (), description="2 shows the picture as 2 x 2 overlapping crops, each at the full input; () = only as it is"
    )
    nms_iou: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="overlap above which two boxes are one")
