"""A picture file or document that is open in the disposable child: its pages are counted at once and decoded one by one.

What counts as a page when a document is taken apart: each directory of a TIFF, each frame of an animation, each page of a
PDF. The further pictures of a JPEG (the other eye, a gain map, a preview) are no pages, but can be asked for by number.
"""

import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, MpoImagePlugin

from ray_pipeline.intake.canvas import Canvas
from ray_pipeline.intake.image_format import likeness, sniffed
from ray_pipeline.intake.pixels import judged, opened, refuse_pixels, upright, write_rgb
from ray_pipeline.intake.tiff_directories import alone, directories
from schemas.status import RowFailure, Status

Write = Callable[[int, int], NDArray[np.uint8]]  # width, height -> the array (height, width, 3) to be filled
Paint = Callable[[int, int], Canvas]  # the same for a page that is read in bands
_BANDED = frozenset({"TIFF", "JPEG", "PNG"})


@dataclass(frozen=True)
class PageLimits:
    """What a page may be: `fetch.max_pixels`, `fetch.max_pages`, `fetch.pdf_dpi`; 0 for the last one where PDFs are not read.

    `huge_pixels`: of a page that can be read in bands; 0 where none is.
    """

    max_pixels: int
    max_pages: int
    pdf_dpi: int
    huge_pixels: int = 0

    def most_pixels(self, name: str) -> int:
        """The largest page of a file of that format."""
        return max(self.max_pixels, self.huge_pixels) if name in _BANDED else self.max_pixels

    def is_huge(self, image: Image.Image, name: str) -> bool:
        """Whether it is to be read in bands."""
        return self.max_pixels < image.width * image.height <= self.most_pixels(name)


class OpenedFile:
    """`pages` is how many result rows the file is when it is taken apart.

    Raises:
        RowFailure: the file as a whole cannot be used.
    """

    def __init__(self, file: mmap.mmap | bytes, limits: PageLimits) -> None:
        head, view = bytes(file[:64]), memoryview(file)
        if not head:
            raise RowFailure(Status.DECODE_CORRUPT, "empty file")
        name = sniffed(head[:16])
        if name is None:
            raise RowFailure(Status.DECODE_UNSUPPORTED, f"no allowed picture format ({likeness(head)})")
        if name == "PDF" and not limits.pdf_dpi:
            raise RowFailure(Status.DECODE_UNSUPPORTED, "a PDF, which is read only where the setting fetch.pdf is true")
        kind = _KINDS.get(name, _Frames)
        with judged(max(limits.max_pixels, limits.huge_pixels)):
            self._reader: _Reader = kind(view, name, limits)
        if self._reader.numbered > limits.max_pages:
            shown = f"at least {limits.max_pages + 1}" if name == "TIFF" else self._reader.numbered
            self._reader.close()
            raise RowFailure(Status.DECODE_TOO_LARGE, f"{shown} pages, at most {limits.max_pages} allowed")
        self.pages, self._limits = self._reader.pages, limits

    def write(self, page: int, target: Write, paint: Paint | None = None) -> tuple[int, int]:
        """Decode the page into the array that `target` makes for it; (width, height) in pixels.

        A page of more than `max_pixels` goes onto the canvas that `paint` makes for it, or nowhere, where that is null.

        Raises:
            RowFailure: of this page alone.
        """
        numbered = self._reader.numbered
        if not 0 <= page < numbered:
            raise RowFailure(Status.DECODE_CORRUPT, f"page {page} asked, the file has {numbered} (the first is 0)")
        with judged(max(self._limits.max_pixels, self._limits.huge_pixels)):
            return self._reader.write(page, target, paint)

    def close(self) -> None:
        """Give back what the libraries hold."""
        self._reader.close()


