"""Part of a picture on a vision tower's square input: padded, cropped to its middle or squashed, and where it then lies.

Resampling is Pillow's bicubic filter on 8-bit pixels, as the published processors do it on a CPU. Legend: V views,
Y X rows and columns of the input, 3 the colours.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ray_pipeline.geometry.footprints import Footprints, grid_footprints
from ray_pipeline.geometry.placement import Placement
from ray_pipeline.models.weights import ModelRefused
from schemas.picture import Box, Picture
from schemas.status import RowFailure, Status

Pixels = NDArray[np.uint8]
BAND_PX = 2**22  # a long picture's padded square is never in memory as a whole
MOST_ASPECT = 200  # a centre crop of a longer strip shows next to nothing, and takes memory without bound


@dataclass(frozen=True)
class Preprocessing:
    """What a folder says about its tower's input: side in pixels, mean and deviation of the colours in 0..1."""

    side_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def padding_colour(self) -> tuple[int, int, int]:
        """The mean colour in 0..255, rounded down, as LLaVA was trained with."""
        red, green, blue = (int(value * 255) for value in self.mean)
        return red, green, blue

    def normalised(self, pixels: Sequence[Pixels]) -> Tensor:
        """Views (Y, X, 3) as the tower takes them: (V, 3, Y, X) float32."""
        stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
        return (stacked - torch.tensor(self.mean).view(3, 1, 1)) / torch.tensor(self.std).view(3, 1, 1)

    def shown(self, normalised: Tensor) -> Tensor:
        """The way back, of one view or of several: (..., 3, Y, X) to colours in 0..1, (..., Y, X, 3) float32 on the CPU."""
        return normalised.detach().float().cpu().movedim(-3, -1) * torch.tensor(self.std) + torch.tensor(self.mean)


@dataclass(frozen=True)
class Frame:
    """A view's input: 8-bit `pixels_YX3` and how they lie on the picture."""

    pixels_YX3: Pixels
    placement: Placement

    @property
    def box_px(self) -> Box:
        """What the whole frame shows; it reaches beyond the picture where it is padded."""
        height, width = self.pixels_YX3.shape[:2]
        x0, y0, x1, y1 = self.placement.to_picture(torch.tensor([0, 0, width, height], dtype=torch.float64)).tolist()
        return x0, y0, x1, y1

    @property
    def shown(self) -> Tensor:
        """The pixels in 0..1, (Y, X, 3) float32."""
        return torch.from_numpy(np.array(self.pixels_YX3)).float() / 255


def read_preprocessing(folder: Path, side_px: int) -> Preprocessing:
    """The folder's image processor, checked against the tower's input of `side_px`.

    Raises:
        ModelRefused: no processor, or one that prepares pixels in another way than this module.
    """
    settings = processor_settings(folder)
    expected = {"resample": 3, "do_normalize": True, "do_rescale": True}
    found = {key: settings.get(key, value) for key, value in expected.items()}
    if found != expected or not math.isclose(settings.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-3):
        raise ModelRefused(f"{folder}: image processor with {found}, expected {expected} and a rescale factor of 1/255")
    if (side := _side(settings)) != side_px:
        raise ModelRefused(f"{folder}: image processor for {side} px, but the vision tower takes {side_px} px")
    mean, std = settings.get("image_mean", ()), settings.get("image_std", ())
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ModelRefused(f"{folder}: image_mean {mean} and image_std {std}, expected three numbers each, deviations above 0")
    return Preprocessing(side_px, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def processor_settings(folder: Path) -> dict[str, Any]:
    """What a folder says of its image processor, in a file of its own or in that of the whole processor.

    Raises:
        ModelRefused: neither file, or one that holds no settings.
    """
    own, joint = folder / "preprocessor_config.json", folder / "processor_config.json"
    if own.is_file():
        settings = json.loads(own.read_bytes())
    elif joint.is_file():
        settings = json.loads(joint.read_bytes()).get("image_processor")
    else:
        raise ModelRefused(f"{folder}: no {own.name} and no {joint.name}, expected one that names image_mean and image_std")
    if not isinstance(settings, dict):
        raise ModelRefused(f"{folder}: an image processor of {settings!r}, expected its settings")
    return settings


def whole_pixels(picture: Picture, box_px: Box) -> tuple[int, int, int, int]:
    """The smallest box of whole pixels around a box, within the picture.

    Raises:
        ValueError: the box has no area inside the picture.
    """
    x0, y0 = max(0, math.floor(box_px[0])), max(0, math.floor(box_px[1]))
    x1, y1 = min(picture.width, math.ceil(box_px[2])), min(picture.height, math.ceil(box_px[3]))
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"box {box_px} of a {picture.width} x {picture.height} picture, expected some area inside it")
    return x0, y0, x1, y1


