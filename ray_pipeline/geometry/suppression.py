"""Several boxes for one thing become one: greedy non-maximum suppression, and the mean of what was suppressed.

Legend: N boxes, K kept boxes, 4 the corners x0 y0 x1 y1 in any one frame.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ray_pipeline.geometry.boxes import iou


@dataclass(frozen=True)
class Suppressed:
    """`kept_K` indexes the boxes that stand for one thing each, the best score first. `owner_N` is, for every box, the kept
    one it belongs to; a kept box belongs to itself."""

    kept_K: Tensor
    owner_N: Tensor

    def members(self, kept: int) -> list[int]:
        """Indices of the boxes that a kept one stands for, itself among them, ascending."""
        return [int(k) for k in (self.owner_N == kept).nonzero()[:, 0]]


def suppress(boxes_N4: Tensor, scores_N: Tensor, iou_above: float) -> Suppressed:
    """Keep the best box, drop those that overlap it by more than `iou_above`, go on with what is left.

    Equal scores: the lower index first, so the outcome depends on nothing else. Boxes without area overlap nothing.

    Raises:
        ValueError: boxes that are not (N, 4), another number of scores, values that are not finite, a threshold
            outside 0..1.
    """
    _check(boxes_N4, scores_N, iou_above)
    overlaps_NN = iou(boxes_N4, boxes_N4) > iou_above
    owner_N = torch.full((len(boxes_N4),), -1, dtype=torch.long, device=boxes_N4.device)
    kept: list[int] = []
    for best in torch.sort(scores_N, descending=True, stable=True).indices.tolist():
        if owner_N[best] >= 0:
            continue
        owner_N[overlaps_NN[best] & (owner_N < 0)] = best
        owner_N[best] = best
        kept.append(best)
    return Suppressed(torch.tensor(kept, dtype=torch.long, device=boxes_N4.device), owner_N)


def weighted_means(boxes_N4: Tensor, scores_N: Tensor, suppressed: Suppressed) -> Tensor:
    """Per kept box the mean of all it stands for, weighted by their scores, (K, 4); the plain mean where all scores are 0.

    Raises:
        ValueError: a score below 0, or as in `suppress`.
    """
    _check(boxes_N4, scores_N, 0.0)
    if bool((scores_N < 0).any()):
        raise ValueError(f"lowest score {float(scores_N.min())}, expected weights of at least 0")
    belongs_KN = (suppressed.owner_N[None, :] == suppressed.kept_K[:, None]).to(boxes_N4)
    weights_KN = belongs_KN * scores_N.to(boxes_N4)
    silent_K1 = weights_KN.sum(-1, keepdim=True) == 0
    weights_KN = torch.where(silent_K1, belongs_KN, weights_KN)
    return weights_KN / weights_KN.sum(-1, keepdim=True) @ boxes_N4


def _check(boxes_N4: Tensor, scores_N: Tensor, iou_above: float) -> None:
    if boxes_N4.ndim != 2 or boxes_N4.shape[1] != 4 or scores_N.shape != boxes_N4.shape[:1]:
        raise ValueError(f"boxes {tuple(boxes_N4.shape)} with scores {tuple(scores_N.shape)}, expected (N, 4) with (N,)")
    if not (bool(boxes_N4.isfinite().all()) and bool(scores_N.isfinite().all())):
        raise ValueError("boxes or scores hold a value that is not finite, expected numbers")
    if not 0 <= iou_above <= 1:
        raise ValueError(f"overlap {iou_above}, expected 0..1")
