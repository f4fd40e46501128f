"""Rows from perceptions and failures: what is kept, and what a broken model may not write."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.delivery.checks import LIST_LIMIT, TEXT_LIMIT
from ray_pipeline.delivery.formats.parquet import results_bytes
from ray_pipeline.delivery.rows import PictureFacts, failed_row, ok_row
from schemas.manifest import ManifestRow
from schemas.result import CandidateRecord, Perception, Refinement, Region
from schemas.status import RowFailure, Status

ROW = ManifestRow(7, "scan-7", "s3://b/7.tif", 3, "who?", {"batch": 12})
FACTS = PictureFacts(640, 480, "ab" * 32)
REGION = Region((1.0, 2.0, 30.0, 40.0), "name", "Ada", 0.5, "line")
CANDIDATE = CandidateRecord((5.0, 6.0, 70.0, 80.0), "Ada", -0.25, 1.5, 0.75, True)
REFINEMENT = Refinement("rel_att", ((10.0, 20.0, 300.0, 400.0),), True, "surer")
SAID = Perception(
    answer="Ada", answer_confidence=0.875, box_px=(5.0, 6.0, 70.0, 80.0), box_confidence=0.5, baseline_answer="Ade",
    baseline_confidence=0.25, refinement=REFINEMENT, candidates=(CANDIDATE,), views=3, visual_tokens=729, regions=(REGION,),
    calibrated=True,
)  # fmt: skip
EXTRA = pa.schema([("batch", pa.int64())])


def written(row: dict[str, Any]) -> dict[str, Any]:
    table = pq.read_table(pa.BufferReader(results_bytes([row], EXTRA)))
    return dict(table.to_pylist()[0])


def test_a_sound_perception_is_stored_as_said() -> None:
    assert written(ok_row(ROW, FACTS, SAID)) == {
        "id": "scan-7", "image_uri": "s3://b/7.tif", "page": 3, "question": "who?", "status": "ok", "error": None,
        "answer": "Ada", "answer_confidence": 0.875, "box": {"x0": 5, "y0": 6, "x1": 70, "y1": 80}, "box_confidence": 0.5,
        "regions":
            [{"box": {"x0": 1, "y0": 2, "x1": 30, "y1": 40}, "label": "name", "text": "Ada", "confidence": 0.5, "kind": "line"}],
        "baseline_answer": "Ade", "baseline_confidence": 0.25,
        "refinement":
            {"method": "rel_att", "crops": [{"x0": 10, "y0": 20, "x1": 300, "y1": 400}], "used": True, "reason": "surer"},
        "candidates": [{"box": {"x0": 5, "y0": 6, "x1": 70, "y1": 80}, "text": "Ada", "logprob": -0.25, "entropy": 1.5,
                        "predicted_iou": 0.75, "chosen": True}],
        "views": 3, "visual_tokens": 729, "image_width": 640, "image_height": 480, "image_sha256": "ab" * 32,
        "calibrated": True, "schema_version": 1, "batch": 12,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("answer", "", ""),
        ("answer", "=1+1\r\n\x00\u202e\u2028", "=1+1\r\n\x00\u202e\u2028"),
        ("answer", "ж" * TEXT_LIMIT, "ж" * TEXT_LIMIT),
        ("answer_confidence", None, None),
        ("answer_confidence", 1.0000000001, 1.0),
        ("answer_confidence", np.float32(0.5), 0.5),
        ("answer_confidence", 1, 1.0),
        ("box_px", None, None),
        ("box_px", (-0.0005, 0.0, 640.0005, 480.0), {"x0": 0, "y0": 0, "x1": 640, "y1": 480}),
        ("box_px", [0, 0, 1, 1], {"x0": 0, "y0": 0, "x1": 1, "y1": 1}),
        ("views", np.int64(4), 4),
    ],
)
def test_values_at_the_edge_pass(field: str, value: Any, stored: Any) -> None:
    row = written(ok_row(ROW, FACTS, replace(SAID, **{field: value})))
    assert row["status"] == "ok"
    assert row[field.removesuffix("_px")] == stored


NAN, INF = float("nan"), float("inf")
BOXES: list[Any] = [
    (NAN, 0, 9, 9), (0, 0, INF, 9), (-INF, 0, 9, 9), (0, 0, 1e308, 9), (0, 0, 10**400, 9), (9, 0, 1, 9), (0, 9, 9, 1),
    (5, 5, 5, 9), (5, 5, 9, 5),
    (-0.01, 0, 9, 9), (0, 0, 640.01, 9), (0, 0, 9, 480.01), (640, 480, 640.0005, 480.0005), (1.0, 0, 1.00000001, 9),
    (0, 0, 9), (0, 0, 9, 9, 9), "0099", ("0", "0", "9", "9"), (None, 0, 9, 9), (True, False, 9, 9), 7, {"x0": 0},
]  # fmt: skip
SHARES: list[Any] = [NAN, INF, -INF, 1e308, -0.01, 1.01, "0.5", True, [0.5], 1j]
TEXTS: list[Any] = ["\ud800", "ok then \udfff", "x" * (TEXT_LIMIT + 1), "x" * 50_000_000, None, b"bytes", 7, ["text"]]
COUNTS: list[Any] = [-1, 2**31, 1.5, "3", None, True, NAN]
NUMBERS: list[Any] = [NAN, INF, -INF, 1e308, "1", None, True]
ENTROPIES: list[Any] = [NAN, INF, 1e308, -1, "1"]
CASES: list[tuple[str, Perception]] = [
    *(("box", replace(SAID, box_px=box)) for box in BOXES),
    *(("regions[0].box", replace(SAID, regions=(replace(REGION, box_px=box),))) for box in [*BOXES, None]),
    *(("candidates[0].box", replace(SAID, candidates=(replace(CANDIDATE, box_px=box),))) for box in BOXES),
    *(("refinement.crops[1]", replace(SAID, refinement=replace(REFINEMENT, crops_px=((0, 0, 1, 1), box)))) for box in BOXES),
    *(
        (name, replace(SAID, **{name: value}))
        for name in ("answer_confidence", "box_confidence", "baseline_confidence")
        for value in SHARES
    ),
    *(("regions[0].confidence", replace(SAID, regions=(replace(REGION, confidence=value),))) for value in SHARES),
    *(("candidates[0].predicted_iou", replace(SAID, candidates=(replace(CANDIDATE, predicted_iou=value),))) for value in SHARES),
    *(("candidates[0].logprob", replace(SAID, candidates=(replace(CANDIDATE, logprob=value),))) for value in [*NUMBERS, 0.5]),
    *(("candidates[0].entropy", replace(SAID, candidates=(replace(CANDIDATE, entropy=value),))) for value in ENTROPIES),
    *(("answer", replace(SAID, answer=value)) for value in TEXTS),
    *(("baseline_answer", replace(SAID, baseline_answer=value)) for value in TEXTS if value is not None),
    *(("regions[0].text", replace(SAID, regions=(replace(REGION, text=value),))) for value in TEXTS if value is not None),
    *(("regions[0].label", replace(SAID, regions=(replace(REGION, label=value),))) for value in TEXTS if value is not None),
    *(("regions[0].kind", replace(SAID, regions=(replace(REGION, kind=value),))) for value in TEXTS),
    *(("candidates[0].text", replace(SAID, candidates=(replace(CANDIDATE, text=value),))) for value in TEXTS),
    *(("refinement.reason", replace(SAID, refinement=replace(REFINEMENT, reason=value))) for value in TEXTS),
    *((name, replace(SAID, **{name: value})) for name in ("views", "visual_tokens") for value in COUNTS),
    *(("calibrated", replace(SAID, calibrated=value)) for value in (None, 1, "true")),  # type: ignore[arg-type]
    ("regions", replace(SAID, regions=None)),  # type: ignore[arg-type]
    ("regions", replace(SAID, regions=(REGION,) * (LIST_LIMIT + 1))),
    ("candidates", replace(SAID, candidates="[{")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("name", "said"), CASES, ids=[f"{number}-{name}" for number, (name, _) in enumerate(CASES)])
def test_junk_becomes_an_invalid_output_row(name: str, said: Perception) -> None:
    row = written(ok_row(ROW, FACTS, said))
    assert row["status"] == "invalid_output"
    assert name in row["error"] and "expected" in row["error"]
    assert len(row["error"]) <= 500 and row["error"].isprintable()
    assert row["answer"] is None and row["candidates"] is None and row["calibrated"] is False
    assert (row["id"], row["image_width"], row["batch"]) == ("scan-7", 640, 12)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
@pytest.mark.parametrize("facts", [None, FACTS])
def test_a_failed_row_says_what_happened_and_nothing_else(status: Status, facts: PictureFacts | None) -> None:
    row = written(failed_row(ROW, RowFailure(status, "line one\nline\x1b[31m two \ud800\u202e"), facts))
    expected: dict[str, Any] = dict.fromkeys(row)
    expected |= {"id": "scan-7", "image_uri": "s3://b/7.tif", "page": 3, "question": "who?", "batch": 12, "calibrated": False}
    expected |= {"status": status.value, "error": "line one line\\x1b[31m two \\ud800\\u202e", "schema_version": 1}
    if facts:
        expected |= {"image_width": 640, "image_height": 480, "image_sha256": "ab" * 32}
    assert row == expected


def test_a_failure_without_a_message_still_has_an_error() -> None:
    assert failed_row(ROW, RowFailure(Status.MODEL_OOM, " "), None)["error"] == "model_oom"


def test_a_failure_cannot_be_ok() -> None:
    with pytest.raises(ValueError, match="status ok"):
        failed_row(ROW, RowFailure(Status.OK, "?"), None)


def test_a_pass_through_column_cannot_replace_a_result() -> None:
    with pytest.raises(ValueError, match="answer"):
        ok_row(replace(ROW, extra={"answer": "forged"}), FACTS, SAID)
