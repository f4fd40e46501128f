"""One picture and one question become one answer: the whole method on one page.

`perceive` is a conversation: it yields requests for the model and receives replies, so that many rows can be answered
side by side, a row's story reads straight down, and a row's answer does not know its neighbours.
"""

import hashlib
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ray_pipeline.geometry.boxes import clip
from ray_pipeline.methods.choose import Chosen, choose
from ray_pipeline.methods.closer import closer_view, holding, moved_over
from ray_pipeline.methods.focus import Focus, Question, expect, focus_layer, zoom_gate
from ray_pipeline.methods.fusion import fuse, scale_views, sureness
from ray_pipeline.methods.pool import IouRegressor
from ray_pipeline.methods.slots import CHOOSE, FOCUS, LOOK
from ray_pipeline.models.contract import Boost, Encode, FamilyDefaults, Generate, Generation, Reply, Request, VisualTokens
from schemas.labelling import LabelSettings
from schemas.methods import FusionSettings, RefineSettings, SelectSettings
from schemas.model import PromptSettings, ViewSettings
from schemas.picture import Box, Picture
from schemas.profile import ConfidenceMap, HeadProfile, Sure
from schemas.reading import ReadingSettings
from schemas.result import CandidateRecord, Perception, Refinement, Region
from schemas.status import RowFailure, Status

EDGE = 0.01  # of a crop's side: a box that comes this near to an edge ends there
READ_WITH_THE_ANSWER = ("rel_att", "auto")  # methods that use the attention of the first answer's prompt


@dataclass(frozen=True)
class Ways:
    """How phrases are found: in the text read, by asking for their place with `question`, or both, in this order."""

    read: bool = True
    locate: bool = False
    question: str = "{question}"


