"""Exports read back by other people's parsers, as what they say: pages of regions with text, label, confidence and box."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from lxml import etree

from schemas.picture import Box

ALTO_SCHEMA = Path(__file__).parents[1] / "reference/alto/alto-4-3.xsd"
ALTO = "{http://www.loc.gov/standards/alto/ns-v4#}"


@dataclass
class ReadRegion:
    """What a file says of one region; a label that is the category of a region without one is that.

    `attributes` are what was said of it beside text and kind, by name.
    """

    box_px: Box
    text: str | None
    label: str | None
    confidence: float | None
    words: list[tuple[str, Box]] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass
class ReadPage:
    """What a file says of one row."""

    image: str
    size_px: tuple[float, float]
    regions: list[ReadRegion] = field(default_factory=list)


def coco_pages(path: Path) -> list[ReadPage]:
    """By the loader and the index of the COCO tools."""
    from faster_coco_eval import COCO

    coco = COCO(str(path))
    pages = []
    for number in coco.getImgIds():
        (image,) = coco.loadImgs([number])
        page = ReadPage(image["file_name"], (image["width"], image["height"]))
        for one in coco.loadAnns(coco.getAnnIds(imgIds=[number])):
            x, y, width, height = one["bbox"]
            (kind,) = coco.loadCats([one["category_id"]])
            box = (x, y, x + width, y + height)
            said = {name: text for name, text in one["attributes"].items() if name not in ("kind", "text")}
            region = ReadRegion(box, one["attributes"].get("text"), kind["name"], one.get("score"), attributes=said)
            page.regions.append(region)
        pages.append(page)
    return pages


def label_studio_pages(folder: Path) -> list[ReadPage]:
    """By the rules of Label Studio's documentation: percent of the original size, results of one id are one region."""
    interface = etree.fromstring((folder / "labelling.xml").read_bytes())
    known = {one.get("value") for one in interface.iter("Label")}
    controls = {one.get("name"): one for one in interface.iter("RectangleLabels", "TextArea")}
    (shown,) = interface.iter("Image")
    return [_task_page(task, known, controls, shown) for task in json.loads((folder / "tasks.json").read_text("utf-8"))]


def _task_page(task: dict[str, Any], known: set[str | None], controls: dict[Any, Any], shown: Any) -> ReadPage:
    (prediction,) = task["predictions"]
    page, found = ReadPage(task["data"][shown.get("value").removeprefix("$")], (0, 0)), dict[str, ReadRegion]()
    for one in prediction["result"]:
        assert one["to_name"] == shown.get("name")
        assert controls[one["from_name"]].tag.lower() == one["type"]
        value, page.size_px = one["value"], (one["original_width"], one["original_height"])
        if one["type"] == "rectanglelabels":
            (label,) = value["rectanglelabels"]
            assert label in known
            found[one["id"]] = ReadRegion(_from_percent(value, page.size_px), None, label, one.get("score"))
        else:
            (text,) = value["text"]
            if one["from_name"] == "transcription":
                found[one["id"]].text = text
            else:
                found[one["id"]].attributes[one["from_name"].removeprefix("attribute ")] = text
            assert _from_percent(value, page.size_px) == found[one["id"]].box_px
    page.regions = list(found.values())
    return page


def _from_percent(value: dict[str, Any], size_px: tuple[float, float]) -> Box:
    width, height = size_px
    x, y = value["x"] * width / 100, value["y"] * height / 100
    return x, y, x + value["width"] * width / 100, y + value["height"] * height / 100


def alto_page_of(data: bytes) -> ReadPage:
    """By lxml; the file must follow the schema of the Library of Congress."""
    document = etree.fromstring(data)
    alto_schema().assertValid(document)
    (page,) = document.iter(f"{ALTO}Page")
    labels = {tag.get("ID"): tag.get("LABEL") for tag in document.iter(f"{ALTO}LayoutTag")}
    image = document.findtext(f".//{ALTO}fileName") or ""
    read = ReadPage(image, (float(page.get("WIDTH")), float(page.get("HEIGHT"))))
    for block in page.iter(f"{ALTO}TextBlock", f"{ALTO}Illustration"):
        strings = list(block.iter(f"{ALTO}String"))
        words = [(one.get("CONTENT"), _alto_box(one)) for one in strings]
        text = " ".join(word for word, _ in words) if block.tag == f"{ALTO}TextBlock" else None
        sure = strings[0].get("WC") if strings else None
        region = ReadRegion(
            _alto_box(block), text, labels.get(block.get("TAGREFS")), None if sure is None else float(sure), words
        )
        assert all(_alto_box(line) == region.box_px for line in block.iter(f"{ALTO}TextLine"))
        read.regions.append(region)
    return read


