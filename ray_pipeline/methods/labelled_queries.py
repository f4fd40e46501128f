"""Queries whose candidates are known to be good or bad: what a model's profile is learned from (ACS sections 5 and 6).

Legend: K candidates of a query, C coordinates, L layers read, H heads, T visual tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from torch import Tensor

from ray_pipeline.geometry.boxes import iou
from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.methods.agreement import mean_iou_to_others, preferred
from ray_pipeline.methods.candidates import Candidate, boxes_of
from ray_pipeline.methods.entropy import Entropies, kept_tokens, read_entropies
from ray_pipeline.methods.pool import TokenView
from schemas.profile import COORDINATES


@dataclass(frozen=True)
class LabelledQuery:
    """Candidates of one question on one picture of width x height px: attention while writing, IoU with the truth.

    `image` names the picture wherever sets are split. `weights_KCLHT` are not renormalised and may be halves.

    Raises:
        ValueError: attention, footprints and IoUs differ in number.
    """

    image: str
    footprints: Footprints
    width: int
    height: int
    weights_KCLHT: Tensor
    iou_K: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.weights_KCLHT.shape)
        expected = (len(self.iou_K), len(COORDINATES), "layers", "heads", len(self.footprints))
        if len(shape) != 5 or (shape[0], shape[1], shape[4]) != (expected[0], expected[1], expected[4]):
            raise ValueError(f"attention of shape {shape}, expected {expected}")

    def readable(self) -> "LabelledQuery":
        """Without the candidates that have NaN or infinity in their attention.

        Raises:
            ValueError: none is left.
        """
        finite_K = self.weights_KCLHT.flatten(1).isfinite().all(1)
        if not finite_K.any():
            raise ValueError(f"image {self.image}: 0 of {len(finite_K)} candidates have readable attention")
        return replace(self, weights_KCLHT=self.weights_KCLHT[finite_K], iou_K=self.iou_K[finite_K])


@dataclass(frozen=True)
class QueryReading:
    """All that head discovery keeps of a query: entropies (K, C, L, H), some kilobytes in place of its attention."""

    image: str
    entropies: Entropies
    iou_K: Tensor


def read_query(query: LabelledQuery, tokens: TokenView) -> QueryReading:
    """Entropies of all heads, candidates with NaN in their attention left out."""
    rows = query.readable()
    return QueryReading(query.image, read_entropies(rows.weights_KCLHT, kept_tokens(query.footprints, tokens)), rows.iou_K)


def pseudo_iou(candidates: Sequence[Candidate]) -> Tensor:
    """IoU with the medoid, (K,): the label where nobody knows the truth (section 6)."""
    boxes = boxes_of(candidates)
    centre = preferred(candidates, (-mean_iou_to_others(candidates)).tolist())
    return iou(boxes, boxes[centre : centre + 1])[:, 0]


def image_parts(images: Iterable[str], parts: int, salt: str = "") -> dict[str, int]:
    """Which of so many equal parts each image belongs to: by the order of their digests, whatever order they come in."""
    ranking = sorted(set(images), key=lambda image: sha256(f"{salt}\n{image}".encode()).digest())
    return {image: place % parts for place, image in enumerate(ranking)}
