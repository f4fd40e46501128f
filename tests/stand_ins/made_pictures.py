"""Pictures with something in every part, for tests of model families; flat ones would hide a misplaced token."""

import numpy as np
from PIL import Image

from schemas.picture import Box, Picture

UNHASHED = "0" * 64


def noise(width: int, height: int, seed: int = 0) -> Picture:
    """Every value drawn alone; little of it survives a resize."""
    return Picture(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8), UNHASHED)


def soft_noise(width: int, height: int, seed: int = 0, cells: tuple[int, int] = (9, 11)) -> Picture:
    """Rows x columns of coarse noise, enlarged without edges."""
    few = np.random.default_rng(seed).integers(0, 255, (*cells, 3), np.uint8)
    return Picture(np.asarray(Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)), UNHASHED)


def coloured_blocks(width: int, height: int, seed: int = 0) -> Picture:
    """Blocks of 9 x 7 px with noise: coarse enough to survive a resize."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (height // 7 + 1, width // 9 + 1, 3))
    grain = generator.integers(-20, 21, (height, width, 3))
    pixels = np.clip(blocks.repeat(7, 0).repeat(9, 1)[:height, :width] + grain, 0, 255).astype(np.uint8)
    return Picture(pixels, UNHASHED)


def black(width: int, height: int) -> Picture:
    """For tests of sizes and places alone."""
    return Picture(np.zeros((height, width, 3), np.uint8), UNHASHED)


def whole(picture: Picture) -> Box:
    return 0.0, 0.0, float(picture.width), float(picture.height)
