"""Pixels are what a person would see: planted values, written by hand."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from ray_pipeline.intake.decode import Decoder
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status
from tests.ray_pipeline.intake import hostile_images as hostile

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(FetchSettings(max_pixels=1_000_000, decode_timeout_s=90, decode_memory_bytes=600_000_000)) as started:
        yield started


def grey(decoder: Decoder, data: bytes) -> list[int]:
    pixels = decoder.decode(data, None).pixels_YX3
    assert (pixels == pixels[:, :, :1]).all()
    return [int(value) for value in pixels[0, :, 0]]


def deep(values: list[float], kind: Any) -> Image.Image:
    return Image.fromarray(np.array([values] * 2, dtype=kind))


# value / 257, rounded: not clipped at 255, not cut to the high byte
SIXTEEN = [0, 128, 129, 257, 32768, 65535]
EIGHT = [0, 0, 1, 1, 128, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(decoder: Decoder, kind: str) -> None:
    assert grey(decoder, hostile.saved(deep(SIXTEEN, np.uint16), kind)) == EIGHT


def test_16_bit_grey_big_endian_tiff(decoder: Decoder) -> None:
    tags = [(256, 6), (257, 1), (258, 16), (259, 1), (262, 1), (273, 134), (277, 1), (278, 1), (279, 12)]
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", len(tags)) + entries + struct.pack(">I", 0)
    data = head + bytes(134 - len(head)) + struct.pack(">6H", *SIXTEEN)
    assert Image.open(io.BytesIO(data)).mode == "I;16B"
    assert grey(decoder, data) == EIGHT


def test_16_bit_portable_greymap(decoder: Decoder) -> None:
    assert grey(decoder, b"P5\n6 1\n65535\n" + struct.pack(">6H", *SIXTEEN)) == EIGHT


def test_16_bit_grey_png_with_a_transparent_value(decoder: Decoder) -> None:
    whole = hostile.saved(deep(SIXTEEN, np.uint16), "PNG")
    data = whole[:33] + hostile.png_chunk(b"tRNS", struct.pack(">H", 257)) + whole[33:]
    assert grey(decoder, data) == [0, 0, 1, 255, 128, 255]


def test_16_bit_colour_png(decoder: Decoder) -> None:
    header = hostile.png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    body = hostile.png_chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">3H", 65535, 32768, 257)))
    data = b"\x89PNG\r\n\x1a\n" + header + body + hostile.png_chunk(b"IEND", b"")
    assert decoder.decode(data, None).pixels_YX3[0, 0].tolist() == [255, 128, 1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 257, 65535], [0, 1, 255]),  # a 16-bit scan kept in 32 bits
        ([-100, 0, 100], [0, 128, 255]),
        ([0, 1_000_000, 2_000_000], [0, 128, 255]),
        ([-5, -5, -5], [255, 255, 255]),
    ],
)
def test_32_bit_grey(decoder: Decoder, values: list[float], expected: list[int]) -> None:
    assert grey(decoder, hostile.saved(deep(values, np.int32), "TIFF")) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 0.25, 0.25], [0, 64, 64]), ([10.0, 20.0, 30.0], [0, 128, 255])],
)
def test_float_grey(decoder: Decoder, values: list[float], expected: list[int]) -> None:
    assert grey(decoder, hostile.saved(deep(values, np.float32), "TIFF")) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_float_that_is_no_number(decoder: Decoder, value: float) -> None:
    with pytest.raises(RowFailure, match="NaN or infinite") as caught:
        decoder.decode(hostile.saved(deep([0.0, value, 1.0], np.float32), "TIFF"), None)
    assert caught.value.status == Status.DECODE_CORRUPT


def palette_with_alpha() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    return image


def clear_and_half() -> Image.Image:
    """Left: invisible green. Right: red at half strength."""
    image = Image.new("RGBA", (2, 1), (0, 255, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 128))
    return image


TRANSPARENT = {
    "RGBA png": (hostile.saved(clear_and_half(), "PNG"), [WHITE, (255, 127, 127)]),
    "RGBA tiff": (hostile.saved(clear_and_half(), "TIFF"), [WHITE, (255, 127, 127)]),
    "RGBA webp": (hostile.saved(clear_and_half(), "WEBP", lossless=True, exact=True), [WHITE, (255, 127, 127)]),
    "LA png": (hostile.saved(Image.merge("LA", [Image.new("L", (1, 1), 10), Image.new("L", (1, 1), 0)]), "PNG"), [WHITE]),
    "palette": (hostile.saved(palette_with_alpha(), "PNG"), [RED, (0, 0, 255)]),
    "palette, one clear": (hostile.saved(palette_with_alpha(), "PNG", transparency=0), [WHITE, (0, 0, 255)]),
    "palette, alphas": (hostile.saved(palette_with_alpha(), "PNG", transparency=b"\xff\x00"), [RED, WHITE]),
    "gif, one clear": (hostile.saved(palette_with_alpha(), "GIF", transparency=1), [RED, WHITE]),
    "RGB, clear colour": (hostile.saved(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG", transparency=(1, 2, 3)), [WHITE]),
    "grey, clear value": (hostile.saved(Image.new("L", (1, 1), 9), "PNG", transparency=9), [WHITE]),
    "one bit": (hostile.saved(Image.new("1", (1, 1), 1), "PNG"), [WHITE]),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparency_lies_over_white(decoder: Decoder, name: str) -> None:
    data, expected = TRANSPARENT[name]
    assert [tuple(pixel) for pixel in decoder.decode(data, None).pixels_YX3[0].tolist()] == expected


@pytest.mark.parametrize(("ink", "rgb"), [((0, 0, 0, 0), WHITE), ((0, 255, 255, 0), RED), ((0, 0, 0, 255), BLACK)])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(decoder: Decoder, kind: str, ink: tuple[int, ...], rgb: tuple[int, int, int]) -> None:
    """Pillow writes CMYK JPEG as Adobe does, inverted; read wrongly, white paper would come out black."""
    data = hostile.saved(Image.new("CMYK", (16, 16), ink), kind)
    assert kind == "TIFF" or b"Adobe" in data
    pixel = decoder.decode(data, None).pixels_YX3[8, 8].astype(int)
    assert np.abs(pixel - rgb).max() <= 2


def corner(kind: str = "RGB") -> Image.Image:
    """40 x 24, black, with a coloured corner at the top left of the upright picture."""
    image = Image.new(kind, (40, 24), 0)
    image.paste(RED if kind == "RGB" else 60000, (0, 0, 16, 8))
    return image


def stored_as(value: int, upright: Image.Image) -> Image.Image:
    """The picture as a camera with this orientation stores it: the inverse turn."""
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL.Image.Transpose members
    return upright.transpose(Image.Transpose(inverse[value])) if value in inverse else upright


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_exif_turns_the_planted_corner_up(decoder: Decoder, kind: str, value: int) -> None:
    data = hostile.with_orientation(stored_as(value, corner()), value, kind)
    picture = decoder.decode(data, None)
    assert (picture.width, picture.height) == (40, 24)
    red = picture.pixels_YX3.astype(int)
    assert red[1:7, 1:15, 0].min() > 200
    assert max(red[10:, :, 0].max(), red[:, 18:, 0].max()) < 60
    reference = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert (picture.pixels_YX3 == np.asarray(reference)).all()


def test_exif_turns_16_bit_pictures(decoder: Decoder) -> None:
    upright = Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3) * 2570)
    data = hostile.with_orientation(stored_as(6, upright), 6, "PNG")
    assert decoder.decode(data, None).pixels_YX3[:, :, 0].tolist() == [[0, 10, 20], [30, 40, 50]]


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_odd_orientations_are_ignored(decoder: Decoder, value: int) -> None:
    picture = decoder.decode(hostile.with_orientation(corner(), value), None)
    assert (picture.width, picture.height) == (40, 24)


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 500, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_exif_is_ignored(decoder: Decoder, block: bytes) -> None:
    assert decoder.decode(hostile.saved(corner(), "JPEG", exif=block), None).width == 40


@pytest.mark.parametrize(
    "profile", [b"", b"\0" * 200, b"x" * 2_000_000, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]
)
def test_icc_profiles_do_no_harm(decoder: Decoder, profile: bytes) -> None:
    data = hostile.saved(corner(), "PNG", icc_profile=profile)
    try:
        assert decoder.decode(data, None).pixels_YX3[0, 0].tolist() == list(RED)
    except RowFailure as failure:
        assert (len(profile), failure.status) == (2_000_000, Status.DECODE_TOO_LARGE)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
@pytest.mark.parametrize("page", [None, 0, 1, 4])
def test_pages_and_frames(decoder: Decoder, kind: str, page: int | None) -> None:
    picture = decoder.decode(hostile.animation(kind, 5), page)
    assert picture.pixels_YX3.shape == (18, 24, 3)
    assert (picture.pixels_YX3 == (20 * (page or 0), 0, 0)).all()


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000", "AVIF", "BMP", "PPM", "WEBP"])
def test_formats(decoder: Decoder, kind: str) -> None:
    """Taller than a band, so that a lost or doubled row would show."""
    ramp = np.repeat(np.linspace(0, 255, 600).astype(np.uint8)[:, None], 17, axis=1)
    data = hostile.saved(Image.fromarray(np.dstack([ramp, ramp[::-1], ramp * 0])), kind)
    pixels = decoder.decode(data, None).pixels_YX3.astype(int)
    assert pixels.shape == (600, 17, 3)
    assert np.abs(pixels[:, 8, 0] - ramp[:, 8]).max() <= 16
    assert np.abs(pixels[:, 8, 1] - ramp[::-1, 8]).max() <= 16


def test_palette_index_out_of_range(decoder: Decoder) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette(list(RED))
    data = bytearray(hostile.saved(image, "BMP"))
    data[-4:] = b"\x00\xc8\x00\x00"
    assert decoder.decode(bytes(data), None).pixels_YX3[0, 0].tolist() == list(RED)
