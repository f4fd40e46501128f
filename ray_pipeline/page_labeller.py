"""Phrases become boxes: the whole of `label` on one picture, as a conversation beside those that answer and read.

read     the picture is read as a page; a phrase is looked for in its text, every place counts
locate   the model is asked where the phrase is, exactly as a question is answered; the picture is encoded once for all
auto     reads, and asks for what the text does not hold; and for what it holds where the boxes of lines are mere slices

What is in the boxes found is asked last (`box_attributes`), behind the same encoding of the picture.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

from ray_pipeline.box_attributes import describe
from ray_pipeline.methods.focus import expect
from ray_pipeline.methods.phrase_match import PageText, ReadText, folded_phrase
from ray_pipeline.models.contract import Reply, Request, TextLines, VisualTokens
from ray_pipeline.page_reader import read_page
from ray_pipeline.perceiver import Conversation, Plan, Seen, look, perceive_shown
from schemas.picture import Box, Picture
from schemas.result import CandidateRecord, Perception, Refinement, Region
from schemas.status import RowFailure, Status

KIND = "label"
LEAST_ALIKE = 0.65  # of a phrase's characters that are read where it is located, if it can be nothing but print
MOST = 10_000  # members of one list of a result row; what a thousand phrases may exceed is cut off there


@dataclass
class _Found:
    """What is known of a picture so far, and what it has cost."""

    regions: dict[str, tuple[Region, ...]] = field(default_factory=dict)  # by phrase
    candidates: list[CandidateRecord] = field(default_factory=list)
    crops_px: list[Box] = field(default_factory=list)
    zoomed: bool = False
    located: int = 0
    views: int = 0
    visual_tokens: int = 0

    def boxes(self, phrases: Sequence[str]) -> tuple[Region, ...]:
        """As many as a row may hold, phrase by phrase."""
        return tuple(region for phrase in phrases for region in self.regions.get(phrase, ()))[:MOST]


def label_picture(picture: Picture, phrases: Sequence[str], plan: Plan) -> Conversation:
    """A box for every place of every phrase; a phrase that is not there has none, and nothing has failed."""
    wanted, found = _distinct(phrases), _Found()
    lines, left, shown = list[ReadText](), wanted, None
    if plan.ways.read and wanted:
        lines, placed = yield from _read(picture, plan, found)
        _look_up(wanted, lines, plan, found)
        left = [phrase for phrase in wanted if not placed or phrase not in found.regions]
    if plan.ways.locate and left:
        shown = yield from _locate(picture, left, lines, plan, found)
    boxes, said = found.boxes(wanted), None
    if plan.label.attributes and boxes:
        boxes, said = yield from _described(shown or (yield from _looked(picture, plan, found)), boxes, plan, found)
    return Seen(_perception(wanted, boxes, said, plan, found), None)


def _distinct(phrases: Sequence[str]) -> list[str]:
    """Phrases with something to look for, each once, in the order given."""
    first: dict[str, str] = {}
    for phrase in phrases:
        first.setdefault(folded_phrase(phrase), phrase)
    return [phrase for folded, phrase in first.items() if folded]


def _read(picture: Picture, plan: Plan, found: _Found) -> Generator[Request, Reply, tuple[list[ReadText], bool]]:
    """The page's lines in reading order, and whether all of their boxes are the model's own."""
    talk, placed = read_page(picture, plan), True
    request = next(talk)
    while True:
        reply = expect(TextLines, (yield request))
        placed = placed and (reply.placed == "own" or not reply.lines)
        try:
            request = talk.send(reply)
        except StopIteration as stop:
            seen: Seen = stop.value
            break
    said = seen.perception
    found.views, found.visual_tokens = said.views, said.visual_tokens
    return [ReadText(line.box_px, line.text or "", line.confidence or 0.0) for line in said.regions], placed


def _look_up(phrases: Sequence[str], lines: Sequence[ReadText], plan: Plan, found: _Found) -> None:
    page = PageText(lines)
    for phrase in phrases:
        places = page.places(phrase, plan.label.similarity)
        regions = [Region(one.box_px, phrase, one.text, one.similarity * one.confidence, KIND) for one in places]
        if sure := tuple(region for region in regions if _sure(region.confidence, plan)):
            found.regions[phrase] = sure


def _locate(
    picture: Picture, phrases: Sequence[str], lines: Sequence[ReadText], plan: Plan, found: _Found
) -> Generator[Request, Reply, VisualTokens]:
    """Ask for each phrase on one and the same prefix, which is handed on."""
    tokens = yield from _looked(picture, plan, found)
    for phrase in phrases:
        said = yield from _pointed(tokens, plan.ways.question.replace("{question}", phrase), plan)
        if said is None:
            continue
        found.views += said.views - len(tokens.boxes_px)
        found.visual_tokens += said.visual_tokens - tokens.count
        found.candidates += [replace(record, text=phrase) for record in said.candidates]
        found.crops_px += said.refinement.crops_px
        found.zoomed = found.zoomed or said.refinement.used
        if said.box_px is not None and _sure(said.box_confidence, plan) and _could_be(phrase, said.box_px, lines, plan):
            text = " ".join(line.text for line in lines if _inside(line.box_px, said.box_px)) or None
            found.regions[phrase] = (Region(said.box_px, phrase, text, said.box_confidence, KIND),)
            found.located += 1
    return tokens


def _looked(picture: Picture, plan: Plan, found: _Found) -> Generator[Request, Reply, VisualTokens]:
    tokens = yield from look(picture, plan)
    found.views, found.visual_tokens = found.views + len(tokens.boxes_px), found.visual_tokens + tokens.count
    return tokens


def _described(
    tokens: VisualTokens, boxes: Sequence[Region], plan: Plan, found: _Found
) -> Generator[Request, Reply, tuple[tuple[Region, ...], str]]:
    """The boxes with what is in them, and in words how many were asked about."""
    described = yield from describe(tokens, boxes, plan, MOST)
    found.views, found.visual_tokens = found.views + described.views, found.visual_tokens + described.visual_tokens
    return described.regions, described.said


def _pointed(tokens: VisualTokens, question: str, plan: Plan) -> Generator[Request, Reply, Perception | None]:
    """What the model said of one phrase; None where it said nothing at all."""
    try:
        seen = yield from perceive_shown(tokens, question, plan)
    except RowFailure as failure:
        if failure.status != Status.INVALID_OUTPUT:
            raise
        return None
    return seen.perception


def _sure(confidence: float | None, plan: Plan) -> bool:
    return confidence is not None and confidence >= plan.label.least_confidence


def _could_be(phrase: str, box_px: Box, lines: Sequence[ReadText], plan: Plan) -> bool:
    """Whether the phrase may stand there: a model that knows print alone points somewhere whatever it is asked for."""
    if not (plan.defaults.print_only and plan.ways.read):
        return True
    there = [line for line in lines if _inside(line.box_px, box_px) or _inside(box_px, line.box_px)]
    return bool(PageText(there).places(phrase, LEAST_ALIKE))


def _inside(line_px: Box, box_px: Box) -> bool:
    """Whether the line's middle lies in the box."""
    return all(box_px[k] <= (line_px[k] + line_px[k + 2]) / 2 <= box_px[k + 2] for k in (0, 1))


def _perception(
    phrases: Sequence[str], regions: tuple[Region, ...], of_boxes: str | None, plan: Plan, found: _Found
) -> Perception:
    there = [phrase for phrase in phrases if phrase in found.regions]
    said = f"{len(there) - found.located} of {len(phrases)} phrases read, {found.located} located"
    said += f"; {of_boxes}" if of_boxes else ""
    return Perception(
        answer="\n".join(" ".join(phrase.split()) for phrase in there),
        answer_confidence=None,
        box_px=None,
        box_confidence=None,
        baseline_answer=None,
        baseline_confidence=None,
        refinement=Refinement(
            plan.refine.method if plan.ways.locate else "none", tuple(found.crops_px[:MOST]), found.zoomed, said
        ),
        candidates=tuple(found.candidates[:MOST]),
        views=found.views,
        visual_tokens=found.visual_tokens,
        regions=regions,
    )
