"""pure-grad: pixels that the answer's first token depends on, where the picture has detail (ViCrop, section 4.4).

Gradient norms of the question over those of a general prompt, pixel by pixel, masked, and averaged over patches.
Shapes: Q the question and the general prompt, Y X pixels of a frame or cells of a map, T patches.
"""

from collections.abc import Generator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ray_pipeline.geometry.footprints import Footprints, grid_footprints, join
from ray_pipeline.methods.focus import Probe, Reader, Reading, expect
from ray_pipeline.methods.high_pass import detail_mask, high_pass
from ray_pipeline.methods.importance import on_region, published_grid
from ray_pipeline.models.contract import PixelGradients, ReadPixelGradient, Reply, Request, ViewGradient, VisualTokens
from schemas.picture import Box

FLOOR = 0.1  # of the general prompt's mean


def pure_grad_map(views: Sequence[ViewGradient], region_px: Box) -> Tensor:
    """All frames' patches on a region, (Y, X); NaN in cells that no patch covers.

    Ratio and detail are taken of what each frame shows of the region: padding has gradients but nothing to see, and its
    border would pass for detail. The general prompt's norms are floored at a tenth of their mean, as in rel-att.
    """
    patches = [_patches(view, number, region_px) for number, view in enumerate(views)]
    weights_T, prints = torch.cat([weights for weights, _ in patches]), join([prints for _, prints in patches])
    maps = on_region(weights_T, prints, region_px)
    return torch.where(maps.covered_YX, maps.ratio_YX, torch.nan)


def published_pure_grad_map(view: ViewGradient, pixels_YX3: NDArray[np.uint8]) -> Tensor:
    """The published map, (rows, columns) of patches, of a frame and of the picture it was made from.

    Nothing guards the quotient: a pixel whose norm is 0 under the general prompt spoils its patch. The detail is that of
    the picture squashed to the frame's size, whatever part of it the frame shows.
    """
    question, generic = view.norms_QYX.detach().cpu().float()
    height, width = question.shape
    squashed = Image.fromarray(pixels_YX3).resize((width, height), Image.Resampling.BILINEAR)
    mask = torch.from_numpy(detail_mask(high_pass(np.asarray(squashed, np.float32) / np.float32(255))))
    return patch_sums(question / generic * mask, view.block_px) / view.block_px**2


def guarded_ratio(question_YX: Tensor, generic_YX: Tensor) -> Tensor:
    """Question over general prompt, that floored at a tenth of its mean; 0 where it is 0 everywhere."""
    floored = generic_YX.clamp(min=FLOOR * float(generic_YX.mean()))
    return torch.where(floored > 0, question_YX / floored, 0.0)


def patch_sums(values_YX: Tensor, block_px: int) -> Tensor:
    """Sums over whole patches of block_px x block_px pixels, (rows, columns), from the corner; the rest is left out.

    Raises:
        ValueError: less than one patch.
    """
    rows, columns = values_YX.shape[0] // block_px, values_YX.shape[1] // block_px
    if min(rows, columns) < 1:
        raise ValueError(f"frame of {tuple(values_YX.shape)} pixels, expected at least one patch of {block_px}")
    blocks = values_YX[: rows * block_px, : columns * block_px].reshape(rows, block_px, columns, block_px)
    return blocks.sum((1, 3))


def _patches(view: ViewGradient, number: int, region_px: Box) -> tuple[Tensor, Footprints]:
    """Mean over each patch's pixels inside the region, masked ones counting as zeros; patches without any have no place."""
    inside = _inside(view, region_px)
    norms = view.norms_QYX.detach().cpu().double()
    pixels = view.pixels_YX3[inside].detach().cpu().float().numpy()
    values, counted = torch.zeros_like(norms[0]), torch.zeros_like(norms[0])
    if pixels.size:
        question, generic = norms[0][inside], norms[1][inside]
        values[inside] = guarded_ratio(question, generic) * torch.from_numpy(detail_mask(high_pass(pixels)))
        counted[inside] = 1
    sums, counts = patch_sums(values, view.block_px), patch_sums(counted, view.block_px)
    prints = grid_footprints(_patched(view, sums), len(sums), sums.shape[1], number)
    seen_T = counts.flatten() > 0
    return (sums / counts.clamp(min=1)).flatten(), Footprints(prints.boxes_T4_px, prints.view_T, seen_T)


def _inside(view: ViewGradient, region_px: Box) -> tuple[slice, slice]:
    """Rows and columns of the frame's pixels that lie wholly in the region."""
    (x0, y0, x1, y1), (rows, columns) = view.box_px, view.norms_QYX.shape[1:]
    return _within(y0, y1, rows, region_px[1], region_px[3]), _within(x0, x1, columns, region_px[0], region_px[2])


def _within(low_px: float, high_px: float, pixels: int, first_px: float, last_px: float) -> slice:
    scale = pixels / (high_px - low_px)
    first = int(np.ceil((first_px - low_px) * scale - 1e-6))
    last = int(np.floor((last_px - low_px) * scale + 1e-6))
    return slice(min(max(first, 0), pixels), min(max(last, 0), pixels))


def _patched(view: ViewGradient, patches_YX: Tensor) -> Box:
    """The part of the frame that whole patches cover."""
    (x0, y0, x1, y1), (height, width) = view.box_px, view.norms_QYX.shape[1:]
    rows, columns = patches_YX.shape
    return x0, y0, x0 + (x1 - x0) * columns * view.block_px / width, y0 + (y1 - y0) * rows * view.block_px / height


def read_pure_grad(tokens: VisualTokens, region_px: Box, probe: Probe) -> Generator[Request, Reply, Reading]:
    """A backward pass to the pixels for the question and one for the general prompt, on one shared prefix.

    Raises:
        ValueError: the published map is wanted of tokens that form no plain grid.
    """
    if probe.official:
        published_grid(tokens)
    reply = expect(PixelGradients, (yield ReadPixelGradient(tokens, (probe.question.text, probe.generic))))
    if probe.official:
        x0, y0, x1, y1 = (round(edge) for edge in region_px)
        map_YX = published_pure_grad_map(reply.views[0], tokens.picture.pixels_YX3[y0:y1, x0:x1])
    else:
        map_YX = pure_grad_map(reply.views, region_px)
    return Reading(map_YX, "pixel gradients of tokens " + " and ".join(str(token) for token in reply.tokens_Q))


# The quotient's scale hangs on each block's own likeliest tokens. Patches without detail make the median say nothing.
PURE_GRAD = Reader("pure_grad", read_pure_grad, whole_decoder=True, background="mean")
