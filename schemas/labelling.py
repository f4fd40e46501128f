"""Settings of `label`: what is looked for, by reading or by pointing, and from when on it counts as found."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.model import Settings

MOST_PHRASES = 1000  # of one row, and of a vocabulary
LONGEST_PHRASE = 1000  # characters

Phrase = Annotated[str, Field(min_length=1, max_length=LONGEST_PHRASE, pattern=r"\S")]


class LabelSettings(Settings):
    """A phrase is looked for in what is read on the picture, or the model is asked where it is."""

    find: Literal["auto", "read", "locate"] = Field(
        "auto",
        description="`read` looks for a phrase in the text read, `locate` asks the model where it is, `auto` asks for what it "
        "has not read, as far as the model can do either",
    )
    phrases: Annotated[tuple[Phrase, ...], Field(max_length=MOST_PHRASES)] = Field(
        (), description="vocabulary for rows without phrases of their own"
    )
    similarity: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8,
        description="share of a phrase's characters that must have been read where it does not stand there word for word; at "
        "0.8 one in five may be wrong, never a digit for another; 1 = only word for word, case and white space aside",
    )
    min_confidence: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="what is less sure than this counts as not there; null = 0.5, and 0 for `locate`, where every phrase gets "
        "the box that the model gives: how sure it is of a box says little about whether the thing is there at all",
    )

    @property
    def least_confidence(self) -> float:
        """`min_confidence`, resolved."""
        if self.min_confidence is not None:
            return self.min_confidence
        return 0.0 if self.find == "locate" else 0.5
