"""hOCR 1.2: one XHTML file per row, a page of lines of words. Boxes are whole pixels, as the format asks: the nearest.

A region with text is a line; words share its box by their characters (words.py) and carry its confidence (`x_wconf`, in
percent). A region without text is an `ocr_float`. Labels and kinds stand in `data-label` and `data-kind`.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from ray_pipeline.delivery.exported_row import ExportedRow, Origin, Written
from ray_pipeline.delivery.formats.page_files import write_pages
from ray_pipeline.delivery.formats.words import Word, is_right_to_left, line_words
from ray_pipeline.delivery.formats.xml_text import xml_attribute, xml_text
from schemas.picture import Box
from schemas.result import Region

# A title separates its properties by ; and quotes by ", and has no escape for either.
_UNQUOTABLE = re.compile('[\x00-\x20\x7f-\xa0";\\\\\u2028\u2029\ufffe\uffff]')
_POLICY = "default-src 'none'"  # should a browser open it


def write_hocr(folder: Path, rows: Iterable[ExportedRow], origin: Origin) -> Written:
    """Write one file per row and pages.jsonl."""
    return write_pages(folder, rows, "hocr", lambda row: hocr_page(row, origin).encode())


def hocr_page(row: ExportedRow, origin: Origin) -> str:
    """The whole document."""
    width, height = row.size_px
    title = f'image "{quotable(row.image)}"; bbox 0 0 {width} {height}; ppageno {row.page or 0}'
    regions = "\n".join(_region(number, region) for number, region in enumerate(row.regions, 1))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>\n'
        '<html xmlns="http://www.w3.org/1999/xhtml">\n<head>\n'
        f'<meta http-equiv="Content-Security-Policy" content={xml_attribute(_POLICY)}/>\n'
        f"<title>{xml_text(row.id)}</title>\n"
        '<meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>\n'
        f'<meta name="ocr-system" content={xml_attribute(f"fovea {origin.version}, {origin.model}")}/>\n'
        '<meta name="ocr-capabilities" content="ocr_page ocr_line ocrx_word ocr_float ocrp_wconf ocrp_dir"/>\n'
        '<meta name="ocr-langs" content="unknown"/>\n'
        f'</head>\n<body>\n<div class="ocr_page" id="page_1" title={xml_attribute(title)}>\n'
        f"{regions}\n</div>\n</body>\n</html>\n"
    )


def quotable(address: str) -> str:
    """The address with what a quoted property cannot hold percent-encoded."""
    return _UNQUOTABLE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), address)


def _region(number: int, region: Region) -> str:
    facts = f"data-kind={xml_attribute(region.kind)}"
    if region.label is not None:
        facts += f" data-label={xml_attribute(region.label)}"
    if region.text is None:
        return f'<div class="ocr_float" id="float_{number}" title="{_bbox(region.box_px)}" {facts}></div>'
    if is_right_to_left(region.text):
        facts += ' dir="rtl"'
    words = line_words(region.text, region.box_px)
    said = " ".join(_word(f"word_{number}_{place}", word, region.confidence) for place, word in enumerate(words, 1))
    return f'<span class="ocr_line" id="line_{number}" title="{_bbox(region.box_px)}" {facts}>{said}</span>'


def _word(name: str, word: Word, confidence: float | None) -> str:
    sure = "" if confidence is None else f"; x_wconf {round(100 * confidence)}"
    return f'<span class="ocrx_word" id="{name}" title="{_bbox(word.box_px)}{sure}">{xml_text(word.text)}</span>'


def _bbox(box_px: Box) -> str:
    return "bbox " + " ".join(str(round(edge)) for edge in box_px)
