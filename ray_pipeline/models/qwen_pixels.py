"""What a Qwen-VL tower is shown: a picture's cut at the size the checkpoint wants, as patches in the tower's order.

A view is resized without quite keeping its aspect, to multiples of a merge block (28 px in Qwen2.5-VL, 32 px in
Qwen3-VL), its area within the checkpoint's limits. The decoder sees one token per block, in raster order; the tower's
patches come block by block (mc_llava 9.5). Shapes: Y X rows and columns of the resized view, N patches, T tokens.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ray_pipeline.geometry.placement import Placement
from ray_pipeline.models.square_input import resized, whole_pixels
from schemas.picture import Box, Picture
from schemas.status import RowFailure, Status

MOST_ELONGATED = 200  # longer side over shorter; beyond, the published resizing refuses


@dataclass(frozen=True)
class PixelRule:
    """A checkpoint's preprocessing. Areas are in pixels of the resized view; mean and std are of values in 0..1.

    `merge` patches a side make one token; `frames` times the tower wants to see a still picture.

    Raises:
        ValueError: a side or an area below 1, or a deviation that is not positive.
    """

    patch_px: int
    merge: int
    frames: int
    least_area_px: int
    most_area_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        numbers = (self.patch_px, self.merge, self.frames, self.least_area_px, self.most_area_px)
        if min(numbers) < 1 or min(self.std) <= 0:
            raise ValueError(f"patch, merge, frames and areas {numbers}, deviations {self.std}; expected numbers above 0")

    @property
    def block_px(self) -> int:
        """Side of the block that one token sees, in pixels of the resized view."""
        return self.patch_px * self.merge

    def capped(self, side_px: int) -> "PixelRule":
        """The same with areas up to that of a square. A cap below the checkpoint's least area wins over it."""
        most = min(self.most_area_px, side_px**2)
        return replace(self, least_area_px=min(self.least_area_px, most), most_area_px=most)


