"""Pages too large for the memory: read band by band by libvips, straight to where the pixels are to lie.

Runs in the disposable child, which loads the library before it is locked in. libvips reads in the calling thread here and
starts none. What a picture's numbers mean stays with `pixels`: bands come out as Pillow would show them.
"""

import importlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ray_pipeline.intake.canvas import Canvas
from ray_pipeline.intake.pixels import orientation, write_rgb
from schemas.status import RowFailure, Status

_BAND_BYTES = 8 << 20  # of a band as RGB
# Pillow's modes that come out alike, and their channels: further ones mean nothing, but where a colour counts as transparent.
_MODES = {"1": 1, "L": 1, "LA": 2, "P": 4, "RGB": 3, "RGBA": 4, "CMYK": 4, "I;16": 1, "I;16B": 1}
_BITS = frozenset({1, 8, 16})
_BITS_TAG, _EXTRA_TAG, _PREMULTIPLIED = 258, 338, 1
_LOADERS = {"TIFF": "tiffload_source", "JPEG": "jpegload_source", "MPO": "jpegload_source", "PNG": "pngload_source"}
_ALLOWED = ("VipsForeignLoadTiff", "VipsForeignLoadJpeg", "VipsForeignLoadPng")
_vips: Any = importlib.import_module("pyvips")  # without types


def prepare_libvips() -> None:
    """Nothing but the three formats, nothing kept, nothing left to load: each of them is read once.

    Raises:
        pyvips.Error: this libvips was built without one of them.
    """
    _vips.vips_lib.vips_concurrency_set(1)
    _vips.cache_set_max(0)
    _vips.operation_block_set("VipsForeignLoad", True)
    for name in _ALLOWED:
        _vips.operation_block_set(name, False)
    for name in ("TIFF", "JPEG", "PNG"):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, name)
        _vips.Region.new(_loaded(file.getvalue(), name)).fetch(0, 0, 8, 8)


class BandedPage:
    """A page of which Pillow has read the header. `width` and `height` are those of the upright page.

    Raises:
        RowFailure: decode_too_large where the page is of a kind that cannot be read in bands; decode_corrupt.
    """

    def __init__(self, header: Image.Image, file: bytes, name: str) -> None:
        _refuse_kinds(header)
        self._turn = orientation(header)
        self._mode = header.mode
        self._channels = 4 if "transparency" in header.info else _MODES[header.mode]
        self._image = _loaded(file, name)
        size = self._image.width, self._image.height
        if sorted(size) != sorted(header.size) or self._image.format not in ("uchar", "ushort"):
            what = f"{size[0]} x {size[1]} {self._image.format}"
            raise RowFailure(Status.DECODE_CORRUPT, f"read as {what}, its header says {header.width} x {header.height}")
        self.width, self.height = size if self._turn < 5 else size[::-1]

    def write(self, canvas: Canvas) -> None:
        """Fill the canvas. A page that breaks off leaves it as far as it was read.

        Raises:
            MemoryError: libvips asked for more than allowed.
            pyvips.Error: anything else that it stumbles over.
        """
        width, height = self._image.width, self._image.height
        region = _vips.Region.new(self._image)
        rows = max(1, _BAND_BYTES // (3 * width))
        for top in range(0, height, rows):
            count = min(rows, height - top)
            self._put(canvas, top, self._shown(_fetched(region, top, width, count), count))

    def _shown(self, band: Any, rows: int) -> NDArray[np.uint8]:
        """RGB, or one channel of grey."""
        shape = rows, self._image.width, self._image.bands
        if self._image.format == "uchar":
            shallow_YXC = np.frombuffer(band, np.uint8).reshape(shape)
        else:
            deep_YXC = np.frombuffer(band, np.uint16).reshape(shape)
            if self._mode.startswith("I;16"):
                return _rgb(Image.fromarray(deep_YXC[:, :, 0]))
            shallow_YXC = (deep_YXC >> 8).astype(np.uint8)
        shown_YXC = shallow_YXC[:, :, : self._channels]
        channels = shown_YXC.shape[2]
        if channels in (1, 3):
            return shown_YXC
        return _rgb(Image.fromarray(shown_YXC, "LA" if channels == 2 else "CMYK" if self._mode == "CMYK" else "RGBA"))

    def _put(self, canvas: Canvas, top: int, band_YXC: NDArray[np.uint8]) -> None:
        """The band as its rows lie in the file, turned to where they lie upright."""
        turn, place = self._turn, top
        if turn in (3, 4, 6, 7):
            band_YXC, place = band_YXC[::-1], self._image.height - top - len(band_YXC)
        if turn in (2, 3, 7, 8):
            band_YXC = band_YXC[:, ::-1]
        if turn < 5:
            canvas.put(0, place, band_YXC)
        else:
            canvas.put(place, 0, band_YXC.transpose(1, 0, 2))


def _refuse_kinds(header: Image.Image) -> None:
    """What libvips would show otherwise than Pillow does."""
    tags = getattr(header, "tag_v2", {})
    bits, extra = tags.get(_BITS_TAG, (8,)), tags.get(_EXTRA_TAG, ())
    deep_key = header.mode.startswith("I") and "transparency" in header.info
    if header.mode not in _MODES or not _BITS.issuperset(bits) or _PREMULTIPLIED in extra or deep_key:
        what = f"{header.width} x {header.height} pixels of mode {header.mode}"
        raise RowFailure(Status.DECODE_TOO_LARGE, f"{what}, a kind that is not read in bands")


def _loaded(file: bytes, name: str) -> Any:
    load = getattr(_vips.Image, _LOADERS[name])
    # A strip may be the whole page, and libvips would allow some 50 MB for it; this process has a limit of its own.
    further = {"unlimited": True} if name == "TIFF" else {}
    return load(_vips.Source.new_from_memory(file), access="sequential", fail_on="error", **further)


def _fetched(region: Any, top: int, width: int, rows: int) -> Any:
    try:
        return region.fetch(0, top, width, rows)
    except _vips.Error as error:
        if "memory" in str(error).lower():
            raise MemoryError from None
        raise


def _rgb(band: Image.Image) -> NDArray[np.uint8]:
    shown_YX3 = np.empty((band.height, band.width, 3), np.uint8)
    write_rgb(band, shown_YX3)
    return shown_YX3
