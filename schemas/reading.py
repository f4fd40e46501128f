"""Settings of `ocr`: how a page is cut, read, put together and put in order."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.model import Settings

Task = Literal["answer", "ocr", "label"]  # what a run does with a picture; the command says so


class ReadingSettings(Settings):
    """Tiles at reading scale, their lines merged, the least sure ones read again, all of them in reading order."""

    scales: Annotated[tuple[Annotated[float, Field(gt=0, le=8)], ...], Field(min_length=1, max_length=4)] = Field(
        (1.0,), description="1 reads at the family's own scale; 2 in tiles of half the side, for small print; several are merged"
    )
    overlap: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.2,
        description="share of a tile's side that neighbours have in common at least; any line lower than that is whole in one",
    )
    max_tiles: Annotated[int, Field(ge=1, le=1024)] = Field(
        64, description="most tiles of a page at one scale; a larger page is read in larger tiles, shrunk to the model's input"
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=16384)] = Field(
        2048, description="longest text of one tile in tokens, where the model writes it; what is cut off is read in quarters"
    )
    merge_iou: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="overlap from which two readings of like text are one line; boxes of lines below each other hardly touch"
    )
    text_agreement: Annotated[float, Field(ge=0, le=1)] = Field(
        0.6,
        description="share of characters from which two texts are alike: well above chance, well below what two readings lose",
    )
    reread_below: Annotated[float, Field(ge=0, le=1)] = Field(
        0.8,
        description="lines less sure than this are cut out, enlarged and read again: at 0.8, one character in five is a guess",
    )
    max_rereads: Annotated[int, Field(ge=0, le=10_000)] = Field(
        32, description="most lines of a page to read again, the least sure first; 0 = none. It bounds what a bad page may cost"
    )
    min_confidence: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="lines less sure than this are dropped: specks, whose every second letter is a guess; 0 keeps all",
    )
    columns: bool = Field(
        True, description="read columns of text one after the other; false reads straight across, for tables and receipts alone"
    )
    orientation: Literal["auto", "as_is"] = Field(
        "auto",
        description="auto tries pages that are read with doubt in all four quarter turns, where the model places lines itself, "
        "and reads them in the one that is clearly surer; as_is reads every page as its picture lies",
    )
