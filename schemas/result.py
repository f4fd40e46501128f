"""What a row becomes: `Perception` (plain numbers, no tensors) and the Arrow columns of the results.

Boxes are x0, y0, x1, y1 in pixels of the original upright image, x right, y down.
"""

from dataclasses import dataclass

import pyarrow as pa

from schemas.picture import Box

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Region:
    """One labelled or read region: a line of `ocr`, a box of `label`, or what was said of the box directly before it (kind
    `attribute`): the same box, the attribute's name as label, the answer as text, None where there was none."""

    box_px: Box
    label: str | None
    text: str | None
    confidence: float | None
    kind: str


@dataclass(frozen=True)
class Refinement:
    """What FOCUS did: method, the crops it cut, whether their answer was used, and why or why not."""

    method: str
    crops_px: tuple[Box, ...]
    used: bool
    reason: str


@dataclass(frozen=True)
class CandidateRecord:
    """One member of CHOOSE's pool. Log-probability is the mean per token, entropy in nats."""

    box_px: Box | None
    text: str
    logprob: float
    entropy: float | None
    predicted_iou: float | None
    chosen: bool


@dataclass(frozen=True)
class Perception:
    """Everything the model said about one row. Confidences are in [0, 1]."""

    answer: str
    answer_confidence: float | None
    box_px: Box | None
    box_confidence: float | None
    baseline_answer: str | None
    baseline_confidence: float | None
    refinement: Refinement
    candidates: tuple[CandidateRecord, ...]
    views: int
    visual_tokens: int
    regions: tuple[Region, ...] = ()
    calibrated: bool = False


BOX = pa.struct([(name, pa.float32()) for name in ("x0", "y0", "x1", "y1")])
REGION = pa.struct(
    [("box", BOX), ("label", pa.string()), ("text", pa.string()), ("confidence", pa.float32()), ("kind", pa.string())]
)
REFINEMENT = pa.struct([("method", pa.string()), ("crops", pa.list_(BOX)), ("used", pa.bool_()), ("reason", pa.string())])
CANDIDATE = pa.struct(
    [
        ("box", BOX),
        ("text", pa.string()),
        ("logprob", pa.float32()),
        ("entropy", pa.float32()),
        ("predicted_iou", pa.float32()),
        ("chosen", pa.bool_()),
    ]
)
RESULT_COLUMNS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image_uri", pa.string(), nullable=False),
        ("page", pa.int32()),
        ("question", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        ("error", pa.string()),
        ("answer", pa.string()),
        ("answer_confidence", pa.float32()),
        ("box", BOX),
        ("box_confidence", pa.float32()),
        ("regions", pa.list_(REGION)),
        ("baseline_answer", pa.string()),
        ("baseline_confidence", pa.float32()),
        ("refinement", REFINEMENT),
        ("candidates", pa.list_(CANDIDATE)),
        ("views", pa.int32()),
        ("visual_tokens", pa.int32()),
        ("image_width", pa.int32()),
        ("image_height", pa.int32()),
        ("image_sha256", pa.string()),
        ("calibrated", pa.bool_()),
        pa.field("schema_version", pa.int32(), nullable=False),
    ]
)