_schemas: list[Any] = []


def alto_schema() -> Any:
    """The official schema, parsed once."""
    if not _schemas:
        _schemas.append(etree.XMLSchema(etree.parse(str(ALTO_SCHEMA))))
    return _schemas[0]


def _alto_box(element: Any) -> Box:
    x, y, width, height = (float(element.get(name)) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    return x, y, x + width, y + height


def hocr_page_of(text: str) -> ReadPage:
    """By Python's HTML parser, and read as XML too: both must find the same."""
    parser = _Hocr()
    parser.feed(text)
    parser.close()
    assert parser.page is not None and not parser.open
    document = etree.fromstring(text.encode())
    classes = [one.get("class") for one in document.iter() if one.get("class")]
    assert classes == parser.classes
    spoken = " ".join(" ".join(one.itertext()) for one in document.iter() if one.get("class") == "ocrx_word")
    assert spoken.split() == " ".join(region.text or "" for region in parser.page.regions).split()
    return parser.page


class _Hocr(HTMLParser):
    """Classes in order, and regions with their words. Elements that a page does not have are an error."""

    ALLOWED = frozenset({"html", "head", "meta", "title", "body", "div", "span"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page: ReadPage | None = None
        self.classes: list[str | None] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.ALLOWED, tag
        found = dict(attrs)
        assert set(found) <= {"xmlns", "http-equiv", "content", "name", "class", "id", "title", "data-kind", "data-label", "dir"}
        if tag != "meta":
            self.open.append(tag)
        if kind := found.get("class"):
            self.classes.append(kind)
            self._note(kind, found, _properties(found["title"] or ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "meta"

    def _note(self, kind: str, found: dict[str, str | None], title: dict[str, str]) -> None:
        x0, y0, x1, y1 = map(int, title["bbox"].split())
        if kind == "ocr_page":
            self.page = ReadPage(title["image"].strip('"'), (x1, y1))
            return
        assert self.page is not None
        if kind == "ocrx_word":
            region = self.page.regions[-1]
            region.words.append(("", (x0, y0, x1, y1)))
            region.confidence = int(title["x_wconf"]) / 100 if "x_wconf" in title else None
        else:
            text = "" if kind == "ocr_line" else None
            self.page.regions.append(ReadRegion((x0, y0, x1, y1), text, found.get("data-label"), None))

    def handle_data(self, data: str) -> None:
        if self.page is not None and self.page.regions and data.strip():
            region = self.page.regions[-1]
            region.words[-1] = (region.words[-1][0] + data, region.words[-1][1])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "body" and self.page is not None:
            for region in self.page.regions:
                if region.text is not None:
                    region.text = " ".join(word for word, _ in region.words)


def _properties(title: str) -> dict[str, str]:
    return {found[1]: found[2] for found in re.finditer(r'(\w+) ("[^"]*"|[^;]*)(?:; |$)', title)}


def pdf_page_of(data: bytes) -> tuple[str, tuple[float, float], list[Box]]:
    """By PDFium's reader: the text, the page's size in points, and the box of each character, y down, in points."""
    import pypdfium2

    document = pypdfium2.PdfDocument(data)
    try:
        assert len(document) == 1
        width, height = document[0].get_size()
        page = document[0].get_textpage()
        boxes = [page.get_charbox(place, loose=True) for place in range(page.count_chars())]
        return page.get_text_range(), (width, height), [(x0, height - y1, x1, height - y0) for x0, y0, x1, y1 in boxes]
    finally:
        document.close()


def pages_in(folder: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The lines of pages.jsonl, each with the bytes of its file."""
    for line in (folder / "pages.jsonl").read_bytes().splitlines():
        entry = json.loads(line)
        yield entry, (folder / entry["file"]).read_bytes()
