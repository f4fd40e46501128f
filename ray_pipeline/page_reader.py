"""One page becomes its text: the whole of `ocr` on one page, as a conversation beside `perceiver.perceive`.

tiles    the page as the family reads it best; a tile whose reading ran out of room is read again in quarters
merge    what several tiles have read becomes one list of lines
reread   the least sure lines, cut out and enlarged, once more; the surer reading stands
order    columns and rows, as people read them
turn     a page read with doubt is tried in all four quarter turns, and read once more where another one is clearly surer
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from ray_pipeline.methods.focus import expect
from ray_pipeline.methods.line_merge import ReadTile, merge_lines
from ray_pipeline.methods.page_turns import DOUBT, TURNS, as_it_lies, best_turn, centre, sureness, turned
from ray_pipeline.methods.reading_order import levelled, page_text, reading_order
from ray_pipeline.methods.reading_tiles import quarters, reading_tiles
from ray_pipeline.methods.repetition import within_reason, without_loops
from ray_pipeline.models.contract import ReadLines, Reply, Request, TextLine, TextLines
from ray_pipeline.perceiver import Conversation, Plan, Seen, clip_box
from schemas.picture import Box, Picture
from schemas.reading import ReadingSettings
from schemas.result import Perception, Refinement, Region

MARGIN = (0.4, 0.2)  # of a line's height, that a line cut out shows beside it and above and below it
LEAST_PX = 1.0  # of a line's side
KEPT_LENGTH = 0.5  # a second reading with fewer characters than this share of the first has lost something


@dataclass
class _Spent:
    """What a page has cost so far, and whether all of its boxes are the family's own."""

    views: int = 0
    visual_tokens: int = 0
    own: bool = True

    def add(self, reply: TextLines) -> None:
        self.views, self.visual_tokens = self.views + 1, self.visual_tokens + reply.tokens
        self.own = self.own and reply.placed == "own"


def read_page(picture: Picture, plan: Plan) -> Conversation:
    """All text of a page: its lines with boxes and confidences, and the page's text in reading order.

    A page without text is one whose text is empty: nothing has failed. Boxes are in the frame of the picture, however the
    page lies in it.
    """
    spent = _Spent()
    first = yield from _as_it_lies(picture, plan, spent)
    stands = first
    if plan.reading.orientation == "auto" and spent.own and _sure(first) < DOUBT:
        turn = yield from _best_turn(picture, plan, spent)
        if turn:
            second = yield from _as_it_lies(turned(picture, turn), plan, spent)
            stands = _turned_back(second, turn, picture) if _sure(second) > _sure(first) else first
    return Seen(replace(stands, views=spent.views, visual_tokens=spent.visual_tokens), None)


def _as_it_lies(picture: Picture, plan: Plan, spent: _Spent) -> Generator[Request, Reply, Perception]:
    """The page read as its pixels are; costs are those spent so far."""
    settings = plan.reading
    tiles: list[ReadTile] = []
    for box in _regions(picture, plan):
        tiles += yield from _read(picture, box, settings, spent)
    merged = merge_lines(tiles, picture.width, picture.height, settings.merge_iou, settings.text_agreement)
    first = _on_the_page(merged, picture)
    read, refinement = yield from _reread(picture, first, settings, spent)
    return _perception(_page(first, settings), _page(read, settings), refinement, spent)


def _sure(said: Perception) -> float:
    """A page's confidence; 0 where nothing was read."""
    return said.answer_confidence or 0.0


def _best_turn(picture: Picture, plan: Plan, spent: _Spent) -> Generator[Request, Reply, int]:
    """The quarter turn in which the middle of the page is read best; 0 where none is clearly ahead."""
    middle, scores = centre(picture.width, picture.height, _side_px(plan)), list[float]()
    for turn in TURNS:
        shown = turned(picture, turn, middle)
        whole = 0.0, 0.0, float(shown.width), float(shown.height)
        reply = expect(TextLines, (yield ReadLines(shown, whole, max_new_tokens=plan.reading.max_new_tokens)))
        spent.add(reply)
        scores.append(sureness(_cleaned(reply.lines)))
    return best_turn(scores)


def _turned_back(said: Perception, turn: int, picture: Picture) -> Perception:
    """What was said of the page so turned, with boxes in the frame of the picture."""

    def back(box_px: Box) -> Box:
        return clip_box(as_it_lies(box_px, turn, picture.width, picture.height), picture)

    crops_px = tuple(back(box) for box in said.refinement.crops_px)
    reason = f"{said.refinement.reason}; the page lies turned by {90 * turn} degrees clockwise"
    refinement = replace(said.refinement, crops_px=crops_px, reason=reason)
    regions = tuple(replace(region, box_px=back(region.box_px)) for region in said.regions)
    return replace(said, refinement=refinement, regions=regions)


def _side_px(plan: Plan) -> float:
    """Side of the largest region that is read as one view."""
    return plan.defaults.reading_px or plan.defaults.input_px


def _regions(picture: Picture, plan: Plan) -> tuple[Box, ...]:
    """The tiles of all scales, each once."""
    settings, side_px = plan.reading, _side_px(plan)
    cuts = [
        reading_tiles(picture.width, picture.height, max(1.0, side_px / scale), settings.overlap, settings.max_tiles)
        for scale in settings.scales
    ]
    return tuple(dict.fromkeys(box for tiles in cuts for box in tiles))


