"""Exports read by other people's tools, in an environment that has them: `TOOLS/bin/python benchmarks/export_tools.py FOLDER`.

The environment holds label-studio-sdk, pycocotools and hocr-spec, which bring or demand other versions of libraries than
the project has. FOLDER holds coco.json, label-studio/, hocr/ and truth.json: per row its regions' boxes. Prints figures as JSON.
"""

import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

Truth = list[list[list[float]]]  # rows, regions, x0 y0 x1 y1


def coco(folder: Path, truth: Truth) -> dict[str, Any]:
    """By pycocotools, the reference loader; annotations must also come back from `loadRes`."""
    loaded = importlib.import_module("pycocotools.coco").COCO(str(folder / "coco.json"))
    scored = [one for one in loaded.dataset["annotations"] if "score" in one]
    again = loaded.loadRes([{key: one[key] for key in ("image_id", "category_id", "bbox", "score")} for one in scored])
    boxes = [[one["bbox"] for one in loaded.imgToAnns[image]] for image in loaded.getImgIds()]
    return {
        "tool": f"pycocotools {version('pycocotools')}",
        "invalid": sum(one["category_id"] not in loaded.cats for one in loaded.anns.values()) + len(scored) - len(again.anns),
        **_compared(boxes, truth),
    }


def label_studio(folder: Path, truth: Truth) -> dict[str, Any]:
    """By Label Studio's own checks of interface, tasks and predictions, and its converter, to which they are annotations."""
    interface_text = (folder / "label-studio/labelling.xml").read_text("utf-8")
    interface = importlib.import_module("label_studio_sdk.label_interface").LabelInterface(interface_text)
    interface.validate()
    tasks = json.loads((folder / "label-studio/tasks.json").read_text("utf-8"))
    faults = [one for task in tasks for one in interface.validate_prediction(task["predictions"][0], return_errors=True)]
    unknown = sum(not interface.validate_task({"data": task["data"]}) for task in tasks)
    with tempfile.TemporaryDirectory() as scratch:
        finished = [task | {"id": number, "annotations": task["predictions"]} for number, task in enumerate(tasks, 1)]
        (Path(scratch) / "tasks.json").write_text(json.dumps(finished))
        converter = importlib.import_module("label_studio_sdk.converter").Converter(
            interface_text, project_dir=scratch, download_resources=False
        )
        converter.convert(str(Path(scratch) / "tasks.json"), scratch, "COCO", is_dir=False)
        converted = json.loads((Path(scratch) / "result.json").read_text())
    boxes = [list[list[float]]() for _ in converted["images"]]
    for one in converted["annotations"]:
        boxes[one["image_id"]].append(one["bbox"])
    return {
        "tool": f"label-studio-sdk {version('label-studio-sdk')}",
        "invalid": len(faults) + unknown,
        "first": str(faults[0])[:300] if faults else None,
        **_compared(boxes, truth),
    }


def hocr(folder: Path, truth: Truth) -> dict[str, Any]:
    """By hocr-spec, which checks classes, properties and metadata against the specification."""
    validator = importlib.import_module("hocr_spec").HocrValidator("standard")
    files = sorted((folder / "hocr").rglob("*.hocr"))
    reports = [validator.validate(str(file), parse_strict=True) for file in files]
    faults = [report.format("text") for report in reports if not report.is_valid()]
    return {
        "tool": f"hocr-spec {version('hocr-spec')}",
        "invalid": len(faults),
        "first": faults[0][:600] if faults else None,
        "missing": len(truth) - len(files),
    }


def _compared(boxes_xywh: list[list[list[float]]], truth: Truth) -> dict[str, Any]:
    """How many rows and boxes are missing, and how far the farthest edge is off, in pixels."""
    worst = 0.0
    missing = abs(len(boxes_xywh) - len(truth))
    for found, wanted in zip(boxes_xywh, truth, strict=False):
        missing += abs(len(found) - len(wanted))
        for (x, y, width, height), box in zip(found, wanted, strict=False):
            read = (x, y, x + width, y + height)
            worst = max([worst, *(abs(a - b) for a, b in zip(read, box, strict=True))])
    return {"missing": missing, "worst_px": worst}


CHECKS: dict[str, Callable[[Path, Truth], dict[str, Any]]] = {"coco": coco, "label-studio": label_studio, "hocr": hocr}


def main(folder: Path) -> int:
    """Run all checks; their figures go to stdout, whatever the tools print to stderr."""
    truth = json.loads((folder / "truth.json").read_text())
    with redirect_stdout(sys.stderr):
        found = {name: check(folder, truth) for name, check in CHECKS.items()}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
