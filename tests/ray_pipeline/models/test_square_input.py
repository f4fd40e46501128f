"""Fitting a picture to a square input: the published processors' pixels, the published frames, and planted marks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from ray_pipeline.models import square_input
from ray_pipeline.models.square_input import FITS, Preprocessing, frame_footprints, read_preprocessing, whole_pixels
from ray_pipeline.models.weights import ModelRefused
from schemas.picture import Box, Picture
from schemas.status import RowFailure
from tests.stand_ins.made_pictures import whole

CLIP = Preprocessing(336, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SIZES = [(640, 480), (480, 640), (336, 336), (337, 211), (50, 49), (1000, 37), (37, 1000), (1, 90), (500, 333)]


def noise(width: int, height: int) -> Picture:
    return Picture(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8), "0" * 64)


def published(fit: str) -> Callable[[Any], Any]:
    """The library's processor on a CPU, which resamples with Pillow."""
    square, edge = {"height": 336, "width": 336}, {"shortest_edge": 336}
    if fit == "pad":
        return LlavaImageProcessorPil(do_pad=True, size=edge, crop_size=square)
    return CLIPImageProcessorPil(size=edge if fit == "centre_crop" else square, crop_size=square)


@pytest.mark.parametrize("fit", list(FITS))
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_the_published_processor(fit: str, size: tuple[int, int]) -> None:
    picture = noise(*size)
    ours = CLIP.normalised([FITS[fit](picture, whole(picture), CLIP).pixels_YX3])
    theirs = published(fit)(picture.pixels_YX3, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-5


@pytest.mark.parametrize("fit", list(FITS))
def test_a_crop_is_fitted_like_a_picture_of_its_own_and_lies_where_it_was_cut(fit: str) -> None:
    picture = noise(640, 480)
    cut = Picture(np.ascontiguousarray(picture.pixels_YX3[77:160, 301:428]), "1" * 64)
    crop, alone = FITS[fit](picture, (301.4, 77.6, 427.2, 159.9), CLIP), FITS[fit](cut, whole(cut), CLIP)
    assert np.array_equal(crop.pixels_YX3, alone.pixels_YX3)
    assert crop.box_px == pytest.approx([a + b for a, b in zip(alone.box_px, (301, 77, 301, 77), strict=True)])


@pytest.mark.parametrize(
    ("fit", "size", "frame", "first", "last"),
    [
        ("pad", (640, 480), (0, -80, 640, 560), (0, -80, 26.667, -53.333), (613.333, 533.333, 640, 560)),
        ("centre_crop", (640, 480), (80, 0, 560, 480), (80, 0, 100, 20), (540, 460, 560, 480)),
        ("pad", (480, 640), (-80, 0, 560, 640), (-80, 0, -53.333, 26.667), (533.333, 613.333, 560, 640)),
        ("pad", (336, 335), (0, 0, 336, 336), (0, 0, 14, 14), (322, 322, 336, 336)),
        ("centre_crop", (480, 640), (0, 80, 480, 560), (0, 80, 20, 100), (460, 540, 480, 560)),
        ("squash", (640, 480), (0, 0, 640, 480), (0, 0, 26.667, 20), (613.333, 460, 640, 480)),
    ],
)  # fmt: skip
def test_frames_and_footprints_of_published_sizes(fit: str, size: tuple[int, int], frame: Box, first: Box, last: Box) -> None:
    picture = noise(*size)
    shown = FITS[fit](picture, whole(picture), CLIP)
    prints = frame_footprints(shown, 14, 3)
    assert shown.box_px == pytest.approx(frame)
    assert len(prints) == 576 and prints.valid_T.all() and prints.view_T.unique().tolist() == [3]
    assert prints.boxes_T4_px[0].tolist() == pytest.approx(first, abs=1e-3)
    assert prints.boxes_T4_px[-1].tolist() == pytest.approx(last, abs=1e-3)


@pytest.mark.parametrize("fit", list(FITS))
@pytest.mark.parametrize("size", [(640, 480), (333, 500), (700, 101)])
def test_a_planted_block_is_found_where_the_placement_says(fit: str, size: tuple[int, int]) -> None:
    width, height = size
    block = (width // 2 + 11, height // 2 - 23, width // 2 + 31, height // 2 - 5)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[block[1] : block[3], block[0] : block[2]] = 255
    frame = FITS[fit](
        Picture(pixels, "0" * 64), (0.0, 0.0, float(width), float(height)), Preprocessing(336, (0, 0, 0), (1, 1, 1))
    )
    bright_y, bright_x = np.nonzero(frame.pixels_YX3[..., 0] > 127)
    found = (bright_x.min(), bright_y.min(), bright_x.max() + 1, bright_y.max() + 1)
    expected = frame.placement.to_view(torch.tensor(block, dtype=torch.float64)).tolist()
    assert found == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("size", [(3000, 20), (20, 3000), (333, 500)])
def test_long_pictures_are_padded_piece_by_piece_to_the_same_pixels(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = noise(*size)
    at_once = FITS["pad"](picture, whole(picture), CLIP).pixels_YX3
    monkeypatch.setattr(square_input, "BAND_PX", 7000)
    assert np.array_equal(FITS["pad"](picture, whole(picture), CLIP).pixels_YX3, at_once)


def test_a_strip_is_skipped_in_a_centre_crop_and_shown_padded() -> None:
    strip = noise(2010, 10)
    with pytest.raises(RowFailure, match="skipped: 2010 x 10 px in a centre crop, expected an aspect ratio of at most 200"):
        FITS["centre_crop"](strip, whole(strip), CLIP)
    assert FITS["pad"](strip, whole(strip), CLIP).box_px == (0, -1000, 2010, 1010)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.2, 0.9, 1.1, 2.0), (0, 0, 2, 2)),
        ((3.0, 3.0, 5.0, 4.0), (3, 3, 5, 4)),
        ((-4.0, 2.5, 99.0, 77.0), (0, 2, 20, 10)),
        ((19.5, 9.5, 19.6, 9.6), (19, 9, 20, 10)),
    ],
)
def test_boxes_are_widened_to_whole_pixels(box: Box, expected: tuple[int, ...]) -> None:
    assert whole_pixels(noise(20, 10), box) == expected


