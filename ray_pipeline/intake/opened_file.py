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

from ray_pipeline.intake.image_format import likeness, sniffed
from ray_pipeline.intake.pixels import judged, opened, refuse_pixels, upright, write_rgb
from ray_pipeline.intake.tiff_directories import as_first, directories
from schemas.status import RowFailure, Status

Write = Callable[[int, int], NDArray[np.uint8]]  # width, height -> the array (height, width, 3) to be filled


@dataclass(frozen=True)
class PageLimits:
    """What a page may be: `fetch.max_pixels`, `fetch.max_pages`, `fetch.pdf_dpi`; 0 for the last one where PDFs are not read."""

    max_pixels: int
    max_pages: int
    pdf_dpi: int


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
        with judged(limits.max_pixels):
            self._reader: _Reader = kind(view, name, limits)
        if self._reader.numbered > limits.max_pages:
            shown = f"at least {limits.max_pages + 1}" if name == "TIFF" else self._reader.numbered
            self._reader.close()
            raise RowFailure(Status.DECODE_TOO_LARGE, f"{shown} pages, at most {limits.max_pages} allowed")
        self.pages, self._limits = self._reader.pages, limits

    def write(self, page: int, target: Write) -> tuple[int, int]:
        """Decode the page into the array that `target` makes for it; (width, height) in pixels.

        Raises:
            RowFailure: of this page alone.
        """
        numbered = self._reader.numbered
        if not 0 <= page < numbered:
            raise RowFailure(Status.DECODE_CORRUPT, f"page {page} asked, the file has {numbered} (the first is 0)")
        with judged(self._limits.max_pixels):
            return self._reader.write(page, target)

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
    def write(self, page: int, target: Write) -> tuple[int, int]: ...

    def close(self) -> None:  # noqa: B027  # a default, not a gap
        """Nothing, where memory is all that is held."""


class _Frames(_Reader):
    """A picture or an animation: Pillow goes from frame to frame, forward without going over the earlier ones again."""

    def __init__(self, file: memoryview, name: str, limits: PageLimits) -> None:
        self._data, self._name, self._limits = bytes(file), name, limits
        self._image: Image.Image | None = opened(self._data, name, limits.max_pixels)
        self.numbered = int(getattr(self._image, "n_frames", 1))
        self.pages = 1 if isinstance(self._image, MpoImagePlugin.MpoImageFile) else self.numbered

    def write(self, page: int, target: Write) -> tuple[int, int]:
        image = self._image or opened(self._data, self._name, self._limits.max_pixels)
        self._image = None  # one that has stumbled over a frame is opened anew
        if page or self.numbered > 1:
            image.seek(page)
        size = _written(image, self._limits.max_pixels, target)
        self._image = image
        return size


class _Directories(_Reader):
    """A TIFF: each page is opened as if it were the first, so that a broken one is in nobody's way."""

    def __init__(self, file: memoryview, name: str, limits: PageLimits) -> None:
        self._file, self._limits = file, limits
        self._directories = directories(file, limits.max_pages)
        self.numbered = self.pages = len(self._directories)

    def write(self, page: int, target: Write) -> tuple[int, int]:
        directory = self._directories[page]
        if directory >= len(self._file):
            raise RowFailure(Status.DECODE_CORRUPT, f"page {page} would begin at byte {directory} of {len(self._file)}")
        data = bytes(self._file) if page == 0 else as_first(self._file, directory)
        return _written(opened(data, "TIFF", self._limits.max_pixels), self._limits.max_pixels, target)


class _Pdf(_Reader):
    """A PDF, whose pages have no pixels of their own: they are rendered."""

    def __init__(self, file: memoryview, name: str, limits: PageLimits) -> None:
        from ray_pipeline.intake.pdf_pages import PdfPages  # loaded before the process was locked in, where it is wanted

        self._limits, self._pdf = limits, PdfPages(np.frombuffer(file, np.uint8))
        self.numbered = self.pages = self._pdf.pages
        if self.pages < 1:
            self.close()
            raise RowFailure(Status.DECODE_CORRUPT, "a PDF without pages")

    def write(self, page: int, target: Write) -> tuple[int, int]:
        with closing(self._pdf.page(page, self._limits.pdf_dpi, self._limits.max_pixels)) as one:
            one.write(target(one.width, one.height))
            return one.width, one.height

    def close(self) -> None:
        self._pdf.close()


_KINDS: dict[str, type[_Reader]] = {"TIFF": _Directories, "PDF": _Pdf}


def _written(image: Image.Image, max_pixels: int, target: Write) -> tuple[int, int]:
    refuse_pixels(image.width, image.height, max_pixels)  # pages differ in size
    turned = upright(image)
    write_rgb(turned, target(turned.width, turned.height))
    return turned.width, turned.height
