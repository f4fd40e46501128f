"""The small pictures of a report: sizes, what is cut out, and maps that are clear where nothing is."""

import io

import numpy as np
import pytest
from PIL import Image

from ray_pipeline.delivery.report.images import CROP_PX, MOST_CROPS, heat_png, images_of
from schemas.picture import Box, Picture

HEIGHT, WIDTH = 300, 480
PIXELS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
PIXELS[60:120, 240:360] = (255, 0, 255)
PICTURE = Picture(PIXELS, "ab" * 32)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_the_thumbnail_shows_all_of_the_picture() -> None:
    found = images_of(PICTURE, [], None, 160)
    shown = opened(found.picture)
    assert (shown.format, shown.size) == ("JPEG", (160, 100)) and found.map is None and found.crops == ()
    mean = np.asarray(shown.convert("RGB"))[22:38, 82:118].mean((0, 1))
    assert mean == pytest.approx([255, 0, 255], abs=12)
    assert found.size_bytes == len(found.picture)


def test_a_crop_is_cut_from_the_full_picture() -> None:
    found = images_of(PICTURE, [(240.0, 60.0, 360.0, 120.0)], None, 160)
    shown = opened(found.crops[0])
    assert shown.size == (CROP_PX, CROP_PX // 2)
    assert np.asarray(shown.convert("RGB"))[4:-4, 4:-4].mean((0, 1)) == pytest.approx([255, 0, 255], abs=6)


@pytest.mark.parametrize(
    ("box", "size"),
    [((-5, -5, 900, 900), (240, 150)), ((479.6, 10, 480, 20), (24, 240)), ((10, 10, 10.2, 10.2), (240, 240)),
     ((0, 299.9, 480, 300), (240, 1))],
)  # fmt: skip
def test_a_crop_has_a_pixel_at_least_and_stays_inside(box: Box, size: tuple[int, int]) -> None:
    assert opened(images_of(PICTURE, [box], None, 160).crops[0]).size == size


def test_of_many_crops_a_few_are_shown() -> None:
    assert len(images_of(PICTURE, [(0.0, 0.0, 50.0, 50.0)] * 9, None, 160).crops) == MOST_CROPS


def test_a_map_is_clear_where_nothing_is_and_strongest_at_its_peak() -> None:
    importance_YX = np.float32([[0, 1, 2], [4, np.nan, -3]])
    shown = opened(heat_png(importance_YX))
    assert (shown.format, shown.mode, shown.size) == ("PNG", "RGBA", (3, 2))
    assert np.asarray(shown)[..., 3].tolist() == [[0, 47, 95], [190, 0, 0]]


@pytest.mark.parametrize("value", [0.0, np.nan, -1.0])
def test_a_map_of_nothing_is_clear(value: float) -> None:
    assert not np.asarray(opened(heat_png(np.full((2, 2), value, np.float32))))[..., 3].any()
