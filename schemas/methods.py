"""Settings of the methods: FOCUS (where to zoom) and CHOOSE (which candidate)."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.model import Settings


class RefineSettings(Settings):
    """FOCUS: find the important region by attention, cut it from the full-resolution picture, answer again."""

    method: Literal["none", "rel_att"] = Field("rel_att", description="`none` answers from the picture as shown")
    layer: Annotated[int, Field(ge=0)] | None = Field(
        None, description="decoder layer (0-based) whose attention is read; null = the family's profile for this model"
    )
    base_window_px: Annotated[float, Field(gt=0)] | None = Field(
        None, description="smallest crop side in picture pixels; null = the family's rule"
    )
    gate: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="do not zoom when the first answer's confidence is at least this; null = the family's default"
    )
    first_answer: bool = Field(
        True, description="also answer before zooming: gives the baseline columns, the gate and the choice of the surer"
    )
    keep: Literal["surer", "refined"] = Field(
        "surer", description="which answer to return: the surer of the two, or always the zoomed one"
    )


class SelectSettings(Settings):
    """CHOOSE: which of the model's candidates becomes the answer."""

    method: Literal["greedy"] = Field("greedy", description="the most probable token at every step")