class _Reader(ABC):
    """One way to hold a file open. `numbered` pages can be asked for, `pages` of them make up the document."""

    numbered: int
    pages: int

    @abstractmethod
    def __init__(self, file: memoryview, name: str, limits: PageLimits) -> None: ...

    @abstractmethod
    def write(self, page: int, target: Write, paint: Paint | None) -> tuple[int, int]: ...

    def close(self) -> None:  # noqa: B027  # a default, not a gap
        """Nothing, where memory is all that is held."""


class _Frames(_Reader):
    """A picture or an animation: Pillow goes from frame to frame, forward without going over the earlier ones again."""

    def __init__(self, file: memoryview, name: str, limits: PageLimits) -> None:
        self._data, self._name, self._limits = bytes(file), name, limits
        self._image: Image.Image | None = opened(self._data, name, limits.most_pixels(name))
        self.numbered = int(getattr(self._image, "n_frames", 1))
        self.pages = 1 if isinstance(self._image, MpoImagePlugin.MpoImageFile) else self.numbered

    def write(self, page: int, target: Write, paint: Paint | None) -> tuple[int, int]:
        image = self._image or opened(self._data, self._name, self._limits.most_pixels(self._name))
        self._image = None  # one that has stumbled over a frame is opened anew
        if page or self.numbered > 1:
            image.seek(page)
        if self.pages == 1 and page == 0 and self._limits.is_huge(image, self._name):
            size = _painted(image, self._data, self._name, self._limits, paint)
        else:
            size = _written(image, self._limits.max_pixels, target)
        self._image = image
        return size


class _Directories(_Reader):
    """A TIFF: each page is opened as if it were the first, so that a broken one is in nobody's way."""

    def __init__(self, file: memoryview, name: str, limits: PageLimits) -> None:
        self._file, self._limits = file, limits
        self._directories = directories(file, limits.max_pages)
        self.numbered = self.pages = len(self._directories)

    def write(self, page: int, target: Write, paint: Paint | None) -> tuple[int, int]:
        directory, limits = self._directories[page], self._limits
        if directory >= len(self._file):
            raise RowFailure(Status.DECODE_CORRUPT, f"page {page} would begin at byte {directory} of {len(self._file)}")
        data = alone(self._file, directory)
        image = opened(data, "TIFF", limits.most_pixels("TIFF"))
        if limits.is_huge(image, "TIFF"):
            return _painted(image, data, "TIFF", limits, paint)
        return _written(image, limits.max_pixels, target)


class _Pdf(_Reader):
    """A PDF, whose pages have no pixels of their own: they are rendered."""

    def __init__(self, file: memoryview, name: str, limits: PageLimits) -> None:
        from ray_pipeline.intake.pdf_pages import PdfPages  # loaded before the process was locked in, where it is wanted

        self._limits, self._pdf = limits, PdfPages(np.frombuffer(file, np.uint8))
        self.numbered = self.pages = self._pdf.pages
        if self.pages < 1:
            self.close()
            raise RowFailure(Status.DECODE_CORRUPT, "a PDF without pages")

    def write(self, page: int, target: Write, paint: Paint | None) -> tuple[int, int]:
        with closing(self._pdf.page(page, self._limits.pdf_dpi, self._limits.max_pixels)) as one:
            one.write(target(one.width, one.height))
            return one.width, one.height

    def close(self) -> None:
        self._pdf.close()


_KINDS: dict[str, type[_Reader]] = {"TIFF": _Directories, "PDF": _Pdf}


def _painted(image: Image.Image, data: bytes, name: str, limits: PageLimits, paint: Paint | None) -> tuple[int, int]:
    from ray_pipeline.intake.bands import BandedPage  # loaded before the process was locked in, where it is wanted

    page = BandedPage(image, data, name)
    refuse_pixels(page.width, page.height, limits.huge_pixels)
    if paint is not None:
        page.write(paint(page.width, page.height))
    return page.width, page.height


def _written(image: Image.Image, max_pixels: int, target: Write) -> tuple[int, int]:
    refuse_pixels(image.width, image.height, max_pixels)  # pages differ in size
    turned = upright(image)
    write_rgb(turned, target(turned.width, turned.height))
    return turned.width, turned.height