QWEN2_5_VL = PixelRule(
    14, 2, 2, 3136, 12_845_056, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
)  # fmt: skip
QWEN3_VL = PixelRule(16, 2, 2, 65_536, 16_777_216, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_SIZES = ("patch_size", "merge_size", "temporal_patch_size")


def read_rule(preprocessor: Mapping[str, Any], vision: Mapping[str, Any], published: PixelRule) -> PixelRule:
    """The rule of a folder: its preprocessor config's own words, else as published for its class.

    Area limits stand in `size` as shortest_edge and longest_edge, or as min_pixels and max_pixels (older files; they win,
    as in the library). Patch and merge sizes are the tower's.

    Raises:
        ValueError: the file and the tower disagree, or it asks for another preprocessing than resizing by Pillow's bicubic
            filter, scaling to 0..1 and normalising.
    """
    patch = int(vision.get("patch_size", published.patch_px))
    merge = int(vision.get("spatial_merge_size", published.merge))
    frames = int(vision.get("temporal_patch_size", published.frames))
    tower = (patch, merge, frames)
    file = tuple(preprocessor.get(key, own) for key, own in zip(_SIZES, tower, strict=True))
    if file != tower:
        raise ValueError(f"preprocessor's patch, merge and temporal sizes {file}, expected the tower's {tower}")
    steps = {"do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 3}
    other = {key: preprocessor[key] for key, own in steps.items() if preprocessor.get(key, own) != own}
    if other or not math.isclose(preprocessor.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-6):
        raise ValueError(f"preprocessor asks for {other or preprocessor['rescale_factor']!r}, expected {steps} and 1/255")
    size = preprocessor.get("size") or {}
    least = preprocessor.get("min_pixels") or size.get("shortest_edge") or size.get("min_pixels") or published.least_area_px
    most = preprocessor.get("max_pixels") or size.get("longest_edge") or size.get("max_pixels") or published.most_area_px
    mean, std = preprocessor.get("image_mean") or published.mean, preprocessor.get("image_std") or published.std
    return PixelRule(patch, merge, frames, int(least), int(most), _three(mean), _three(std))


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def fitted_size(width: float, height: float, rule: PixelRule) -> tuple[int, int]:
    """Width and height that a cut is resized to, the published way (mc_llava 9.5).

    Raises:
        ValueError: no area.
        RowFailure: skipped, where one side is more than 200 times the other.
    """
    if min(width, height) <= 0:
        raise ValueError(f"view {width} x {height}, expected both above 0")
    if (aspect := max(width, height) / min(width, height)) > MOST_ELONGATED:
        shape = f"{width:g} x {height:g} px, one side {aspect:.0f} times the other"
        raise RowFailure(Status.SKIPPED, f"{shape}; this model can be shown at most {MOST_ELONGATED} times")
    block = rule.block_px
    columns, rows = round(width / block), round(height / block)
    if columns * rows * block**2 > rule.most_area_px:
        shrink = math.sqrt(height * width / rule.most_area_px)
        columns, rows = (max(1, math.floor(side / shrink / block)) for side in (width, height))
    elif columns * rows * block**2 < rule.least_area_px:
        grow = math.sqrt(rule.least_area_px / (height * width))
        columns, rows = (math.ceil(side * grow / block) for side in (width, height))
    return columns * block, rows * block


@dataclass(frozen=True)
class FittedView:
    """A cut of the picture along whole pixels, and the size it is shown at. `rows` x `columns` tokens see it."""

    box_px: Box
    width: int
    height: int
    rows: int
    columns: int

    @property
    def placement(self) -> Placement:
        """Picture pixels <-> pixels of the resized view."""
        x0, y0, x1, y1 = self.box_px
        return Placement(self.width / (x1 - x0), self.height / (y1 - y0), x0, y0)


def fitted_view(picture: Picture, box_px: Box, rule: PixelRule, zoom_px: int = 0) -> FittedView:
    """The view of a box, cut along whole pixels inside the picture. A cut smaller than `zoom_px` squared is enlarged to it.

    Raises:
        ValueError, RowFailure: the box lies outside the picture, or what `fitted_size` refuses.
    """
    x0, y0, x1, y1 = whole_pixels(picture, box_px)
    grow = max(1.0, zoom_px / math.sqrt((x1 - x0) * (y1 - y0)))
    width, height = fitted_size((x1 - x0) * grow, (y1 - y0) * grow, rule)
    cut = (float(x0), float(y0), float(x1), float(y1))
    return FittedView(cut, width, height, height // rule.block_px, width // rule.block_px)


def resized_pixels(picture: Picture, view: FittedView) -> Tensor:
    """The view as it is shown: (Y, X, 3) uint8, by Pillow's bicubic filter as in training."""
    x0, y0, x1, y1 = (int(edge) for edge in view.box_px)
    return torch.from_numpy(resized(picture.pixels_YX3[y0:y1, x0:x1], view.width, view.height).copy())


def normalised(pixels_YX3: Tensor, rule: PixelRule) -> Tensor:
    """Bytes (Y, X, 3) to normalised float32 (3, Y, X): what pixel gradients are taken for."""
    image = pixels_YX3.permute(2, 0, 1).float() / 255
    return (image - image.new_tensor(rule.mean)[:, None, None]) / image.new_tensor(rule.std)[:, None, None]


def patchified(image_3YX: Tensor, rule: PixelRule) -> Tensor:
    """Patches (N, 3 x frames x patch x patch), merge block by merge block, each patch repeated per frame. Differentiable.

    Raises:
        ValueError: sides that are no multiples of a block.
    """
    block, merge, patch = rule.block_px, rule.merge, rule.patch_px
    channels, height, width = image_3YX.shape
    if height % block or width % block:
        raise ValueError(f"view {width} x {height}, expected multiples of {block}")
    patches = image_3YX.reshape(channels, height // block, merge, patch, width // block, merge, patch)
    patches = patches.permute(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
    return patches.expand(-1, -1, -1, -1, -1, rule.frames, -1, -1).reshape(-1, channels * rule.frames * patch**2)


def tower_grid(view: FittedView, rule: PixelRule) -> Tensor:
    """(1, 3) int64: one frame, rows and columns of unmerged patches, as the tower and its positions want it."""
    return torch.tensor([[1, view.rows * rule.merge, view.columns * rule.merge]])