@dataclass(frozen=True)
class Plan:
    """How every row of a run is perceived. `profile` and `regressor` belong to the model and are None where it has none.

    `confidences`: what answers tell of their sureness goes through these maps last; all that is decided goes by raw numbers.
    """

    views: ViewSettings
    refine: RefineSettings
    prompt: PromptSettings
    defaults: FamilyDefaults
    select: SelectSettings = SelectSettings()
    fusion: FusionSettings = FusionSettings()
    profile: HeadProfile | None = None
    regressor: IouRegressor | None = None
    seed: int = 0
    reading: ReadingSettings = field(default_factory=ReadingSettings)
    label: LabelSettings = field(default_factory=LabelSettings)
    ways: Ways = Ways()
    confidences: Mapping[Sure, ConfidenceMap] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What one row came to, and the importance map behind its crop for whoever wants to look at it."""

    perception: Perception
    map_YX: Tensor | None


@dataclass(frozen=True)
class _Answered:
    """A row's story so far: the first and the final answer, what it cost, what FOCUS did and CHOOSE saw.

    `passed` are the answers behind crops that were looked at before the last one.
    """

    final: Generation
    first: Generation | None
    refinement: Refinement
    views: int
    visual_tokens: int
    map_YX: Tensor | None = None
    records: tuple[CandidateRecord, ...] | None = None
    regions: tuple[Region, ...] = ()
    passed: tuple[Generation, ...] = ()


Conversation = Generator[Request, Reply, Seen]


def perceive(picture: Picture, question: str, plan: Plan) -> Conversation:
    """LOOK, answer, FOCUS, look closer, answer again, CHOOSE; then the same at other scales, where asked for."""
    return (yield from perceive_shown((yield from look(picture, plan)), question, plan))


def look(picture: Picture, plan: Plan) -> Generator[Request, Reply, VisualTokens]:
    """LOOK alone: the prefix on which any number of questions may be asked."""
    boxes = LOOK[plan.defaults.look](picture.width, picture.height, plan.views, plan.defaults.input_px)
    return expect(VisualTokens, (yield Encode(picture, boxes)))


def perceive_shown(tokens: VisualTokens, question: str, plan: Plan) -> Conversation:
    """All that follows LOOK."""
    picture = tokens.picture
    answered = yield from _refined(tokens, question, plan)
    if plan.fusion.scales:
        answered = yield from _at_scales(picture, question, plan, answered)
    seen = _seen(answered, picture)
    return replace(seen, perception=_calibrated(seen.perception, plan.confidences)) if plan.confidences else seen


def _refined(tokens: VisualTokens, question: str, plan: Plan) -> Generator[Request, Reply, _Answered]:
    refine, longest = plan.refine, plan.prompt.max_new_tokens
    if refine.method == "none":
        return (yield from _final(tokens, question, plan, None, Refinement("none", (), False, "refinement is switched off")))
    first = None
    if refine.first_answer:
        layer = focus_layer(refine, plan.defaults) if refine.method in READ_WITH_THE_ANSWER else None
        first = expect(Generation, (yield Generate(tokens, question, longest, layer)))
        if sure := _sure_enough(first, plan):
            return (yield from _final(tokens, question, plan, first, Refinement(refine.method, (), False, sure)))
    asked = Question(question, first.attention_HT if first else None)
    sized = holding(first, tokens.picture, refine, plan.defaults) if first and refine.hold_answer else refine
    focus: Focus = yield from FOCUS[refine.method](tokens, asked, plan.prompt.generic, sized, plan.defaults)
    if first and refine.hold_answer:
        focus = replace(focus, boxes_px=tuple(moved_over(crop, first, tokens.picture) for crop in focus.boxes_px))
    if not focus.boxes_px:
        none = Refinement(refine.method, (), False, focus.reason)
        return replace((yield from _final(tokens, question, plan, first, none)), map_YX=focus.map_YX)
    shown = tokens if refine.looks > 1 else None  # else the shorter prefix goes as soon as the longer one is there
    tokens = expect(VisualTokens, (yield Encode(tokens.picture, focus.boxes_px, behind=tokens)))
    zoom = Refinement(refine.method, focus.boxes_px, True, focus.reason)
    second = yield from _final(tokens, question, plan, None, zoom)
    if shown is not None:
        second = yield from _looked_closer(shown, question, plan, second)
    return replace(_surer(first, second, plan), map_YX=focus.map_YX)


def _looked_closer(shown: VisualTokens, question: str, plan: Plan, answered: _Answered) -> Generator[Request, Reply, _Answered]:
    """Look after look at the box that the answer gave, until one is sure enough, or less sure than the one before it."""
    for look in range(2, plan.refine.looks + 1):
        (crop,) = answered.refinement.crops_px
        view = closer_view(answered.final, crop, shown.picture, plan.defaults.input_px)
        if view is None or _sure_enough(answered.final, plan):
            break
        tokens = expect(VisualTokens, (yield Encode(shown.picture, (view,), behind=shown)))
        reason = f"{answered.refinement.reason}; look {look} at the box of the answer before"
        again = yield from _final(tokens, question, plan, None, Refinement(plan.refine.method, (view,), True, reason))
        again = replace(again, views=answered.views + 1, visual_tokens=answered.visual_tokens + tokens.count - shown.count)
        if plan.refine.keep == "surer" and sureness(again.final) < sureness(answered.final):
            kept = replace(answered.refinement, reason=f"{answered.refinement.reason}; look {look} was less sure")
            stands = replace(answered, refinement=kept, passed=(*answered.passed, again.final))
            return replace(stands, views=again.views, visual_tokens=again.visual_tokens)
        answered = replace(again, passed=(*answered.passed, answered.final))
    return answered


def _final(
    tokens: VisualTokens, question: str, plan: Plan, known: Generation | None, refinement: Refinement
) -> Generator[Request, Reply, _Answered]:
    """The answer on a prefix: greedy (`known`, where it has been given), or chosen among candidates."""
    spent = len(tokens.boxes_px), tokens.count
    if plan.select.method == "greedy":
        boost = Boost(refinement.crops_px, plan.refine.boost) if refinement.crops_px and plan.refine.boost != 1 else None
        asked = Generate(tokens, question, plan.prompt.max_new_tokens, boost=boost)
        final = known or expect(Generation, (yield asked))
        return _Answered(final, known, refinement, *spent)
    chosen: Chosen = yield from choose(
        tokens, question, plan.select, CHOOSE[plan.select.method], plan.profile, plan.regressor,
        plan.prompt.max_new_tokens, _row_seed(plan.seed, tokens.picture, question),
    )  # fmt: skip
    return _Answered(chosen.generation, known, refinement, *spent, records=chosen.records)


def _row_seed(seed: int, picture: Picture, question: str) -> int:
    """One seed per picture and question: neither the row's place nor its neighbours matter."""
    named = hashlib.sha256(f"{seed}\n{picture.sha256}\n{question}".encode()).digest()
    return int.from_bytes(named[:6], "big")


def _sure_enough(first: Generation, plan: Plan) -> str | None:
    """Why zooming is not worth it, or None: gate 1.0 always zooms."""
    gate = zoom_gate(plan.refine, plan.defaults)
    sure = math.exp(sureness(first))
    return f"first answer is sure: {sure:.3f}, gate {gate:.3f}" if gate < 1.0 and sure >= gate else None


def _surer(first: Generation | None, second: _Answered, plan: Plan) -> _Answered:
    """Which of the two answers stands. What CHOOSE chose by attention is not undone by likelihood."""
    if first is None:
        return second
    second = replace(second, first=first)
    refinement = second.refinement
    if plan.refine.keep == "surer" and not second.final.text and _cut_off(second.final, refinement.crops_px):
        kept = replace(refinement, used=False, reason=f"{refinement.reason}; the crop cuts its box off, the first answer stands")
        return replace(second, final=first, refinement=kept, records=_records((first, *second.passed, second.final), first, None))
    if plan.refine.keep == "refined" or second.records is not None:
        return second
    if sureness(second.final) >= sureness(first):
        return replace(second, refinement=replace(refinement, reason=f"{refinement.reason}; surer than the first answer"))
    kept = replace(refinement, used=False, reason=f"{refinement.reason}; the first answer is surer")
    return replace(second, final=first, refinement=kept, records=_records((first, *second.passed, second.final), first, None))


