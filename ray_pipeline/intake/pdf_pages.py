"""Pages of a PDF, rendered by PDFium. Runs in the disposable child, which loads the library before it is locked in."""

import ctypes
import importlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.status import RowFailure, Status

LOWEST_DPI = 72  # one pixel a point: below it nothing can be read, and pages that were made from scans lose pixels
# A2 at 300 dots per inch. Beyond it a page has fewer of them: most such pages are scans whose pixels were taken for points,
# and would fill the memory with what was never in them.
AMPLE_PIXELS = 35_000_000
_PASSWORD, _SECURITY = 4, 5
_pdfium: Any = importlib.import_module("pypdfium2_raw")  # generated, without types


def prepare_pdfium() -> None:
    """Start the library, without the fonts of this machine: what a page looks like must not depend on them."""
    no_folders = (ctypes.c_char_p * 1)(None)
    folders = ctypes.cast(no_folders, _pdfium.FPDF_LIBRARY_CONFIG().m_pUserFontPaths.__class__)
    _pdfium.FPDF_InitLibraryWithConfig(_pdfium.FPDF_LIBRARY_CONFIG(version=2, m_pUserFontPaths=folders))


class PdfPages:
    """An open PDF. `file` is looked at where it lies and must stay as it is.

    Raises:
        RowFailure: decode_unsupported where a password is needed, decode_corrupt where it cannot be read at all.
    """

    def __init__(self, file: NDArray[np.uint8]) -> None:
        self._file = file
        self._document = _pdfium.FPDF_LoadMemDocument64(ctypes.c_void_p(file.ctypes.data), file.size, None)
        if not self._document:
            raise _refusal(int(_pdfium.FPDF_GetLastError()))
        self._form_facts = _pdfium.FPDF_FORMFILLINFO(version=2)  # no callbacks, so nothing can be done but drawing
        has_form = _pdfium.FPDF_GetFormType(self._document) != _pdfium.FORMTYPE_NONE
        self._form = _pdfium.FPDFDOC_InitFormFillEnvironment(self._document, self._form_facts) if has_form else None
        self.pages = int(_pdfium.FPDF_GetPageCount(self._document))

    def close(self) -> None:
        """Give the library's memory back."""
        if self._form:
            _pdfium.FPDFDOC_ExitFormFillEnvironment(self._form)
        _pdfium.FPDF_CloseDocument(self._document)

    def page(self, number: int, dpi: int, max_pixels: int) -> "PdfPage":
        """A page, not rendered yet. Close it before the document.

        Raises:
            RowFailure: decode_corrupt or decode_too_large.
        """
        page = _pdfium.FPDF_LoadPage(self._document, number)
        if not page:
            raise RowFailure(Status.DECODE_CORRUPT, f"page {number} of the PDF cannot be read")
        try:
            size_pt = float(_pdfium.FPDF_GetPageWidthF(page)), float(_pdfium.FPDF_GetPageHeightF(page))
            return PdfPage(page, self._form, *pixel_size(size_pt, dpi, max_pixels))
        except RowFailure:
            _pdfium.FPDF_ClosePage(page)
            raise


class PdfPage:
    """One page and the size in pixels at which it will be rendered."""

    def __init__(self, page: Any, form: Any, width: int, height: int) -> None:
        self._page, self._form, self.width, self.height = page, form, width, height
        if form:
            _pdfium.FORM_OnAfterLoadPage(page, form)

    def write(self, pixels_YX3: NDArray[np.uint8]) -> None:
        """Render over white, straight into the array, with annotations and what forms are filled with.

        Raises:
            RowFailure: decode_too_large, where the library refuses an array of this size.
        """
        width, height = self.width, self.height
        place = ctypes.c_void_p(pixels_YX3.ctypes.data)
        bitmap = _pdfium.FPDFBitmap_CreateEx(width, height, _pdfium.FPDFBitmap_BGR, place, 3 * width)
        if not bitmap:
            raise RowFailure(Status.DECODE_TOO_LARGE, f"PDFium renders no page of {width} x {height} pixels")
        flags = _pdfium.FPDF_ANNOT | _pdfium.FPDF_REVERSE_BYTE_ORDER
        try:
            _pdfium.FPDFBitmap_FillRect(bitmap, 0, 0, width, height, 0xFFFFFFFF)
            _pdfium.FPDF_RenderPageBitmap(bitmap, self._page, 0, 0, width, height, 0, flags)
            if self._form:
                _pdfium.FPDF_FFLDraw(self._form, bitmap, self._page, 0, 0, width, height, 0, flags)
        finally:
            _pdfium.FPDFBitmap_Destroy(bitmap)

    def close(self) -> None:
        """Give the library's memory back."""
        if self._form:
            _pdfium.FORM_OnBeforeClosePage(self._page, self._form)
        _pdfium.FPDF_ClosePage(self._page)


def pixel_size(size_pt: tuple[float, float], dpi: int, max_pixels: int) -> tuple[int, int]:
    """(width, height) in pixels of a page of this size in points: at `dpi`, or at as many as give it `AMPLE_PIXELS`.

    Raises:
        RowFailure: decode_too_large, where even `LOWEST_DPI` give more than `max_pixels`; decode_corrupt for one without a size.
    """
    if not all(math.isfinite(side) and side > 0 for side in size_pt):
        raise RowFailure(Status.DECODE_CORRUPT, f"a page of {size_pt[0]:g} x {size_pt[1]:g} points")
    lowest, ample = min(dpi, LOWEST_DPI), min(max_pixels, AMPLE_PIXELS)
    chosen = dpi if _area(size_pt, dpi) <= ample else math.isqrt(int(72 * 72 * ample / (size_pt[0] * size_pt[1])))
    while chosen > lowest and _area(size_pt, chosen) > ample:  # rounding up can be a pixel too many
        chosen -= 1
    width, height = _pixels(size_pt, max(chosen, lowest))
    if width * height > max_pixels:
        raise RowFailure(
            Status.DECODE_TOO_LARGE, f"{width} x {height} pixels at {lowest} dots per inch, at most {max_pixels} allowed"
        )
    return width, height


def _pixels(size_pt: tuple[float, float], dpi: int) -> tuple[int, int]:
    width, height = (max(1, math.floor(side * dpi / 72 + 0.5)) for side in size_pt)
    return width, height


def _area(size_pt: tuple[float, float], dpi: int) -> int:
    width, height = _pixels(size_pt, dpi)
    return width * height


def _refusal(error: int) -> RowFailure:
    if error == _PASSWORD:
        return RowFailure(Status.DECODE_UNSUPPORTED, "the PDF is encrypted and asks for a password")
    if error == _SECURITY:
        return RowFailure(Status.DECODE_UNSUPPORTED, "the PDF is encrypted in a way that is not known")
    return RowFailure(Status.DECODE_CORRUPT, f"starts as PDF, but cannot be read as one (PDFium error {error})")