def _read(
    picture: Picture, box_px: Box, settings: ReadingSettings, spent: _Spent, again: bool = True
) -> Generator[Request, Reply, list[ReadTile]]:
    """A region's lines; in quarters, where its text did not fit into one answer or the model was caught in a loop."""
    reply = expect(TextLines, (yield ReadLines(picture, box_px, max_new_tokens=settings.max_new_tokens)))
    spent.add(reply)
    guarded = without_loops(_cleaned(reply.lines), reply.placed == "own")
    if not again or (reply.finished and not guarded.looped):
        return [ReadTile(box_px, guarded.lines, reply.placed == "own")]
    parts: list[ReadTile] = []
    for quarter in quarters(box_px, settings.overlap):
        parts += yield from _read(picture, quarter, settings, spent, again=False)
    return parts


def _reread(
    picture: Picture, lines: Sequence[TextLine], settings: ReadingSettings, spent: _Spent
) -> Generator[Request, Reply, tuple[list[TextLine], Refinement]]:
    """The lines, the least sure ones read again, and what came of it."""
    read = list(lines)
    if not settings.max_rereads:
        return read, Refinement("none", (), False, "reading again is switched off")
    unsure = sorted(
        (k for k, line in enumerate(read) if math.exp(line.logprob) < settings.reread_below), key=lambda k: lines[k].logprob
    )
    crops, better = [], 0
    for k in unsure[: settings.max_rereads]:
        crop = _around(read[k].box_px, picture)
        reply = expect(TextLines, (yield ReadLines(picture, crop, True, settings.max_new_tokens)))
        spent.add(reply)
        crops.append(crop)
        second = _as_one(reply, read[k])
        if second is not None and _better(second, read[k]):
            read[k], better = second, better + 1
    if not crops:
        return read, Refinement("reread", (), False, f"no line below {settings.reread_below:g}")
    said = f"{len(crops)} of {len(unsure)} lines below {settings.reread_below:g} read again, {better} surer"
    return read, Refinement("reread", tuple(crops), better > 0, said)


def _as_one(reply: TextLines, first: TextLine) -> TextLine | None:
    """A line cut out, as it was read: one line at its old place, whatever the model made of it; None where it saw nothing."""
    said = [line for line in _cleaned(reply.lines) if line.text]
    text = within_reason(" ".join(line.text for line in said))
    return replace(first, text=text, logprob=_mean_logprob(said)) if said else None


def _better(second: TextLine, first: TextLine) -> bool:
    return second.logprob > first.logprob and len(second.text) >= KEPT_LENGTH * len(first.text)


def _around(box_px: Box, picture: Picture) -> Box:
    x0, y0, x1, y1 = box_px
    beside, over = (share * (y1 - y0) for share in MARGIN)
    return clip_box((x0 - beside, y0 - over, x1 + beside, y1 + over), picture)


def _on_the_page(lines: Sequence[TextLine], picture: Picture) -> list[TextLine]:
    """Lines with something to say and boxes cut to the picture; what has no extent there is gone."""
    clipped = [replace(line, box_px=clip_box(line.box_px, picture)) for line in lines]
    return [
        line for line in clipped
        if line.text and line.box_px[2] - line.box_px[0] >= LEAST_PX and line.box_px[3] - line.box_px[1] >= LEAST_PX
    ]  # fmt: skip


def _cleaned(lines: Sequence[TextLine]) -> tuple[TextLine, ...]:
    """Lines with finite numbers, and texts that can be written: half a surrogate pair cannot, a line break is none of ours."""
    return tuple(
        replace(line, text=" ".join(line.text.encode("utf-8", "replace").decode().split()), logprob=min(0.0, line.logprob))
        for line in lines
        if all(math.isfinite(value) for value in (*line.box_px, line.logprob, line.slope))
    )


@dataclass(frozen=True)
class _Page:
    """Lines in reading order, and their text."""

    lines: tuple[TextLine, ...]
    text: str

    @property
    def confidence(self) -> float | None:
        """Geometric mean over all characters; None where there are none."""
        return math.exp(_mean_logprob(self.lines)) if self.lines else None


def _page(lines: Sequence[TextLine], settings: ReadingSettings) -> _Page:
    """The lines that are sure enough to be text at all, as people read them."""
    kept = [line for line in lines if math.exp(line.logprob) >= settings.min_confidence]
    level = levelled([line.box_px for line in kept], [line.slope for line in kept])
    ordered = reading_order(level, settings.columns)
    return _Page(tuple(kept[k] for k in ordered.order), page_text([line.text for line in kept], ordered))


def _perception(first: _Page, read: _Page, refinement: Refinement, spent: _Spent) -> Perception:
    changed = first.text != read.text
    return Perception(
        answer=read.text,
        answer_confidence=read.confidence,
        box_px=None,
        box_confidence=None,
        baseline_answer=first.text if changed else None,
        baseline_confidence=first.confidence if changed else None,
        refinement=refinement,
        candidates=(),
        views=spent.views,
        visual_tokens=spent.visual_tokens,
        regions=tuple(_region(line) for line in read.lines),
    )


def _region(line: TextLine) -> Region:
    return Region(line.box_px, None, line.text, math.exp(line.logprob), "line")


def _mean_logprob(lines: Sequence[TextLine]) -> float:
    count = sum(len(line.text) for line in lines)
    return min(0.0, sum(line.logprob * len(line.text) for line in lines) / count)
