"""A picture file's bytes → upright RGB pixels. Runs in the disposable child: imports Pillow and numpy, nothing heavy."""

import errno
import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (  # the allowed formats, imported here so that Pillow never searches for others
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from schemas.status import RowFailure, Status

PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
_LATE_MODULES = ("copy", "PIL.ImageCms")  # what Pillow imports in the middle of decoding; a locked child could not
_BAND_ROWS = 256
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def prepare_pillow(max_pixels: int) -> None:
    """Process-wide limits: more pixels than allowed are an error, cut files are errors, one thread; nothing left to import."""
    for name in _LATE_MODULES:
        importlib.import_module(name)
    Image.MAX_IMAGE_PIXELS = max_pixels
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def opened(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """The file as Pillow sees it before it reads a pixel, its first picture no larger than allowed. Within `judged`."""
    if name == "WEBP":
        _refuse_webp_canvas(data, max_pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=[name])
    except UnidentifiedImageError:
        raise RowFailure(Status.DECODE_CORRUPT, f"starts as {name}, but its header cannot be read") from None
    refuse_pixels(image.width, image.height, max_pixels)
    return image


def upright(image: Image.Image) -> Image.Image:
    """The page that the image stands at, decoded and turned as its EXIF says, in the file's own mode. Within `judged`."""
    image.load()
    return _turned(image)


@contextmanager
def judged(max_pixels: int) -> Iterator[None]:
    """Whatever the libraries raise becomes a word on the file.

    Raises:
        RowFailure: decode_unsupported, decode_corrupt or decode_too_large.
            decode_crash: Pillow wants a module that is not loaded, which says nothing about the file.
    """
    try:
        yield
    except RowFailure:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise RowFailure(Status.DECODE_TOO_LARGE, f"more than {max_pixels} pixels") from None
    except MemoryError:
        raise _out_of_memory() from None
    except ImportError as error:
        raise RowFailure(Status.DECODE_CRASH, _described(error)) from None
    except Exception as error:  # Pillow raises nearly every built-in error on hostile files
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:  # the pixel memory could not be mapped
            raise _out_of_memory() from None
        if "too large" in str(error):  # text chunks beyond Pillow's limits
            raise RowFailure(Status.DECODE_TOO_LARGE, _described(error)) from None
        raise RowFailure(Status.DECODE_CORRUPT, _described(error)) from None


def _out_of_memory() -> RowFailure:
    return RowFailure(Status.DECODE_TOO_LARGE, "needs more memory than fetch.decode_memory_bytes")


def refuse_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture that is too large, or none at all, by its header."""
    if width * height > max_pixels:
        raise RowFailure(Status.DECODE_TOO_LARGE, f"{width} x {height} pixels, at most {max_pixels} allowed")
    if width < 1 or height < 1:
        raise RowFailure(Status.DECODE_CORRUPT, f"{width} x {height} pixels")


def write_rgb(image: Image.Image, pixels_YX3: NDArray[np.uint8]) -> None:
    """Fill `pixels_YX3` band by band, so that no second whole picture is needed.

    Values of more than 8 bits are scaled, not clipped; transparency is laid over white. ICC profiles are not applied.

    Raises:
        RowFailure: decode_corrupt for pixels that are no finite numbers, decode_unsupported for a mode that cannot be converted.
    """
    try:
        bands = _deep_bands(image) if _is_deep(image) else _shallow_bands(image)
        for top, band_YX3 in bands:
            pixels_YX3[top : top + band_YX3.shape[0]] = band_YX3
    except RowFailure:
        raise
    except MemoryError:
        raise _out_of_memory() from None
    except Exception as error:  # Pillow's conversions raise errors of several libraries
        raise RowFailure(Status.DECODE_UNSUPPORTED, f"mode {image.mode}: {_described(error)}") from None


def _refuse_webp_canvas(data: bytes, max_pixels: int) -> None:
    """WebP's reader reserves the canvas before Pillow can look at its size, so the extended header is read here."""
    if data[12:16] == b"VP8X" and len(data) >= 30:
        width, height = (1 + int.from_bytes(data[start : start + 3], "little") for start in (24, 27))
        refuse_pixels(width, height, max_pixels)


def _turned(image: Image.Image) -> Image.Image:
    """ImageOps.exif_transpose without its rewriting of the EXIF block, which stumbles over broken ones.

    Called after load: TIFF turns itself while loading and then drops the tag.
    """
    turn = orientation(image)
    if turn == 1:
        return image
    info = image.info
    turned = image.transpose(_TURNS[turn])
    turned.info = info
    return turned


def orientation(image: Image.Image) -> int:
    """EXIF's number, 1 (upright) to 8; 1 where none is given. An EXIF block that cannot be read says nothing about the turn."""
    try:
        turn = image.getexif().get(_ORIENTATION_TAG, 1)
        return int(turn) if turn in _TURNS else 1
    except Exception:
        return 1


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _shallow_bands(image: Image.Image) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(first row, RGB rows) of a mode with 8 bits a channel or fewer."""
    transparent = image.has_transparency_data
    for top, band in _bands(image):
        if transparent:
            layer = band.convert("RGBA")
            band = Image.new("RGBA", band.size, (255, 255, 255, 255))
            band.alpha_composite(layer)
        yield top, np.asarray(band if band.mode == "RGB" else band.convert("RGB"))


def _deep_bands(image: Image.Image) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(first row, RGB rows) of a grey picture with more than 8 bits."""
    low, high = _full_range(image)
    key = image.info.get("transparency") if image.mode.startswith("I") else None
    for top, band in _bands(image):
        values = np.asarray(band).astype(np.float64)
        grey = np.clip((values - low) * 255.0 / (high - low) + 0.5, 0, 255).astype(np.uint8)
        if isinstance(key, int):
            grey[values == key] = 255
        yield top, np.repeat(grey[:, :, None], 3, axis=2)


def _full_range(image: Image.Image) -> tuple[float, float]:
    """The values that become 0 and 255.

    Whole numbers: 0 to the largest of their bits (files of 32 bits mostly hold 16-bit scans); floats: 0 to 1.
    Where a picture's values leave that range, its own least and greatest value.
    """
    if image.mode == "F":
        _refuse_unreal(image)
    least, greatest = (float(value) for value in _extrema(image))
    full = 1.0 if image.mode == "F" else float((1 << _bits(image)) - 1)
    if least >= 0 and greatest <= full:
        return 0.0, full
    return (least, greatest) if greatest > least else (least - 1.0, least)


def _bits(image: Image.Image) -> int:
    """Bits per sample of a deep grey TIFF (12-bit scans come as I;16), else 16."""
    stated = getattr(image, "tag_v2", {}).get(258, (16,))
    bits = stated[0] if isinstance(stated, tuple) else stated
    return int(bits) if 8 < int(bits) < 16 else 16


def _extrema(image: Image.Image) -> tuple[Any, Any]:
    bands = [np.asarray(band) for _, band in _bands(image)]
    return min(band.min() for band in bands), max(band.max() for band in bands)


def _refuse_unreal(image: Image.Image) -> None:
    for _, band in _bands(image):
        if not np.isfinite(np.asarray(band)).all():
            raise RowFailure(Status.DECODE_CORRUPT, "pixels that are NaN or infinite")


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    for top in range(0, image.height, _BAND_ROWS):
        band = image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height)))
        band.info = image.info  # a transparent colour is kept there
        yield top, band


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}".rstrip(": ")
