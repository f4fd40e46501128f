"""One picture and one question become one answer: the whole method on one page.

`perceive` is a conversation: it yields requests for the model and receives replies, so that many rows can be answered
side by side, a row's story reads straight down, and a row's answer does not know its neighbours.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_pipeline.geometry.boxes import clip
from ray_pipeline.methods.focus import Focus, Question, focus_layer
from ray_pipeline.methods.slots import FOCUS, LOOK
from ray_pipeline.models.contract import Encode, FamilyDefaults, Generate, Generation, Reply, Request, VisualTokens
from schemas.methods import RefineSettings
from schemas.model import PromptSettings, ViewSettings
from schemas.picture import Box, Picture
from schemas.result import CandidateRecord, Perception, Refinement
from schemas.status import RowFailure, Status


@dataclass(frozen=True)
class Plan:
    """How every row of a run is perceived."""

    views: ViewSettings
    refine: RefineSettings
    prompt: PromptSettings
    defaults: FamilyDefaults


@dataclass(frozen=True)
class Seen:
    """What one row came to, and the importance map behind its crop for whoever wants to look at it."""

    perception: Perception
    map_YX: Tensor | None


Conversation = Generator[Request, Reply, Seen]


def perceive(picture: Picture, question: str, plan: Plan) -> Conversation:
    """LOOK, answer, FOCUS, look closer, answer again, CHOOSE."""
    boxes = LOOK["multicrop"](picture.width, picture.height, plan.views, plan.defaults.input_px)
    tokens = _tokens((yield Encode(picture, boxes)))
    method, longest = plan.refine.method, plan.prompt.max_new_tokens
    if method == "none":
        only = _answer((yield Generate(tokens, question, longest)))
        return _seen(None, only, tokens, Refinement(method, (), False, "refinement is switched off"), None)
    first = None
    if plan.refine.first_answer:
        first = _answer((yield Generate(tokens, question, longest, focus_layer(plan.refine, plan.defaults))))
        if sure := _sure_enough(first, plan):
            return _seen(first, first, tokens, Refinement(method, (), False, sure), None)
    asked = Question(question, first.attention_HT if first else None)
    focus: Focus = yield from FOCUS[method](tokens, asked, plan.prompt.generic, plan.refine, plan.defaults)
    if not focus.boxes_px:
        final = first or _answer((yield Generate(tokens, question, longest)))
        return _seen(first, final, tokens, Refinement(method, (), False, focus.reason), focus.map_YX)
    zoomed = _tokens((yield Encode(picture, focus.boxes_px, behind=tokens)))
    second = _answer((yield Generate(zoomed, question, longest)))
    final, used, reason = _choose(first, second, plan.refine, focus)
    return _seen(first, final, zoomed, Refinement(method, focus.boxes_px, used, reason), focus.map_YX)


def _tokens(reply: Reply) -> VisualTokens:
    if not isinstance(reply, VisualTokens):
        raise TypeError(f"asked to encode, got {type(reply).__name__}")
    return reply


def _answer(reply: Reply) -> Generation:
    if not isinstance(reply, Generation):
        raise TypeError(f"asked to generate, got {type(reply).__name__}")
    return reply


def _sure_enough(first: Generation, plan: Plan) -> str | None:
    """Why zooming is not worth it, or None: gate 1.0 always zooms."""
    gate = plan.refine.gate if plan.refine.gate is not None else plan.defaults.gate
    sureness = math.exp(_sureness(first))
    return f"first answer is sure: {sureness:.3f}, gate {gate:.3f}" if gate < 1.0 and sureness >= gate else None


def _choose(first: Generation | None, second: Generation, settings: RefineSettings, focus: Focus) -> tuple[Generation, bool, str]:
    if first is None or settings.keep == "refined":
        return second, True, focus.reason
    if _sureness(second) >= _sureness(first):
        return second, True, f"{focus.reason}; surer than the first answer"
    return first, False, f"{focus.reason}; the first answer is surer"


def _sureness(answer: Generation) -> float:
    """Mean log-probability of what the answer consists of: its text, or its box where it has no text."""
    if not answer.text and answer.box_logprob is not None:
        return answer.box_logprob
    return answer.text_logprob if answer.text else -math.inf


def _seen(
    first: Generation | None, final: Generation, tokens: VisualTokens, refinement: Refinement, map_YX: Tensor | None
) -> Seen:
    if not math.isfinite(final.text_logprob):
        raise RowFailure(Status.INVALID_OUTPUT, f"the model wrote nothing: {final.raw[:80]!r}; expected text or a box")
    pool = [final] if first is final or first is None else [first, final]
    perception = Perception(
        answer=final.text,
        answer_confidence=_confidence(final.text_logprob),
        box_px=final.box_px and clip_box(final.box_px, tokens.picture),
        box_confidence=None if final.box_logprob is None else _confidence(final.box_logprob),
        baseline_answer=first.text if first else None,
        baseline_confidence=_confidence(first.text_logprob) if first else None,
        refinement=refinement,
        candidates=tuple(
            _record(answer, answer is final, tokens.picture) for answer in pool if math.isfinite(answer.text_logprob)
        ),
        views=len(tokens.boxes_px),
        visual_tokens=tokens.count,
    )
    return Seen(perception, map_YX)


def _record(answer: Generation, chosen: bool, picture: Picture) -> CandidateRecord:
    box = answer.box_px and clip_box(answer.box_px, picture)
    return CandidateRecord(box, answer.text, answer.text_logprob, None, None, chosen)


def _confidence(logprob: float) -> float | None:
    return min(1.0, math.exp(logprob)) if math.isfinite(logprob) else None


def clip_box(box_px: Box, picture: Picture) -> Box:
    """A box cut to the picture; boxes of views reach at most to its edge, floating point a little beyond."""
    x0, y0, x1, y1 = clip(torch.tensor(box_px, dtype=torch.float64), picture.width, picture.height).tolist()
    return x0, y0, x1, y1