def _cut_off(answer: Generation, crops_px: tuple[Box, ...]) -> bool:
    """A box that ends at an edge of its crop: the thing goes on where the crop does not show it."""
    if answer.box_px is None:
        return False
    for crop in crops_px:
        margins = [EDGE * (crop[2] - crop[0]), EDGE * (crop[3] - crop[1])] * 2
        inside = all(crop[k] - margins[k] <= answer.box_px[k] <= crop[k + 2] + margins[k] for k in (0, 1))
        if inside and any(abs(side - edge) <= margin for side, edge, margin in zip(answer.box_px, crop, margins, strict=True)):
            return True
    return False


def _at_scales(picture: Picture, question: str, plan: Plan, main: _Answered) -> Generator[Request, Reply, _Answered]:
    """Overlapping crops of every scale answer for themselves; the surest answer stands, boxes of one thing become one."""
    answers, views, count = [main.final], main.views, main.visual_tokens
    for box in (box for crops in scale_views(picture.width, picture.height, plan.fusion.scales) for box in crops):
        tokens = expect(VisualTokens, (yield Encode(picture, (box,))))
        answers.append(expect(Generation, (yield Generate(tokens, question, plan.prompt.max_new_tokens))))
        views, count = views + len(tokens.boxes_px), count + tokens.count
    fused = fuse(answers, plan.fusion.nms_iou)
    regions = tuple(
        Region(clip_box(box, picture), None, answers[members[0]].text or None, score, "scale")
        for box, score, members in zip(fused.boxes_px, fused.scores, fused.members, strict=True)
    )
    best = 0 if fused.surest is None else fused.surest
    reason = main.refinement.reason + (f"; of {len(answers)} scales and crops, number {best} is surest" if best else "")
    refinement = replace(main.refinement, used=main.refinement.used and best == 0, reason=reason)
    final = answers[best]
    return replace(
        main, final=final, refinement=refinement, views=views, visual_tokens=count, regions=regions,
        records=_records(answers, final, main.first),
    )  # fmt: skip


def _seen(answered: _Answered, picture: Picture) -> Seen:
    final, first = answered.final, answered.first
    if not math.isfinite(final.text_logprob):
        raise RowFailure(Status.INVALID_OUTPUT, f"the model wrote nothing: {final.raw[:80]!r}; expected text or a box")
    records = answered.records
    if records is None:
        records = _records([*answered.passed, final], final, first)
    records = tuple(replace(record, box_px=record.box_px and clip_box(record.box_px, picture)) for record in records)
    predicted = next((record.predicted_iou for record in records if record.chosen), None)
    sure = None if final.box_logprob is None else _confidence(final.box_logprob)
    perception = Perception(
        answer=final.text,
        answer_confidence=_confidence(final.text_logprob),
        box_px=final.box_px and clip_box(final.box_px, picture),
        box_confidence=sure if predicted is None else predicted,
        baseline_answer=first.text if first else None,
        baseline_confidence=_confidence(first.text_logprob) if first else None,
        refinement=answered.refinement,
        candidates=records,
        views=answered.views,
        visual_tokens=answered.visual_tokens,
        regions=answered.regions,
    )
    return Seen(perception, answered.map_YX)


def _calibrated(said: Perception, maps: Mapping[Sure, ConfidenceMap]) -> Perception:
    answer, box, first = said.answer_confidence, said.box_confidence, said.baseline_confidence
    raw: dict[Sure, float | None] = {"answer": answer, "box": box, "baseline": first}
    known = {name: maps[name].of(value) for name, value in raw.items() if name in maps and value is not None}
    return replace(
        said, calibrated=bool(known), answer_confidence=known.get("answer", answer), box_confidence=known.get("box", box),
        baseline_confidence=known.get("baseline", first),
    )  # fmt: skip


def _records(
    answers: tuple[Generation, ...] | list[Generation], chosen: Generation, first: Generation | None
) -> tuple[CandidateRecord, ...]:
    """The pool of a greedy row: its answers in the order given, the first one before them unless it is among them."""
    pool = list(answers) if first is None or any(answer is first for answer in answers) else [first, *answers]
    return tuple(
        CandidateRecord(answer.box_px, answer.text, answer.text_logprob, None, None, answer is chosen)
        for answer in pool
        if math.isfinite(answer.text_logprob)
    )


def _confidence(logprob: float) -> float | None:
    return min(1.0, math.exp(logprob)) if math.isfinite(logprob) else None


def clip_box(box_px: Box, picture: Picture) -> Box:
    """A box cut to the picture; boxes of views reach at most to its edge, floating point a little beyond."""
    x0, y0, x1, y1 = clip(torch.tensor(box_px, dtype=torch.float64), picture.width, picture.height).tolist()
    return x0, y0, x1, y1