@pytest.mark.parametrize("box", [(20.0, 0.0, 25.0, 5.0), (3.0, 3.0, 3.0, 9.0), (5.0, 5.0, 2.0, 9.0), (0.0, -9.0, 5.0, -1.0)])
def test_a_box_without_area_inside_the_picture_is_refused(box: Box) -> None:
    with pytest.raises(ValueError, match="of a 20 x 10 picture, expected some area inside it"):
        whole_pixels(noise(20, 10), box)


PUBLISHED: dict[str, Any] = {
    "crop_size": {"height": 336, "width": 336}, "size": {"shortest_edge": 336}, "do_center_crop": True, "resample": 3,
    "do_normalize": True, "rescale_factor": 0.00392156862745098, "image_mean": list(CLIP.mean), "image_std": list(CLIP.std),
}  # fmt: skip


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_the_processor_is_read_from_either_file(file: str, tmp_path: Path) -> None:
    content = PUBLISHED if file.startswith("pre") else {"image_processor": PUBLISHED, "image_token": "<image>"}
    (tmp_path / file).write_text(json.dumps(content))
    assert read_preprocessing(tmp_path, 336) == CLIP
    assert CLIP.padding_colour == (122, 116, 104)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": 2}, "'resample': 2"),
        ({"do_normalize": False}, "'do_normalize': False"),
        ({"rescale_factor": 1.0}, "rescale factor of 1/255"),
        ({"crop_size": {"height": 224, "width": 224}}, "for 224 px, but the vision tower takes 336 px"),
        ({"crop_size": None, "size": 448}, "for 448 px, but the vision tower takes 336 px"),
        ({"image_mean": [0.5]}, r"image_mean \[0.5\] .* expected three numbers"),
        ({"image_std": [0.5, 0.0, 0.5]}, "deviations above 0"),
    ],
)
def test_another_way_of_preparing_pixels_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PUBLISHED | change))
    with pytest.raises(ModelRefused, match=message):
        read_preprocessing(tmp_path, 336)


def test_a_folder_without_a_processor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="no preprocessor_config.json and no processor_config.json"):
        read_preprocessing(tmp_path, 336)
