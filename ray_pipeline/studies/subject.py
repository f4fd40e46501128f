"""What a study asks about, and what came of it: plain numbers, from which tables are made.

Boxes are pixels of the picture.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace

from ray_pipeline.methods.focus import expect
from ray_pipeline.models.contract import Encode, Generate, Generation, Reply, Request, VisualTokens
from ray_pipeline.perceiver import Plan
from schemas.methods import FusionSettings, SelectSettings
from schemas.picture import Box, Picture


@dataclass(frozen=True)
class Subject:
    """A question about a picture, and the boxes of what it is about; `seed` is for what a study draws."""

    picture: Picture
    question: str
    true_px: tuple[Box, ...]
    seed: int = 0

    @property
    def whole_px(self) -> Box:
        """The picture's own box."""
        return 0.0, 0.0, float(self.picture.width), float(self.picture.height)


@dataclass(frozen=True)
class Said:
    """An answer: its text, its box where it has one."""

    text: str
    box_px: Box | None


@dataclass(frozen=True)
class Studied:
    """Answers by the name of the condition they were given under, and figures by the name of what they measure."""

    answers: Mapping[str, Said]
    figures: Mapping[str, float] = field(default_factory=dict)


Study = Callable[[Subject, Plan], Generator[Request, Reply, Studied]]


def asked(tokens: VisualTokens, question: str, plan: Plan) -> Generator[Request, Reply, Said]:
    """The greedy answer on a prefix."""
    return said(expect(Generation, (yield Generate(tokens, question, plan.prompt.max_new_tokens))))


def asked_behind(tokens: VisualTokens, boxes_px: tuple[Box, ...], question: str, plan: Plan) -> Generator[Request, Reply, Said]:
    """The greedy answer behind some more views, zoomed."""
    longer = expect(VisualTokens, (yield Encode(tokens.picture, boxes_px, behind=tokens)))
    return (yield from asked(longer, question, plan))


def said(answer: Generation) -> Said:
    """What counts of an answer."""
    return Said(answer.text, answer.box_px)


def greedy(plan: Plan, **refine: object) -> Plan:
    """The plan without candidates and scales, with a first answer, and with some other settings of FOCUS."""
    changed = type(plan.refine).model_validate({**plan.refine.model_dump(), "first_answer": True, **refine})
    return replace(plan, refine=changed, select=SelectSettings(), fusion=FusionSettings())