def padded(picture: Picture, box_px: Box, preprocessing: Preprocessing) -> Frame:
    """The box in the middle of a square of the mean colour; nothing is lost. Odd paddings: the smaller half comes first."""
    x0, y0, x1, y1 = whole_pixels(picture, box_px)
    placement = Placement.padded(x1 - x0, y1 - y0, preprocessing.side_px)
    pixels = _padded_square(picture.pixels_YX3[y0:y1, x0:x1], preprocessing.side_px, preprocessing.padding_colour)
    return Frame(pixels, _moved(placement, x0, y0))


def centre_cropped(picture: Picture, box_px: Box, preprocessing: Preprocessing) -> Frame:
    """The shorter side fills the input, and the ends of the longer one are cut off: invisible, as published.

    Raises:
        RowFailure: skipped, where one side is more than 200 times the other.
    """
    x0, y0, x1, y1 = whole_pixels(picture, box_px)
    width, height, side = x1 - x0, y1 - y0, preprocessing.side_px
    short = min(width, height)
    if max(width, height) > MOST_ASPECT * short:
        shape = f"{width} x {height} px in a centre crop"
        raise RowFailure(Status.SKIPPED, f"{shape}, expected an aspect ratio of at most {MOST_ASPECT}; fit by padding")
    new_width, new_height = int(side * width / short), int(side * height / short)
    left, top = (new_width - side) // 2, (new_height - side) // 2
    pixels = resized(picture.pixels_YX3[y0:y1, x0:x1], new_width, new_height)[top : top + side, left : left + side]
    scale_x, scale_y = new_width / width, new_height / height
    return Frame(pixels, Placement(scale_x, scale_y, x0 + left / scale_x, y0 + top / scale_y))


def squashed(picture: Picture, box_px: Box, preprocessing: Preprocessing) -> Frame:
    """The box on the whole input, its aspect ratio not kept."""
    x0, y0, x1, y1 = whole_pixels(picture, box_px)
    pixels = resized(picture.pixels_YX3[y0:y1, x0:x1], preprocessing.side_px, preprocessing.side_px)
    return Frame(pixels, Placement.squashed((x0, y0, x1, y1), preprocessing.side_px))


FITS: dict[str, Callable[[Picture, Box, Preprocessing], Frame]] = {
    "pad": padded,
    "centre_crop": centre_cropped,
    "squash": squashed,
}


def frame_footprints(frame: Frame, patch_px: int, view: int) -> Footprints:
    """One token per whole patch of a square frame, in raster order; a remainder at its right and bottom is seen by none."""
    side_px = len(frame.pixels_YX3)
    patches = side_px // patch_px
    return grid_footprints(frame.box_px, patches, patches, view, patch_share=patches * patch_px / side_px)


def within_cut(footprints: Footprints, picture: Picture, box_px: Box) -> Footprints:
    """Footprints of a box's view that end where its pixels do, although the picture goes on: padding shows nothing of it.

    Tokens that see padding alone are left without area. Beyond the picture's own edges footprints reach as before.
    """
    x0, y0, x1, y1 = whole_pixels(picture, box_px)
    low = [edge if edge > 0 else -math.inf for edge in (x0, y0)]
    high = [edge if edge < end else math.inf for edge, end in ((x1, picture.width), (y1, picture.height))]
    boxes = footprints.boxes_T4_px
    return replace(footprints, boxes_T4_px=boxes.clamp(boxes.new_tensor(low * 2), boxes.new_tensor(high * 2)))


def resized(pixels_YX3: Pixels, width: int, height: int) -> Pixels:
    """Pillow's bicubic filter, first along rows, then along columns, each rounded to 8 bits."""
    return np.asarray(Image.fromarray(pixels_YX3).resize((width, height), Image.Resampling.BICUBIC))


def _padded_square(pixels_YX3: Pixels, side: int, colour: tuple[int, int, int]) -> Pixels:
    """Rows are padded and resized band by band, then columns: the same pixels as from the whole square, without its memory."""
    height, width = pixels_YX3.shape[:2]
    square = max(width, height)
    left, top = (square - width) // 2, (square - height) // 2
    narrow = np.empty((square, side, 3), np.uint8)
    narrow[:] = colour
    rows = max(1, BAND_PX // square)
    for start in range(0, height, rows):
        part = pixels_YX3[start : start + rows]
        band = np.empty((len(part), square, 3), np.uint8)
        band[:] = colour
        band[:, left : left + width] = part
        narrow[top + start : top + start + len(part)] = resized(band, side, len(part))
    return resized(narrow, side, side)


def _moved(placement: Placement, x_px: int, y_px: int) -> Placement:
    return replace(placement, offset_x_px=placement.offset_x_px + x_px, offset_y_px=placement.offset_y_px + y_px)


def _side(settings: dict[str, Any]) -> Any:
    size = settings.get("crop_size") or settings.get("size") or {}
    return size if not isinstance(size, dict) else size.get("height", size.get("shortest_edge"))
