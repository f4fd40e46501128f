"""Pages of a report and what a browser would make of them: elements, attributes, text.

The same page is made of harmless and of hostile texts; nothing but its texts may differ.
"""

import io
from dataclasses import replace
from html.parser import HTMLParser

from PIL import Image

from ray_pipeline.delivery.formats.html import ReportEntry, report_page


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (20, 90, 160)).save(file, "PNG")
    return file.getvalue()


PICTURE, CROP = png(12, 8), png(5, 3)
FULL = ReportEntry(
    id="row-1", question="what?", status="ok", truth="Ada", baseline_answer="Ade", baseline_confidence=0.25, answer="Ada",
    answer_confidence=0.875, refinement_method="rel_att", refinement_used=True, refinement_reason="surer", picture_png=PICTURE,
    picture_size=(12, 8), map_png=PICTURE, crop_png=CROP, crop_boxes=((0.1, 0.2, 0.5, 0.75),), answer_box=(0.25, 0.25, 0.5, 0.5),
)  # fmt: skip
FAILED = ReportEntry(id="row-2", question=None, status="fetch_timeout", error="took 60 s")
VOID = {"meta", "img", "input"}
DATA_ATTRIBUTES = {"alt"}  # attributes whose value holds text from data


class Elements(HTMLParser):
    """Every start tag with its attributes (values too, but for those that hold data), comments, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple((name, None if name in DATA_ATTRIBUTES else value) for name, value in attrs)))
        self.text += [value or "" for name, value in attrs if name in DATA_ATTRIBUTES]

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", ()))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", ((data, None),)))

    def handle_decl(self, decl: str) -> None:
        self.found.append((decl, ()))

    def handle_pi(self, data: str) -> None:
        self.found.append((f"instruction {data}", ()))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def entries_with(text: str) -> list[ReportEntry]:
    """Text from data in every place of a row that takes some: one that went well and one that failed."""
    full = replace(
        FULL, id=text, question=text + "?", truth=text, baseline_answer=text, answer=text + ".", refinement_method=text,
        refinement_reason=text,
    )  # fmt: skip
    return [full, replace(FAILED, id=text, question=text, status=text, error=text)]


def page_with(*texts: str) -> str:
    """One page with all the texts, in rows, in facts and in the title."""
    facts = [fact for text in texts for fact in (("run", text), (text, "x"))]
    return report_page(texts[0], facts, [entry for text in texts for entry in entries_with(text)])
