"""Settings of `label`: what is looked for, how, from when on it counts as found, and what is asked about it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from schemas.model import Settings

MOST_PHRASES = 1000  # of one row, and of a vocabulary
LONGEST_PHRASE = 1000  # characters

MOST_ATTRIBUTES = 16
LONGEST_NAME = 100  # characters
TAKEN_NAMES = ("kind", "text")  # what formats say of a box under these names, beside its attributes
ATTRIBUTE = "attribute"  # kind of a region that says of the box before it what its label asks for


def _in_order(attributes: dict[str, str]) -> dict[str, str]:
    """By name: a mapping's order gets lost on its way through files, and nothing may depend on it."""
    for name in attributes:
        if name in TAKEN_NAMES or not name.isprintable():
            raise ValueError(f"name {name!r}; expected printable characters, and none of {', '.join(TAKEN_NAMES)}")
    return dict(sorted(attributes.items()))


Phrase = Annotated[str, Field(min_length=1, max_length=LONGEST_PHRASE, pattern=r"\S")]
AttributeName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, pattern=r"^\S(.*\S)?$")]


class LabelSettings(Settings):
    """A phrase is looked for in what is read on the picture, or the model is asked where it is, and then what is there."""

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
    attributes: Annotated[dict[AttributeName, Phrase], Field(max_length=MOST_ATTRIBUTES), AfterValidator(_in_order)] = Field(
        {},
        description="name of an attribute: question about every box found, asked word for word on a view of the box behind the "
        "picture; {phrase} in it stands for the box's phrase. An answer takes prompt.max_new_tokens at most",
    )
    max_attributed: Annotated[int, Field(ge=1, le=10_000)] = Field(
        100, description="most boxes of a picture to ask about, the surest first; each costs a view and an answer per attribute"
    )

    @property
    def least_confidence(self) -> float:
        """`min_confidence`, resolved."""
        if self.min_confidence is not None:
            return self.min_confidence
        return 0.0 if self.find == "locate" else 0.5
