"""`label` in a worker with the embedded model: what stands on a document is found where it stands, and what does not is not."""

from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ray_pipeline.intake.manifest import cut_parts, open_manifest, read_rows
from ray_pipeline.scoring.overlap import overlaps
from ray_pipeline.synthesis.document_pages import sample_document
from ray_pipeline.synthesis.fonts import evaluation_fonts
from ray_pipeline.worker import Worker, WorkOrder
from schemas.job import JobSettings

SEED, FOUND = 7, 0.9
ABSENT = "quetzalcoatl 998877"


def test_lines_of_a_document_are_found_by_their_own_text(tmp_path: Path) -> None:
    page = sample_document(SEED, evaluation_fonts(), (14, 20), most_rows=12, worn=False)
    Image.fromarray(page.rgb).save(tmp_path / "page.png")
    texts = [line.text for line in page.lines]
    columns = {
        "id": ["lines", "vocabulary", "nothing", "gone"],
        "image_uri": ["page.png", "page.png", "page.png", "none.png"],
        "phrases": pa.array([[*texts, ABSENT], None, [" "], ["total"]], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), tmp_path / "manifest.parquet")
    label = {"find": "read", "phrases": [texts[0]]}
    chosen = {"manifest": str(tmp_path / "manifest.parquet"), "output": str(tmp_path / "out"), "task": "label", "label": label}
    settings = JobSettings.model_validate(chosen)
    manifest = open_manifest(settings.manifest, None, (), ())
    (part,) = cut_parts(manifest.rows, settings.run.part_rows)
    with closing(Worker(WorkOrder(settings, manifest.base, manifest.remote, manifest.passthrough))) as worker:
        outcome = worker.run(part, read_rows(manifest, 0, manifest.rows))
    assert outcome.committed, outcome.failure
    assert outcome.statuses == {"ok": 2, "skipped": 1, "fetch_not_found": 1}
    lines, vocabulary, nothing, _ = pq.read_table(tmp_path / "out/results" / part.name).to_pylist()
    hits = sum(
        any(
            region["label"] == line.text and overlaps([tuple(region["box"].values())], [line.box_px])[0, 0] >= 0.5
            for region in lines["regions"]
        )
        for line in page.lines
    )
    assert hits >= FOUND * len(page.lines), f"{hits} of {len(page.lines)}"
    assert lines["status"] == "ok" and ABSENT not in lines["answer"]
    assert {region["label"] for region in vocabulary["regions"]} <= {texts[0]}
    assert nothing["error"] == "no phrase to look for: expected a text in phrases, or in label.phrases"
