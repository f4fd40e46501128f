"""What benchmarks of the embedded model share: the model under several plans, and the candidates that a run would draw.

Boxes are x0, y0, x1, y1 in pixels of the picture.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from ray_pipeline.batching import converse
from ray_pipeline.geometry import boxes
from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.methods.agreement import oracle
from ray_pipeline.methods.candidates import gather
from ray_pipeline.methods.pool import IouRegressor, Pool
from ray_pipeline.methods.slots import CHOOSE
from ray_pipeline.models.contract import Encode, Family, Generate, Generation, Sample, Samples, VisualTokens
from ray_pipeline.models.families import check_family, load_family
from ray_pipeline.perceiver import Plan, Seen, perceive
from ray_pipeline.synthesis.evaluation import Case
from schemas.job import JobSettings
from schemas.methods import RefineSettings, SelectSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture
from schemas.profile import HeadProfile

LONGEST = 40
SIDE_BY_SIDE = 8
NO_BOX: Box = (0.0, 0.0, 0.0, 0.0)


class Bench:
    """The model with the plans to compare."""

    def __init__(self, model: ModelSettings, refine: RefineSettings) -> None:
        check_family(JobSettings(manifest="", output="", model=model, refine=refine))
        self.family: Family = load_family(model, ViewSettings(), PromptSettings())
        self.refine = refine

    def plan(self, max_crops: int = 0, **refine: object) -> Plan:
        refined = RefineSettings.model_validate({**self.refine.model_dump(), **refine})
        return Plan(ViewSettings(max_crops=max_crops), refined, PromptSettings(max_new_tokens=LONGEST), self.family.defaults)

    def seen(self, picture: Picture, question: str, plan: Plan) -> Seen:
        ended = converse(self.family, {0: perceive(picture, question, plan)})[0]
        if not isinstance(ended, Seen):
            raise ended
        return ended

    def tokens(self, picture: Picture, boxes: tuple[Box, ...], behind: VisualTokens | None = None) -> VisualTokens:
        return self.family.encode([Encode(picture, boxes, behind)])[0]

    def ask(self, tokens: VisualTokens, question: str) -> Generation:
        return self.family.generate([Generate(tokens, question, LONGEST)])[0]


@dataclass(frozen=True)
class Drawn:
    """The answers a run draws for one case before it chooses, with the attention of all `layers` behind each box."""

    case: Case
    width: int
    height: int
    footprints: Footprints
    layers: tuple[int, ...]
    generations: tuple[Generation, ...]


Pick = Callable[[Drawn], Box]


class _Overheard:
    """A family whose samples are kept, with attention at `layers`; the run itself sees what it asked for."""

    def __init__(self, family: Family, layers: tuple[int, ...]) -> None:
        self.family, self.layers = family, layers
        self.heard: list[tuple[Sample, Samples]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.family, name)

    def sample(self, requests: Sequence[Sample]) -> list[Samples]:
        """Every candidate is drawn as if nobody listened; its attention is withheld from the run, which chooses without."""
        replies = self.family.sample([replace(request, layers=self.layers) for request in requests])
        self.heard += zip(requests, replies, strict=True)
        return [Samples(tuple(replace(one, weights_CLHT=None) for one in reply.generations)) for reply in replies]


def draw(bench: Bench, some: Iterable[Case], plan: Plan, select: SelectSettings, layers: tuple[int, ...]) -> Iterator[Drawn]:
    """What a run under `plan` draws for each case, once for all selectors: through the same conversation as its answers."""
    medoid = replace(plan, select=select.model_copy(update={"method": "medoid"}))
    left = iter(some)
    while group := list(islice(left, SIDE_BY_SIDE)):
        family: Any = _Overheard(bench.family, layers)
        talks = {case.seed: perceive(picture_of(case), case.question.text, medoid) for case in group}
        for ended in converse(family, talks).values():
            if not isinstance(ended, Seen):
                raise ended
        heard = {request.tokens.picture.sha256: (request.tokens, reply) for request, reply in family.heard}
        for case in group:
            tokens, reply = heard[str(case.seed)]
            picture = tokens.picture
            yield Drawn(case, picture.width, picture.height, tokens.footprints, layers, reply.generations)


def pool_of(drawn: Drawn, settings: SelectSettings, profile: HeadProfile | None, regressor: IouRegressor | None) -> Pool | None:
    """What a selector would see of it, as in a run; None where a run would let the first answer stand."""
    candidates, _ = gather(drawn.generations, drawn.width, drawn.height)
    if sum(candidate.multiplicity for candidate in candidates) < 2:
        return None
    return Pool(
        candidates, drawn.footprints, drawn.width, drawn.height, settings, drawn.layers, profile, regressor, drawn.case.seed
    )  # fmt: skip


def picker(settings: SelectSettings, profile: HeadProfile | None = None, regressor: IouRegressor | None = None) -> Pick:
    """The box that a run under these settings would return; `greedy` is the first answer's."""

    def pick(one: Drawn) -> Box:
        pool = None if settings.method == "greedy" else pool_of(one, settings, profile, regressor)
        box = CHOOSE[settings.method](pool).box_px if pool else one.generations[0].box_px
        return box or NO_BOX

    return pick


def best_of_all(one: Drawn) -> Box:
    """What no selector can beat."""
    candidates, _ = gather(one.generations, one.width, one.height)
    return oracle(candidates, one.case.question.box_px).box_px if candidates else NO_BOX


def picture_of(case: Case) -> Picture:
    """Its pixels, named by its seed."""
    return Picture(np.asarray(case.rendering.image.convert("RGB")), str(case.seed))


def contained_share(inner: Box, outer: Box) -> float:
    """Part of `inner` that lies in `outer`."""
    return float(boxes.contained_share(_row(inner), _row(outer)))


def iou(a: Box, b: Box) -> float:
    """Intersection over union."""
    return float(boxes.iou(_row(a), _row(b)))


def _row(box: Box) -> torch.Tensor:
    return torch.tensor([box], dtype=torch.float64)
