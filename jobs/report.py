"""One self-contained HTML page of a run: pictures, where the model looked, the crop, answers before and after.

Example:
  fovea report --output results --html report.html --rows 60
"""

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from torch import Tensor

from ray_pipeline.actor import Actor, Asked
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.formats.html import ReportEntry, report_page
from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.decode import Decoder
from ray_pipeline.intake.fetch import Fetcher
from ray_pipeline.intake.manifest import ManifestRefused, open_manifest
from ray_pipeline.models.weights import ModelRefused
from ray_pipeline.perceiver import Seen
from schemas.job import JobSettings
from schemas.picture import Box, Picture
from schemas.status import RowFailure, Status

THUMBNAIL_PX, CROP_PX = 360, 240
REFUSED = 2


def main(argv: list[str] | None = None) -> int:
    """Write the page; returns 0, or 2 where there is no run to report on."""
    parser = argparse.ArgumentParser(
        prog="fovea report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, help="the run's output folder")
    parser.add_argument("--html", type=Path, required=True, help="where to write the page")
    parser.add_argument("--rows", type=int, default=60, help="most rows shown; failed ones come first")
    options = parser.parse_args(argv)
    try:
        page = build_page(options.output, options.rows)
    except (OSError, ValueError, ManifestRefused, ModelRefused) as refusal:
        print(f"fovea report: {refusal}", file=sys.stderr)
        return REFUSED
    options.html.parent.mkdir(parents=True, exist_ok=True)
    options.html.write_text(page, encoding="utf-8")
    print(f"{options.html}: {len(page) / 1e6:.1f} MB")
    return 0


def build_page(output_uri: str, most_rows: int) -> str:
    """The page of a finished run. Importance maps are computed again from the pictures: results do not carry them.

    Raises:
        ValueError: no complete run there.
    """
    output = Output(output_uri)
    if not (output.exists("run.json") and output.exists("index.json")):
        raise ValueError(f"output {output_uri!r} holds no complete run (run.json and index.json); expected a finished folder")
    run, index = json.loads(output.read("run.json")), json.loads(output.read("index.json"))
    settings = JobSettings.model_validate(run["settings"])
    rows = _chosen(output, most_rows)
    viewer = _Viewer(settings)
    try:
        entries = [viewer.entry(row) for row in rows]
    finally:
        viewer.close()
    facts = [
        ("manifest", settings.manifest), ("rows", str(index["rows"])), ("model", settings.model.name),
        ("method", settings.refine.method), ("crops", str(settings.views.max_crops)), ("shown", str(len(entries))),
    ]  # fmt: skip
    if len(entries) < index["rows"]:
        facts += sorted((f"all rows: {name}", str(count)) for name, count in index["statuses"].items())
    return report_page(f"Fovea: {index['rows']} rows", facts, entries)


def _chosen(output: Output, most_rows: int) -> list[dict[str, Any]]:
    """Failed rows first (at most half of the page), then the others in manifest order."""
    failed: list[dict[str, Any]] = []
    fine: list[dict[str, Any]] = []
    for name in output.list_results():
        for row in pq.read_table(io.BytesIO(output.read_result(name))).to_pylist():
            kept = fine if row["status"] == Status.OK else failed
            if len(kept) < most_rows:
                kept.append(row)
    failed = failed[: most_rows // 2] if fine else failed
    return failed + fine[: most_rows - len(failed)]


class _Viewer:
    """Opens pictures and asks the model again where it looked."""

    def __init__(self, settings: JobSettings) -> None:
        manifest = open_manifest(settings.manifest, settings.run.limit, ("question",), settings.passthrough)
        now = settings.fetch.model_copy(update={"outage_s": 0.0})  # a page does not wait for a host that is out
        self.fetcher = Fetcher(now, AddressPolicy.from_settings(settings.fetch, manifest.base, manifest.remote))
        self.decoder = Decoder(settings.fetch)
        self.actor = Actor(settings)

    def close(self) -> None:
        self.decoder.close()

    def entry(self, row: dict[str, Any]) -> ReportEntry:
        picture = None if row["status"] != Status.OK else self._picture(row)
        refinement = row["refinement"] or {"method": "", "crops": [], "used": False, "reason": ""}
        crops = [_box(crop) for crop in refinement["crops"] or []]
        importance = self._map(picture, row) if picture is not None and crops else None
        return ReportEntry(
            id=row["id"], question=row["question"] or "", status=row["status"], error=row["error"], truth=None,
            baseline_answer=row["baseline_answer"], baseline_confidence=row["baseline_confidence"],
            answer=row["answer"], answer_confidence=row["answer_confidence"],
            refinement_method=refinement["method"], refinement_reason=refinement["reason"], refinement_used=refinement["used"],
            picture_png=None if picture is None else _png(picture, None, THUMBNAIL_PX),
            picture_size=None if picture is None else (picture.width, picture.height),
            map_png=None if importance is None else heat_png(importance),
            crop_png=_png(picture, crops[0], CROP_PX) if picture is not None and crops else None,
            crop_boxes=tuple(_share(crop, picture) for crop in crops) if picture is not None else (),
            answer_box=_share(_box(row["box"]), picture) if picture is not None and row["box"] else None,
        )  # fmt: skip

    def _picture(self, row: dict[str, Any]) -> Picture | None:
        try:
            return self.decoder.decode(self.fetcher.fetch(row["image_uri"]), row["page"])
        except RowFailure:  # gone since the run: the page shows the row without its picture
            return None

    def _map(self, picture: Picture, row: dict[str, Any]) -> Tensor | None:
        seen = self.actor.answer({0: Asked(picture, row["question"])})[0]
        return seen.map_YX if isinstance(seen, Seen) else None


def heat_png(importance_YX: Tensor) -> bytes:
    """The map as a translucent overlay: clear where nothing, orange where most."""
    values = importance_YX.float().nan_to_num(0).clamp(min=0).numpy()
    share = values / max(float(values.max()), 1e-12)
    rgba = np.zeros((*share.shape, 4), np.uint8)
    rgba[..., 0], rgba[..., 1] = 255, (200 * (1 - share)).astype(np.uint8)
    rgba[..., 3] = (190 * share).astype(np.uint8)
    grown = Image.fromarray(rgba).resize((share.shape[1] * 8, share.shape[0] * 8), Image.Resampling.BILINEAR)
    return _encoded(grown)


def _png(picture: Picture, box_px: Box | None, longest_px: int) -> bytes:
    image = Image.fromarray(picture.pixels_YX3)
    if box_px is not None:
        image = image.crop((round(box_px[0]), round(box_px[1]), round(box_px[2]), round(box_px[3])))
    scale = longest_px / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return _encoded(image.resize(size, Image.Resampling.LANCZOS))


def _encoded(image: Image.Image) -> bytes:
    packed = io.BytesIO()
    image.save(packed, "PNG", optimize=True)
    return packed.getvalue()


def _box(value: dict[str, float]) -> Box:
    return value["x0"], value["y0"], value["x1"], value["y1"]


def _share(box_px: Box, picture: Picture) -> Box:
    return box_px[0] / picture.width, box_px[1] / picture.height, box_px[2] / picture.width, box_px[3] / picture.height


if __name__ == "__main__":
    sys.exit(main())
