"""Views of a rendering with dense targets per patch. Numpy only.

Shapes: P patches a side (12), N things + 1. Characters are labelled at twice the horizontal resolution of the patches,
since a patch of 8 px holds two characters of barely legible text.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ray_pipeline.synthesis.render import RASTER_STEP, Box, Rendering
from ray_pipeline.synthesis.scene import COLOURS, KINDS
from ray_pipeline.synthesis.texts import TEXT_CHARACTERS

VIEW_PX, PATCHES = 96, 12
LEGIBLE_PX = 5.0  # capital height on the tower's input below which a character is not asked for
IGNORE = -100
CHARACTER_CLASS = {character: k + 1 for k, character in enumerate(TEXT_CHARACTERS)}
COLOUR_CLASS = {name: k + 1 for k, name in enumerate(sorted(COLOURS))}
KIND_CLASS = {name: k + 1 for k, name in enumerate(KINDS)}
LONGEST_INDEX = 12


@dataclass(frozen=True)
class Truth:
    """Look-up tables of a rendering: by character label and by thing label (row 0 = nothing there)."""

    character: NDArray[np.int64]
    index: NDArray[np.int64]
    line: NDArray[np.int64]
    capital_px: NDArray[np.float32]
    line_box_px: NDArray[np.float32]
    colour: NDArray[np.int64]
    kind: NDArray[np.int64]
    thing_box_px: NDArray[np.float32]


@dataclass(frozen=True)
class LabelledView:
    """One view on the tower's input size with its targets; `box_px` is its place in the picture."""

    pixels_YX3: NDArray[np.uint8]
    box_px: Box
    coordinates: tuple[float, float, float, float]  # centre x, centre y, width, height; shares of the picture
    thing_PP: NDArray[np.int64]  # thing label, 0 = none
    label_P2P: NDArray[np.int64]  # character label, legible or not
    character_P2P: NDArray[np.int64]  # class, 0 = none, IGNORE where illegible
    index_P2P: NDArray[np.int64]
    colour_PP: NDArray[np.int64]
    kind_PP: NDArray[np.int64]
    thing_box_PP4: NDArray[np.float32]  # of the view, 0..1, NaN outside things
    line_box_PP4: NDArray[np.float32]


def truth_of(rendering: Rendering) -> Truth:
    """The look-up tables of one rendering."""
    character, index, line, capital = [0], [0], [-1], [0.0]
    for k, drawn in enumerate(rendering.lines):
        word = 0
        for symbol in drawn.text:
            word = 0 if symbol == " " else word + 1
            character.append(CHARACTER_CLASS[symbol])
            index.append(min(max(word, 1), LONGEST_INDEX))
            line.append(k)
            capital.append(drawn.capital_px)
    things = rendering.scene.things
    nothing = [(np.nan,) * 4]
    return Truth(
        np.array(character), np.array(index), np.array(line), np.array(capital, np.float32),
        np.array([*(drawn.box_px for drawn in rendering.lines), *nothing], np.float32),
        np.array([0, *(COLOUR_CLASS[thing.colour] for thing in things)]),
        np.array([0, *(KIND_CLASS[thing.kind] for thing in things)]),
        np.array([*nothing, *rendering.thing_boxes_px], np.float32),
    )  # fmt: skip


def cut_view(rendering: Rendering, truth: Truth, box_px: Box) -> LabelledView:
    """Cut `box_px`, squash it to the tower's input, and read the targets off the label rasters."""
    x0, y0, x1, y1 = box_px
    width, height = rendering.image.size
    pixels = rendering.image.resize((VIEW_PX, VIEW_PX), Image.Resampling.BICUBIC, box=box_px)
    scale = np.array([x1 - x0, y1 - y0, x1 - x0, y1 - y0], np.float32)
    origin = np.array([x0, y0, x0, y0], np.float32)
    fine = _sample(rendering.character_YX, box_px, 2 * PATCHES, PATCHES)
    thing = _sample(rendering.thing_YX, box_px, PATCHES, PATCHES)
    legible = truth.capital_px[fine] * VIEW_PX / (y1 - y0) >= LEGIBLE_PX
    hidden = (fine > 0) & ~legible
    line_at_patch = np.where(fine[:, ::2] > 0, truth.line[fine[:, ::2]], truth.line[fine[:, 1::2]])
    return LabelledView(
        np.asarray(pixels), box_px,
        ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height),
        thing, fine,
        np.where(hidden, IGNORE, truth.character[fine]), np.where(hidden | (fine == 0), IGNORE, truth.index[fine]),
        truth.colour[thing], truth.kind[thing],
        (truth.thing_box_px[thing] - origin) / scale, (truth.line_box_px[line_at_patch] - origin) / scale,
    )  # fmt: skip


def _sample(raster_YX: NDArray[np.int32], box_px: Box, columns: int, rows: int) -> NDArray[np.int64]:
    x0, y0, x1, y1 = (value / RASTER_STEP for value in box_px)
    xs = np.clip(x0 + (np.arange(columns) + 0.5) * (x1 - x0) / columns, 0, raster_YX.shape[1] - 1).astype(int)
    ys = np.clip(y0 + (np.arange(rows) + 0.5) * (y1 - y0) / rows, 0, raster_YX.shape[0] - 1).astype(int)
    sampled: NDArray[np.int64] = raster_YX[np.ix_(ys, xs)].astype(np.int64)
    return sampled
