"""The candidates that a run draws before it chooses, with the attention behind each box: what heads are learned from.

Legend: C coordinates, L layers, H heads, T visual tokens, K candidates. Boxes are x0, y0, x1, y1 in pixels of the picture.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ray_pipeline.batching import converse
from ray_pipeline.calibration.labelled_rows import batches
from ray_pipeline.geometry import boxes
from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.methods.candidates import boxes_of, gather
from ray_pipeline.methods.labelled_queries import LabelledQuery
from ray_pipeline.models.contract import Family, Generation, Sample, Samples
from ray_pipeline.perceiver import Plan, Seen, perceive
from schemas.picture import Box, Picture
from schemas.status import RowFailure


@dataclass(frozen=True)
class Query:
    """A question about a picture, and where what it asks for is."""

    picture: Picture
    question: str
    true_px: tuple[Box, ...]


@dataclass(frozen=True)
class Drawn:
    """Every answer drawn for one query, in order, with attention at `layers` behind each box.

    `failure` says why there is none.
    """

    query: Query
    footprints: Footprints | None
    layers: tuple[int, ...]
    generations: tuple[Generation, ...]
    failure: RowFailure | None = None

    def labelled(self) -> LabelledQuery | None:
        """Its readable candidates with their IoU, or None where there is none."""
        picture = self.query.picture
        candidates, _ = gather(self.generations, picture.width, picture.height)
        left = [candidate for candidate in candidates if candidate.readable]
        weights = [candidate.weights_CLHT for candidate in left if candidate.weights_CLHT is not None]
        if not weights or self.footprints is None or not self.query.true_px:
            return None
        truth = torch.tensor(self.query.true_px, dtype=torch.float64)
        iou_K = boxes.iou(boxes_of(left), truth).amax(1).float()
        return LabelledQuery(picture.sha256, self.footprints, picture.width, picture.height, torch.stack(weights), iou_K)


class _Overheard:
    """A family whose samples are kept, with attention at `layers`; the run itself sees what it asked for."""

    def __init__(self, family: Family, layers: tuple[int, ...]) -> None:
        self.family, self.layers = family, layers
        self.heard: dict[tuple[str, str], tuple[Sample, Samples]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.family, name)

    def sample(self, requests: Sequence[Sample]) -> list[Samples]:
        """Every candidate is drawn as if nobody listened; its attention is withheld from the run, which chooses without."""
        replies = self.family.sample([replace(request, layers=self.layers) for request in requests])
        for request, reply in zip(requests, replies, strict=True):
            self.heard[request.tokens.picture.sha256, request.question] = request, reply
        return [Samples(tuple(replace(one, weights_CLHT=None) for one in reply.generations)) for reply in replies]


def draw(family: Family, queries: Iterable[Query], plan: Plan, layers: tuple[int, ...], side_by_side: int) -> Iterator[Drawn]:
    """What a run under `plan` draws for each query: through the same conversation as its answers."""
    medoid = replace(plan, select=plan.select.model_copy(update={"method": "medoid"}))
    for group in batches(queries, side_by_side):
        listening: Any = _Overheard(family, layers)
        ended = converse(listening, {k: perceive(one.picture, one.question, medoid) for k, one in enumerate(group)})
        for k, query in enumerate(group):
            end = ended[k]
            if isinstance(end, Seen):
                request, reply = listening.heard[query.picture.sha256, query.question]
                yield Drawn(query, request.tokens.footprints, layers, reply.generations)
            else:
                yield Drawn(query, None, layers, (), end)


def layers_drawn(layers: int) -> tuple[int, ...]:
    """The layers worth reading: all of few, else those from 40 to 95 % of the depth (ACS section 5)."""
    return tuple(range(layers)) if layers <= 8 else tuple(range(round(0.4 * layers), round(0.95 * layers)))
