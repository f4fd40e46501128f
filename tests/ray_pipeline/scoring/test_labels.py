"""Boxes of phrases against reference boxes of the same phrase: pairs, the surest one, and whole runs scored and shown."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import fovea
from ray_pipeline.scoring.labels import score_labels
from schemas.labelling import ATTRIBUTE
from schemas.picture import Box
from schemas.result import Region
from schemas.truth import TrueBox
from tests.stand_ins.labelled_runs import Labelled, Said, finished_run, result_row

A: Box = (0, 0, 40, 10)
B: Box = (0, 20, 40, 30)
C: Box = (100, 50, 140, 60)
NEAR: Box = (5, 0, 45, 10)


def region(label: str, box: Box, sure: float | None = 0.9) -> Region:
    return Region(box, label, "text", sure, "label")


@pytest.mark.parametrize(
    ("found", "true", "scores"),
    [
        ([("total", A)], [("total", A)], (1, 1, 1, 1)),
        ([("Total ", NEAR)], [("total", A)], (1, 1, 1, 1)),
        ([("date", A)], [("total", A)], (0, 0, 0, 0)),  # the right place under the wrong phrase
        ([("total", A), ("date", B)], [("total", A), ("total", B)], (1, 0.5, 0.5, 0.5)),
        ([("total", C), ("total", A)], [("total", A)], (0, 2 / 3, 0.5, 1)),  # the surest one is wrong
        ([("total", A), ("total", C)], [("total", A), ("date", B)], (0.5, 0.5, 0.5, 0.5)),
        ([], [("total", A)], (0, 0, None, 0)),
        ([("total", A)], [], None),
    ],
)
def test_pairs(found: list[tuple[str, Box]], true: list[tuple[str, Box]], scores: tuple[float | None, ...] | None) -> None:
    regions = tuple(region(label, box, 0.9 - k / 10) for k, (label, box) in enumerate(found))
    row = score_labels(result_row(Said(regions=regions)), [TrueBox(box, label) for label, box in true])
    if scores is None:
        assert not row.labelled and row.sureness == ()
        return
    names = ("phrase_acc_50", "label_f1", "label_precision", "label_recall")
    assert tuple(row.scores[name].value for name in names) == pytest.approx(scores)
    assert len(row.sureness) == len(found)


def test_what_was_said_of_a_box_is_no_box() -> None:
    own = region("total", A)
    said = [own, Region(A, "total", "12.50", 0.95, ATTRIBUTE), Region(A, "colour", "red", 0.9, ATTRIBUTE)]
    plain, described = (score_labels(result_row(Said(regions=tuple(row))), [TrueBox(A, "total")]) for row in ([own], said))
    assert described == plain and plain.scores["label_precision"].value == 1


def test_a_failed_row_has_missed_everything() -> None:
    row = score_labels(result_row(Said(answer=None)), [TrueBox(A, "total")])
    assert row.scores["label_recall"].value == 0 and row.status != "ok"


@pytest.mark.parametrize(("true", "words"), [(TrueBox(A, " "), "no label"), (TrueBox((0, 0, 900, 9), "a"), "inside the picture")])
def test_truth_that_cannot_be_is_refused(true: TrueBox, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        score_labels(result_row(), [true])


def test_a_run_is_scored_shown_and_proven(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = [Said("total", regions=(region("total", A), region("total", C, 0.4)), picture="p")]
    output = finished_run(tmp_path, [Labelled("r", None, [A], said)], task="label")
    truth = pq.read_table(tmp_path / "m.parquet")
    boxes = [[{"x0": 0.0, "y0": 0.0, "x1": 40.0, "y1": 10.0, "label": "total"}]]
    kind = truth.schema.field("reference_boxes")
    labelled = truth.set_column(truth.schema.get_field_index("reference_boxes"), kind, pa.array(boxes, kind.type))
    pq.write_table(labelled, tmp_path / "m.parquet")
    assert fovea.main(["evaluate", "--run", output, "--json", str(tmp_path / "scores.json")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("label: 1 rows, Acc@0.5 100.0")
    assert json.loads((tmp_path / "scores.json").read_text())["row_scores"][0]["scores"]["label_precision"] == 0.5
    assert fovea.main(["verify", "--output", output]) == 0
    assert fovea.main(["report", "--output", output, "--html", str(tmp_path / "page.html"), "--maps", "0"]) == 0
    assert "without references" not in capsys.readouterr().err
    assert fovea.main(["export", "--run", output, "--format", "coco", "--to", str(tmp_path / "coco.json")]) == 0
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [kind["name"] for kind in coco["categories"]] == ["total"] and len(coco["annotations"]) == 2
