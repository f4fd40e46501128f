"""Label Studio: a folder with tasks.json (tasks with predictions) and labelling.xml (the interface that shows them).

A region is a rectangle in percent of the upright picture, with a class (its label, or else its kind) and, where it has
text, a transcription under the same id. An answer to one of `label.attributes` is a text under that id, too, in a field of
the attribute's name. A task's score is the answer's confidence, or else the mean of its regions'.
The address of the picture is written as it is in the manifest: Label Studio must be able to open it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from ray_pipeline.delivery.exported_row import ExportedRow, Origin, Written, category
from ray_pipeline.delivery.formats.json_text import json_text, plain
from ray_pipeline.delivery.formats.xml_text import writable, xml_attribute
from schemas.labelling import ATTRIBUTE
from schemas.result import Region


def write_label_studio(folder: Path, rows: Iterable[ExportedRow], origin: Origin) -> Written:
    """Write both files. Of all rows, only the names of classes and attributes are kept in memory."""
    classes: dict[str, None] = {}
    fields: dict[str, None] = {}
    count = regions = attributes = 0
    with (folder / "tasks.json").open("w", encoding="utf-8", newline="\n") as file:
        file.write("[\n")
        for row in rows:
            file.write(",\n" * (count > 0) + json_text(_task(row, origin)))
            classes |= dict.fromkeys(_class(region) for region in row.regions)
            fields |= dict.fromkeys(_field(one) for own in row.attributes.values() for one in own)
            count, regions = count + 1, regions + len(row.regions)
            attributes += row.answered
        file.write("\n]\n")
    (folder / "labelling.xml").write_text(_interface(classes, fields), encoding="utf-8")
    return Written(count, regions, attributes)


def _class(region: Region) -> str:
    return writable(category(region))  # as the interface, which is XML, has it: the two must agree


def _field(attribute: Region) -> str:
    """The name of the attribute's control, which no other control of the interface can have."""
    return writable(f"{ATTRIBUTE} {attribute.label}")


def _task(row: ExportedRow, origin: Origin) -> dict[str, Any]:
    said = {"manifest_id": row.id, "row": row.number, "page": row.page}
    said |= {"question": row.columns["question"], "answer": row.columns["answer"]}
    data = {"image": row.image} | {name: value for name, value in said.items() if value is not None}
    result = [one for number, region in enumerate(row.regions) for one in _results(number, region, row)]
    prediction = {"model_version": origin.model, "result": result} | _score(_confidence(row))
    return {"data": data, "predictions": [prediction]}


def _results(number: int, region: Region, row: ExportedRow) -> Iterator[dict[str, Any]]:
    (width, height), (x0, y0, x1, y1) = row.size_px, region.box_px
    place = {"x": _percent(x0, width), "y": _percent(y0, height), "width": _percent(x1 - x0, width)}
    place |= {"height": _percent(y1 - y0, height), "rotation": 0}
    frame = {"id": f"region-{number}", "to_name": "image", "original_width": width, "original_height": height}
    frame |= {"image_rotation": 0}
    rectangle = {"from_name": "label", "type": "rectanglelabels", "value": place | {"rectanglelabels": [_class(region)]}}
    yield frame | rectangle | _score(region.confidence)
    if region.text is not None:
        yield frame | {"from_name": "transcription", "type": "textarea", "value": place | {"text": [region.text]}}
    for one in row.attributes.get(number, ()):
        if one.text is not None:
            text = {"from_name": _field(one), "type": "textarea", "value": place | {"text": [one.text]}}
            yield frame | text | _score(one.confidence)


def _percent(length_px: float, side_px: int) -> float:
    return round(100 * length_px / side_px, 7)


def _confidence(row: ExportedRow) -> float | None:
    known = [region.confidence for region in row.regions if region.confidence is not None]
    of_answer: float | None = row.columns["answer_confidence"]
    return of_answer if of_answer is not None else fmean(known) if known else None


def _score(confidence: float | None) -> dict[str, float]:
    return {} if confidence is None else {"score": plain(confidence, single=True)}


def _interface(classes: Iterable[str], fields: Iterable[str]) -> str:
    labels = "".join(f"    <Label value={xml_attribute(name)}/>\n" for name in classes)
    transcription = _text_area("transcription", "what is written here")
    return (
        "<View>\n"
        '  <Image name="image" value="$image" zoom="true" zoomControl="true"/>\n'
        f'  <RectangleLabels name="label" toName="image">\n{labels}  </RectangleLabels>\n'
        f"{transcription}{''.join(_text_area(name, name) for name in fields)}</View>\n"
    )


def _text_area(name: str, hint: str) -> str:
    return (
        f'  <TextArea name={xml_attribute(name)} toName="image" perRegion="true" editable="true" rows="1" maxSubmissions="1"\n'
        f'    displayMode="region-list" placeholder={xml_attribute(hint)}/>\n'
    )
