"""Seeded training samples: pictures as views, questions as packed turns.

A sample is one picture as V views and several question turns behind them; a block mask later lets each turn see the
views and itself only, so that a turn is exactly a single-question prompt.
"""

import random
from dataclasses import dataclass

import numpy as np

from ray_pipeline.synthesis.questions import Question, ask
from ray_pipeline.synthesis.render import Box, Rendering, render
from ray_pipeline.synthesis.scene import sample_scene
from ray_pipeline.training.pages import sample_page
from ray_pipeline.training.views import LEGIBLE_PX, VIEW_PX, LabelledView, Truth, cut_view, truth_of

TRAINING_MEGAPIXELS = 0.36
TASKS = ("read",) * 11 + ("where",) * 4 + ("where_text", "where_text", "colour", "kind", "line", "line", "describe")


@dataclass(frozen=True)
class Turn:
    """One question with its answer. `location` is the answer's box, 0..1 of the last view, None where that does not show it."""

    question: str
    answer: str
    location: Box | None
    thing_label: int
    character_labels: tuple[int, ...]  # one per answer character, 0 where it stands nowhere
    weight: float


@dataclass(frozen=True)
class Sample:
    """Views in prompt order; `zoomed` says that the last one follows the shared prefix as a zoomed view."""

    views: tuple[LabelledView, ...]
    zoomed: bool
    turns: tuple[Turn, ...]


def reading_views(seed: int, fonts: list[str], pages_share: float, views: int) -> list[LabelledView]:
    """Views of one page or scene for the tower alone, at sizes where most characters are legible."""
    rng = random.Random(seed)
    if rng.random() < pages_share:
        rendering = render(sample_page(seed, fonts), 0.2)
    else:
        rendering = render(sample_scene(seed, fonts), TRAINING_MEGAPIXELS)
    truth = truth_of(rendering)
    boxes = [_whole(rendering)] if rng.random() < 0.5 else []
    while len(boxes) < views:
        line = rng.choice(rendering.lines)
        capital_view = rng.uniform(6, 16)
        side = line.capital_px * VIEW_PX / capital_view
        boxes.append(_square_around(rng, rendering, line.box_px, side))
    return [cut_view(rendering, truth, box) for box in boxes]


def question_sample(seed: int, fonts: list[str], grid: int, zoomed: bool, turns: int) -> Sample:
    """One scene with `turns` questions. `grid` 0 shows the whole picture alone, k adds k x k overlapping crops."""
    rng = random.Random(seed)
    capital = rng.choice([(0.012, 0.03), (0.02, 0.045), (0.04, 0.085), (0.08, 0.2), (0.08, 0.2)])
    rendering = render(sample_scene(seed, fonts, capital, confusable=0.4), TRAINING_MEGAPIXELS)
    truth = truth_of(rendering)
    boxes = [_whole(rendering), *grid_boxes(rendering.image.width, rendering.image.height, grid)]
    focus = rng.randrange(len(rendering.scene.things))
    if zoomed:
        boxes.append(_zoom_box(rng, rendering, focus))
    views = tuple(cut_view(rendering, truth, box) for box in boxes)
    return Sample(views, zoomed, tuple(_turns(rng, rendering, truth, boxes, focus if zoomed else None, turns)))


def grid_boxes(width: int, height: int, grid: int) -> list[Box]:
    """`grid` x `grid` crops with 50 % overlap covering the picture, columns outer, rows inner (as in MC-LLaVA)."""
    if grid == 0:
        return []
    w, h = 2 * width / (grid + 1), 2 * height / (grid + 1)
    return [(i * w / 2, j * h / 2, i * w / 2 + w, j * h / 2 + h) for i in range(grid) for j in range(grid)]


def _whole(rendering: Rendering) -> Box:
    return 0.0, 0.0, float(rendering.image.width), float(rendering.image.height)


