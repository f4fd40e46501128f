"""ALTO 4.3: one XML file per row, in pixels to 1/1000. A region with text is a text block of one line of strings.

Words share the line's box by their characters (words.py) and carry its confidence (`WC`). A region without text is an
illustration of type `kind`. Labels are layout tags, to which blocks refer.
"""

from collections.abc import Iterable
from pathlib import Path

from ray_pipeline.delivery.exported_row import ExportedRow, Origin, Written
from ray_pipeline.delivery.formats.json_text import plain
from ray_pipeline.delivery.formats.page_files import write_pages
from ray_pipeline.delivery.formats.words import Word, is_right_to_left, line_words
from ray_pipeline.delivery.formats.xml_text import xml_attribute, xml_text
from schemas.picture import Box
from schemas.result import Region

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_SCHEMA = f"{NAMESPACE} http://www.loc.gov/standards/alto/v4/alto-4-3.xsd"


def write_alto(folder: Path, rows: Iterable[ExportedRow], origin: Origin) -> Written:
    """Write one file per row and pages.jsonl."""
    return write_pages(folder, rows, "alto.xml", lambda row: alto_page(row, origin).encode())


def alto_page(row: ExportedRow, origin: Origin) -> str:
    """The whole document."""
    width, height = row.size_px
    labels = dict.fromkeys(region.label for region in row.regions if region.label is not None)
    tags = {label: f"tag_{number}" for number, label in enumerate(labels, 1)}
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<alto xmlns="{NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="{_SCHEMA}"'
        ' SCHEMAVERSION="4.3">',
        "<Description><MeasurementUnit>pixel</MeasurementUnit><sourceImageInformation>",
        f"<fileName>{xml_text(row.image)}</fileName>",
        f"<documentIdentifier>{xml_text(row.id)}</documentIdentifier></sourceImageInformation>",
        '<Processing ID="processing_1"><processingCategory>contentGeneration</processingCategory><processingSoftware>',
        f"<softwareName>fovea</softwareName><softwareVersion>{xml_text(origin.version)}</softwareVersion>",
        f"<applicationDescription>{xml_text(origin.model)}</applicationDescription></processingSoftware></Processing>",
        "</Description>",
        *_tags(tags),
        f'<Layout><Page ID="page_1" PHYSICAL_IMG_NR="{(row.page or 0) + 1}" WIDTH="{width}" HEIGHT="{height}">',
        f'<PrintSpace HPOS="0" VPOS="0" WIDTH="{width}" HEIGHT="{height}">',
        *(_block(number, region, tags) for number, region in enumerate(row.regions, 1)),
        "</PrintSpace></Page></Layout></alto>",
    ]
    return "\n".join(lines) + "\n"


def _tags(tags: dict[str, str]) -> list[str]:
    named = [f'<LayoutTag ID="{name}" LABEL={xml_attribute(label)}/>' for label, name in tags.items()]
    return ["<Tags>", *named, "</Tags>"] if named else []


def _block(number: int, region: Region, tags: dict[str, str]) -> str:
    place = _place(region.box_px)
    refers = "" if region.label is None else f' TAGREFS="{tags[region.label]}"'
    if region.text is None:
        return f'<Illustration ID="block_{number}" {place}{refers} TYPE={xml_attribute(region.kind)}/>'
    direction = ' BASEDIRECTION="rtl"' if is_right_to_left(region.text) else ""
    # A line has at least one string: without words it is an empty one.
    words = line_words(region.text, region.box_px) or [Word("", region.box_px)]
    strings = "<SP/>".join(_string(f"string_{number}_{place}", word, region) for place, word in enumerate(words, 1))
    line = f'<TextLine ID="line_{number}" {place}{direction}>{strings}</TextLine>'
    return f'<TextBlock ID="block_{number}" {place}{refers}>{line}</TextBlock>'


def _string(name: str, word: Word, region: Region) -> str:
    sure = "" if region.confidence is None else f' WC="{plain(region.confidence, single=True)}"'
    return f'<String ID="{name}" {_place(word.box_px)} CONTENT={xml_attribute(word.text)}{sure}/>'


def _place(box_px: Box) -> str:
    x0, y0, x1, y1 = box_px
    sides = ((x0, "HPOS"), (y0, "VPOS"), (x1 - x0, "WIDTH"), (y1 - y0, "HEIGHT"))
    return " ".join(f'{name}="{round(length, 3)}"' for length, name in sides)
