"""Small pictures for a page: a thumbnail, what was zoomed into, and the importance map as a layer to lay over them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.picture import Box, Picture

THUMBNAIL_PX, PAGE_PX, CROP_PX = 360, 900, 240  # longest sides; a page's lines must be readable
MOST_CROPS = 3
QUALITY = 78


@dataclass(frozen=True)
class Images:
    """JPEG of the whole upright picture, PNG of the map that covers all of it, JPEG of each crop shown."""

    picture: bytes
    map: bytes | None = None
    crops: tuple[bytes, ...] = ()

    @property
    def size_bytes(self) -> int:
        return len(self.picture) + len(self.map or b"") + sum(map(len, self.crops))


def images_of(picture: Picture, crops_px: Sequence[Box], importance_YX: NDArray[np.float32] | None, longest_px: int) -> Images:
    """The first few crops are cut from the full picture, so that they show what the second look saw."""
    image = Image.fromarray(picture.pixels_YX3)
    return Images(
        _jpeg(image, longest_px),
        None if importance_YX is None else heat_png(importance_YX),
        tuple(_jpeg(image.crop(_whole(box, image.size)), CROP_PX) for box in crops_px[:MOST_CROPS]),
    )


def heat_png(importance_YX: NDArray[np.float32]) -> bytes:
    """One pixel per cell, clear where nothing, orange where most; the browser smooths it as it enlarges it."""
    values = np.nan_to_num(importance_YX.astype(np.float64), nan=0, posinf=0, neginf=0).clip(min=0)
    share = values / max(float(values.max(initial=0)), 1e-12)
    rgba = np.zeros((*share.shape, 4), np.uint8)
    rgba[..., 0], rgba[..., 1] = 255, (200 * (1 - share)).astype(np.uint8)
    rgba[..., 3] = (190 * share).astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(rgba).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def _whole(box_px: Box, size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in whole pixels inside the picture, at least one each way."""
    x0, y0 = min(max(round(box_px[0]), 0), size_wh[0] - 1), min(max(round(box_px[1]), 0), size_wh[1] - 1)
    return x0, y0, max(x0 + 1, min(round(box_px[2]), size_wh[0])), max(y0 + 1, min(round(box_px[3]), size_wh[1]))


def _jpeg(image: Image.Image, longest_px: int) -> bytes:
    scale = longest_px / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    packed = io.BytesIO()
    reducing_gap = 3.0 if scale < 1 else None
    image.resize(size, Image.Resampling.LANCZOS, reducing_gap=reducing_gap).save(packed, "JPEG", quality=QUALITY, optimize=True)
    return packed.getvalue()