def _zoom_box(rng: random.Random, rendering: Rendering, thing: int) -> Box:
    """Mostly a box around a text of the thing, as ViCrop would cut it: too wide, off-centre; sometimes a useless one."""
    line = rng.choice([line for line in rendering.lines if line.thing == thing])
    width, height = line.box_px[2] - line.box_px[0], line.box_px[3] - line.box_px[1]
    longest = max(width, height)
    side = longest * np.exp(rng.uniform(np.log(1.1), np.log(4.0)))
    if rng.random() < 0.12:
        middle = rng.uniform(0, rendering.image.width), rng.uniform(0, rendering.image.height)
        return _square_around(rng, rendering, (*middle, *middle), side)
    return _square_around(rng, rendering, line.box_px, float(side))


def _square_around(rng: random.Random, rendering: Rendering, box: Box, side: float) -> Box:
    """A square of about `side` pixels holding the middle of `box`, moved at random, inside the picture."""
    width, height = rendering.image.size
    w, h = min(max(side, 24.0), width), min(max(side, 24.0), height)
    slack_x, slack_y = max(0.0, w - (box[2] - box[0])) / 2, max(0.0, h - (box[3] - box[1])) / 2
    cx = (box[0] + box[2]) / 2 + rng.uniform(-0.9, 0.9) * slack_x
    cy = (box[1] + box[3]) / 2 + rng.uniform(-0.9, 0.9) * slack_y
    x0, y0 = min(max(cx - w / 2, 0.0), width - w), min(max(cy - h / 2, 0.0), height - h)
    return x0, y0, x0 + w, y0 + h


def _turns(
    rng: random.Random, rendering: Rendering, truth: Truth, boxes: list[Box], focus: int | None, wanted: int
) -> list[Turn]:
    turns: list[Turn] = []
    for attempt in range(8 * wanted):
        if len(turns) == wanted:
            break
        thing = focus if focus is not None and rng.random() < 0.75 else rng.randrange(len(rendering.scene.things))
        question = ask(rendering, thing, rng.choice(TASKS), rng)
        turn = question and _turn(rendering, question, boxes, focus is not None)
        if not turn or (turn.weight < 1 and sum(t.weight < 1 for t in turns) > wanted // 4 and attempt < 6 * wanted):
            continue
        turns.append(turn)
    return turns


def _turn(rendering: Rendering, question: Question, boxes: list[Box], zoomed: bool) -> Turn | None:
    location = _within(question.box_px, boxes[-1] if zoomed else boxes[0])
    if question.task.startswith("where") and location is None:
        return None
    if question.task == "describe":
        return Turn(question.text, question.answer, None, 0, (0,) * len(question.answer), 0.5)
    labels: tuple[int, ...] = ()
    weight = 1.0
    if question.line >= 0:
        line = rendering.lines[question.line]
        seen = max((line.capital_px * VIEW_PX / (b[3] - b[1]) for b in boxes if _within(line.box_px, b)), default=0.0)
        weight = 1.0 if seen >= LEGIBLE_PX else 0.25  # learns to be unsure, without drowning what can be learnt
        if question.task in ("read", "line"):
            labels = tuple(line.first_label + k if c != " " else 0 for k, c in enumerate(line.text))
    if question.task in ("colour", "kind"):
        location = None
    return Turn(question.text, question.answer, location, question.thing + 1, labels, weight)


def _within(box: Box, view: Box) -> Box | None:
    """`box` in shares of `view`, clipped to it; None where less than 90 % of it shows."""
    w, h = view[2] - view[0], view[3] - view[1]
    part = ((box[0] - view[0]) / w, (box[1] - view[1]) / h, (box[2] - view[0]) / w, (box[3] - view[1]) / h)
    clipped = tuple(min(max(value, 0.0), 1.0) for value in part)
    inside = (clipped[2] - clipped[0]) * (clipped[3] - clipped[1])
    whole = (part[2] - part[0]) * (part[3] - part[1])
    return (clipped[0], clipped[1], clipped[2], clipped[3]) if inside >= 0.9 * whole > 0 else None
