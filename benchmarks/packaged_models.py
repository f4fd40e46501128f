"""What benchmarks of the packaged models share: a model under several plans, and the candidates that a run would draw.

Boxes are x0, y0, x1, y1 in pixels of the picture.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from ray_pipeline.batching import converse
from ray_pipeline.calibration import drawing
from ray_pipeline.calibration.labelled_rows import batches
from ray_pipeline.geometry import boxes
from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.methods.agreement import oracle
from ray_pipeline.methods.candidates import gather
from ray_pipeline.methods.pool import IouRegressor, Pool
from ray_pipeline.methods.slots import CHOOSE
from ray_pipeline.models.contract import Encode, Family, Generate, Generation, VisualTokens
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

    def __init__(self, model: ModelSettings, refine: RefineSettings, views: ViewSettings = ViewSettings()) -> None:
        check_family(JobSettings(manifest="", output="", model=model, refine=refine, views=views))
        self.family: Family = load_family(model, views, PromptSettings())
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
class Where:
    """A question about where something is, with all places that are right; `task` and `size` are what tables are divided by."""

    query: drawing.Query
    seed: int
    task: str
    size: str

    def iou(self, box_px: Box) -> float:
        """Of a box with the place that it is nearest to."""
        return max(iou(box_px, true) for true in self.query.true_px)


def where(case: Case) -> Where:
    """A case of the evaluation synthesis that asks for a box."""
    query = drawing.Query(picture_of(case), case.question.text, (case.question.box_px,))
    return Where(query, case.seed, case.question.task, case.bucket)


@dataclass(frozen=True)
class Drawn:
    """The answers a run draws for one question before it chooses, with the attention of all `layers` behind each box."""

    where: Where
    known: drawing.Drawn

    @property
    def width(self) -> int:
        return self.known.query.picture.width

    @property
    def height(self) -> int:
        return self.known.query.picture.height

    @property
    def layers(self) -> tuple[int, ...]:
        return self.known.layers

    @property
    def generations(self) -> tuple[Generation, ...]:
        return self.known.generations

    @property
    def footprints(self) -> Footprints:
        if self.known.footprints is None:
            raise ValueError(f"nothing was drawn for seed {self.where.seed}, expected its candidates")
        return self.known.footprints


Pick = Callable[[Drawn], Box]


def draw(bench: Bench, asked: Iterable[Where], plan: Plan, select: SelectSettings, layers: tuple[int, ...]) -> Iterator[Drawn]:
    """What a run under `plan` draws for each question, once for all selectors: through the same conversation as its answers."""
    for group in batches(asked, SIDE_BY_SIDE):
        drawn = drawing.draw(bench.family, [one.query for one in group], replace(plan, select=select), layers, SIDE_BY_SIDE)
        for one, known in zip(group, drawn, strict=True):
            if known.failure is not None:
                raise known.failure
            yield Drawn(one, known)


def pool_of(drawn: Drawn, settings: SelectSettings, profile: HeadProfile | None, regressor: IouRegressor | None) -> Pool | None:
    """What a selector would see of it, as in a run; None where a run would let the first answer stand."""
    candidates, _ = gather(drawn.generations, drawn.width, drawn.height)
    if sum(candidate.multiplicity for candidate in candidates) < 2:
        return None
    return Pool(
        candidates, drawn.footprints, drawn.width, drawn.height, settings, drawn.layers, profile, regressor, drawn.where.seed
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
    best = [oracle(candidates, true).box_px for true in one.where.query.true_px] if candidates else [NO_BOX]
    return max(best, key=one.where.iou)


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
