"""Settings of the model and of how a picture is shown to it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of all settings: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(Settings):
    """Which model answers, and on what."""

    name: str = Field(
        "embedded",
        description="`embedded`, `documents`, a local folder with config.json and safetensors, or a hub model owner/name",
    )
    revision: str | None = Field(None, description="commit that a hub model is pinned to; recorded with the results")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="precision of weights and activations")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes a GPU where the actor has one")
    engine: Literal["torch"] = Field("torch", description="what runs the vision tower")
    threads: Annotated[int, Field(ge=1, le=256)] = Field(1, description="CPU threads of one actor")


class ViewSettings(Settings):
    """LOOK: the whole picture, and a grid of overlapping crops at full resolution (MC-LLaVA)."""

    max_crops: Annotated[int, Field(ge=0, le=400)] = Field(0, description="most crops besides the whole picture; 0 = none")
    num_tokens: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        None, description="visual tokens the decoder sees; null = the family's own default"
    )
    policy: Literal["strict", "official"] = Field(
        "strict", description="`strict` never exceeds max_crops; `official` reproduces the published grid, cap and all"
    )
    token_split: Literal["official", "even"] = Field("official", description="who gets the tokens left over")
    fit: Literal["pad", "centre_crop", "squash"] | None = Field(
        None, description="how a picture fills a square input; null = the family's rule. centre_crop hides its ends, as published"
    )
    resolution_px: Annotated[int, Field(ge=28, le=8192)] | None = Field(
        None, description="side of the square whose area a dynamic input may have (336, 512, 1024); null = the family's limits"
    )
    zoom_px: Annotated[int, Field(ge=0, le=8192)] | None = Field(
        None, description="enlarge a zoomed crop to the area of this square; 0 = never, as published; null = the family's rule"
    )


class PromptSettings(Settings):
    """Texts around a question. null = the family's own, word for word as published."""

    template: Literal["short", "plain", "closely", "locate_first", "characters", "locate"] = Field(
        "short",
        description="`short` asks for a word or phrase, `plain` adds nothing; for small things `closely` says where to look, "
        "`locate_first` names the steps, `characters` asks to spell; `locate` asks for a box in the family's notation",
    )
    question: str | None = Field(None, description="a template of your own with {question}, in place of the named one")
    generic: str = Field(
        "Write a general description of the image.", description="the prompt rel-att divides the question's attention by"
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = Field(40, description="longest answer in tokens")
