"""Searchable PDF: one file per row, its picture with the words of its regions over it, invisible.

A pixel is 1/300 inch, or less where the page would be larger than readers allow. Pictures are JPEG of quality 90. Words
share their line's box by their characters (words.py). A row whose picture could not be copied is a page of text alone.
"""

import ctypes
import hashlib
import io
import re
import shutil
import struct
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image

from ray_pipeline.delivery.exported_row import ExportedRow, Origin, Written
from ray_pipeline.delivery.formats.blank_font import blank_font, to_unicode
from ray_pipeline.delivery.formats.page_files import PICTURES, page_name, write_pages
from ray_pipeline.delivery.formats.words import Word, is_right_to_left, line_words
from ray_pipeline.delivery.formats.xml_text import writable

POINTS_PER_PX, LONGEST_POINTS = 72 / 300, 14_400.0
QUALITY = 90
_CREATED = re.compile(rb"/CreationDate\(D:[0-9+'Z-]*\)")
_IDENTIFIER = re.compile(rb"/ID\[<[0-9A-F]{32}><[0-9A-F]{32}>\]")


def write_searchable_pdf(folder: Path, rows: Iterable[ExportedRow], origin: Origin) -> Written:
    """Write one file per row and pages.jsonl. The copies of the pictures are taken in, and removed."""
    written = write_pages(folder, rows, "pdf", partial(_page, folder))
    shutil.rmtree(folder / PICTURES, ignore_errors=True)
    return written


def _page(folder: Path, row: ExportedRow) -> bytes:
    copy = folder / PICTURES / page_name(row.number, "png")
    if not copy.is_file():
        return pdf_page(row, None)
    packed = io.BytesIO()
    with Image.open(copy) as picture:
        picture.save(packed, "JPEG", quality=QUALITY, subsampling=0)
    copy.unlink()
    return pdf_page(row, packed.getvalue())


def pdf_page(row: ExportedRow, picture_jpeg: bytes | None) -> bytes:
    """The file. `picture_jpeg` is the upright picture, of any size: it fills the page."""
    width, height = row.size_px
    scale = min(POINTS_PER_PX, LONGEST_POINTS / max(width, height))
    lines = [line_words(writable(region.text), region.box_px) for region in row.regions if region.text is not None]
    document = pypdfium2.PdfDocument.new()
    try:
        page = document.new_page(width * scale, height * scale)
        if picture_jpeg is not None:
            image = pypdfium2.PdfImage.new(document)
            image.load_jpeg(io.BytesIO(picture_jpeg), inline=True)
            image.set_matrix(pypdfium2.PdfMatrix().scale(width * scale, height * scale))
            page.insert_obj(image)
        _write(document, page, [run for words in lines for run in _runs(words)], scale, height)
        page.gen_content()
        saved = io.BytesIO()
        document.save(saved)
    finally:
        document.close()
    return _timeless(saved.getvalue())


def _timeless(data: bytes) -> bytes:
    """The file without the time that PDFium wrote into it, and made its identifier of; everything stays in its place."""
    data = _CREATED.sub(lambda found: b"/Producer(" + b"fovea".ljust(len(found[0]) - 11) + b")", data, count=1)
    *_, standing = _IDENTIFIER.finditer(data)
    name = hashlib.sha256(data[: standing.start()]).hexdigest()[:32].upper().encode()
    return data[: standing.start()] + b"/ID[<" + name + b"><" + name + b">]" + data[standing.end() :]


def _runs(words: Sequence[Word]) -> list[Word]:
    """Words as they are written: with the space that follows them, since some readers know no other.

    Readers expect characters in the order of their places on the page, and turn right-to-left words around.
    """
    runs = []
    for word, follower in zip_longest(words, words[1:]):
        x0, y0, x1, y1 = word.box_px
        text = word.text[::-1] if is_right_to_left(word.text) else word.text
        space = (x1 - x0) / len(text)
        if follower is None:
            runs.append(Word(text, word.box_px))
        elif follower.box_px[0] < x0:
            runs.append(Word(f" {text}", (x0 - space, y0, x1, y1)))
        else:
            runs.append(Word(f"{text} ", (x0, y0, x1 + space, y1)))
    return runs


def _write(document: Any, page: Any, words: Sequence[Word], scale: float, height: int) -> None:
    codes = {character: code for code, character in enumerate(sorted({one for word in words for one in word.text}), 1)}
    if not codes:
        return
    font = _font(document, list(codes))
    for word in words:
        x0, y0, x1, y1 = (edge * scale for edge in word.box_px)
        text = pdfium.FPDFPageObj_CreateTextObj(document.raw, font, 1.0)
        chosen = [codes[character] for character in word.text]
        if not pdfium.FPDFText_SetCharcodes(text, (ctypes.c_uint32 * len(chosen))(*chosen), len(chosen)):
            raise ValueError(f"PDFium does not take a word of {len(chosen)} characters")
        pdfium.FPDFTextObj_SetTextRenderMode(text, pdfium.FPDF_TEXTRENDERMODE_INVISIBLE)
        pdfium.FPDFPageObj_Transform(text, (x1 - x0) / len(chosen), 0, 0, y1 - y0, x0, height * scale - y1)
        pdfium.FPDFPage_InsertObject(page.raw, text)
    pdfium.FPDFFont_Close(font)


def _font(document: Any, characters: Sequence[str]) -> Any:
    data, glyphs = blank_font(), struct.pack(f">{len(characters) + 1}H", 0, *[1] * len(characters))
    buffers = [(ctypes.c_uint8 * len(one)).from_buffer_copy(one) for one in (data, glyphs)]
    font = pdfium.FPDFText_LoadCidType2Font(
        document.raw, buffers[0], len(data), to_unicode(characters).encode("ascii"), buffers[1], len(glyphs)
    )
    if not font:
        raise ValueError("PDFium does not take the font of blanks")
    return font
