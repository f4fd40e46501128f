"""Pages of a report and what a browser would make of them: elements, attributes, text, and the data for its script.

The same page is made of harmless and of hostile texts; nothing but its texts may differ.
"""

import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from PIL import Image

from ray_pipeline.delivery.report.images import Images
from ray_pipeline.delivery.report.page import Report, report_page
from ray_pipeline.delivery.report.shown_row import ShownRow
from ray_pipeline.delivery.rows import failed_row
from ray_pipeline.scoring.reliability import reliability
from schemas.labelling import ATTRIBUTE
from schemas.manifest import ManifestRow
from schemas.status import RowFailure, Status
from schemas.truth import TrueBox, Truth

VOID = {"meta", "img", "input", "br"}


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (20, 90, 160)).save(file, "PNG")
    return file.getvalue()


def box(x0: float, y0: float, x1: float, y1: float) -> dict[str, float]:
    return {"x0": x0, "y0": y0, "x1": x1, "y1": y1}


def candidate_with(text: str) -> dict[str, Any]:
    return {"box": box(30, 20, 60, 40), "text": text, "logprob": -1.5, "entropy": 0.75, "predicted_iou": 0.5, "chosen": True}


def columns_with(text: str) -> dict[str, Any]:
    """A result row that went well, with the text wherever one can stand. Its picture is 120 x 80."""
    return {
        "id": text, "image_uri": text, "page": 3, "question": text + "?", "status": "ok", "error": None,
        "answer": text + ".", "answer_confidence": 0.875, "box": box(30, 20, 60, 40), "box_confidence": 0.5,
        "regions": [
            {"box": box(0, 0, 12, 8), "label": text, "text": text, "confidence": 0.25, "kind": kind} for kind in (text, ATTRIBUTE)
        ],
        "baseline_answer": text, "baseline_confidence": 0.25,
        "refinement": {"method": text, "crops": [box(12, 16, 60, 60)], "used": True, "reason": text},
        "candidates": [candidate_with(text)],
        "views": 2, "visual_tokens": 288, "image_width": 120, "image_height": 80, "image_sha256": text, "calibrated": False,
        "schema_version": 1,
    }  # fmt: skip


PICTURE, CROP = png(12, 8), png(5, 3)
TRUTH = Truth(0, "row-1", None, ("Ada",), (TrueBox((30, 20, 60, 44), "a name"),))
FULL = ShownRow(4, columns_with("row-1"), "s3://bucket/a.png", TRUTH, True, {"anls": 1.0}, Images(PICTURE, PICTURE, (CROP,)))
FAILED = ShownRow(5, failed_row(ManifestRow(5, "row-2", "b.png"), RowFailure(Status.FETCH_TIMEOUT, "took 60 s"), None), "b.png")


class Elements(HTMLParser):
    """Every start tag with its attributes, comments, the shape of data, and all text that is neither style nor script."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text: list[str] = []
        self.data: list[Any] = []
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(attrs)))
        kind = dict(attrs).get("type") or "code"
        self._inside = kind if tag == "script" else tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((f"{tag}/", tuple(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", ()))
        self._inside = ""

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", ((data, None),)))

    def handle_decl(self, decl: str) -> None:
        self.found.append((decl, ()))

    def handle_pi(self, data: str) -> None:
        self.found.append((f"instruction {data}", ()))

    def handle_data(self, data: str) -> None:
        if self._inside == "application/json":
            self.data.append(json.loads(data))
            self.found.append((f"data {shape(self.data[-1], self.text)}", ()))
        elif self._inside in ("code", "style"):
            self.found.append((f"content of {self._inside}", ((data, None),)))
        elif not self._inside.startswith("image/"):
            self.text.append(data)


def shape(value: Any, texts: list[str]) -> str:
    """The value with a mark for each text in it; the texts themselves go to `texts`."""
    if isinstance(value, str):
        texts.append(value)
        return "text"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{shape(inner, texts)}" for key, inner in value.items()) + "}"
    return "[" + ",".join(shape(one, texts) for one in value) + "]" if isinstance(value, list) else repr(value)


def rows_with(text: str) -> list[ShownRow]:
    """Text from data in every place of a row that takes some: one that went well and one that failed."""
    truth = Truth(0, text, None, (text,), (TrueBox((30, 20, 60, 44), text),))
    failed = FAILED.columns | {"id": text, "question": text, "status": text, "error": text}
    return [replace(FULL, columns=columns_with(text), address=text, truth=truth), replace(FAILED, columns=failed, address=text)]


def page_with(*texts: str) -> str:
    """One page with all the texts, in rows, in facts and in the title."""
    facts = [fact for text in texts for fact in (("run", text), (text, "x"))]
    sure = reliability([0.25, 0.5, 0.875], [False, True, True])
    rows = [row for text in texts for row in rows_with(text)]
    assert sure
    return report_page(
        Report(texts[0], rows, facts, dict.fromkeys(texts, 1), {"wall_s": 3.5, "rows_this_run": 2}, {"answer": sure})
    )
