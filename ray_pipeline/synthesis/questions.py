"""Questions about a rendered picture, with answers and boxes.

Every question has a box. `read` and `line` answers are texts, `colour` and `kind` closed words, `where` boxes alone,
`count` answers a digit, `relation` answers the name of one of two things.
"""

import random
from dataclasses import dataclass

from ray_pipeline.synthesis.render import Box, Rendering

MOST_COUNTED = 5
GENERIC = "Write a general description of the image."
_READ = ("What is the text on the {name}?", "What does the {name} say?", "Read the text on the {name}.")
_COLOUR = ('What colour is the thing that says "{text}"?',)
_KIND = ('What kind of thing says "{text}"?', 'What shape is the thing that says "{text}"?')
_WHERE = ("Where is the {name}?", "Find the {name}.")
_WHERE_TEXT = ('Where is the text "{text}"?',)
_ORDINALS = ("first", "second", "third", "fourth")
_COUNT = ("How many {things} are there?", "How many {things} are in the picture?", "How many {things} do you see?")
_RELATION = "Which is {relation}, the {first} or the {second}?"
_LARGER = 1.5  # times the area, below which neither thing is called larger
_NAMED = ("read", "line", "where", "relation")  # tasks whose wording tells a thing by its name
_LINE = ("Read the {ordinal} line of the {name}.", "What is the {ordinal} line on the {name}?")


@dataclass(frozen=True)
class Question:
    """One question. `line` indexes the rendering's lines where the answer is or names a text; -1 where none does.

    `counted` are the things that a count is of; `thing` is -1 where no single one is meant.
    """

    task: str  # read, line, colour, kind, where, where_text, count, relation, describe
    text: str
    answer: str
    box_px: Box
    thing: int
    line: int
    counted: tuple[int, ...] = ()


def ask(rendering: Rendering, index: int, task: str, rng: random.Random) -> Question | None:
    """A question of the given task about thing `index`, or None where the task does not fit the thing.

    `count` counts what shares the thing's name, its kind or its colour, up to 5.
    """
    thing = rendering.scene.things[index]
    if task in _NAMED and sum(other.name == thing.name for other in rendering.scene.things) > 1:
        return None
    if task == "relation":
        return _relation(rendering, index, rng)
    if task == "count":
        return count_alike(rendering, *rng.choice([(thing.colour, thing.kind), (None, thing.kind), (thing.colour, None)]), rng)
    rows = [k for k, line in enumerate(rendering.lines) if line.thing == index]
    if task == "where":
        return Question(task, rng.choice(_WHERE).format(name=thing.name), "", rendering.thing_boxes_px[index], index, -1)
    if task == "describe":
        return Question(task, GENERIC, describe(rendering), _whole(rendering), -1, -1)
    if (task == "line") != (thing.kind == "slip"):
        return None
    k = rng.choice(rows)
    line = rendering.lines[k]
    if task == "line":
        text = rng.choice(_LINE).format(name=thing.name, ordinal=_ORDINALS[line.row])
        return Question(task, text, line.text, line.box_px, index, k)
    wordings = {"read": _READ, "colour": _COLOUR, "kind": _KIND, "where_text": _WHERE_TEXT}[task]
    text = rng.choice(wordings).format(name=thing.name, text=line.text)
    answer = {"read": line.text, "colour": thing.colour, "kind": thing.kind, "where_text": ""}[task]
    box = rendering.thing_boxes_px[index] if task in ("colour", "kind") else line.box_px
    return Question(task, text, answer, box, index, k)


def describe(rendering: Rendering) -> str:
    """All things from top to bottom: "a red sign, a blue tag"."""
    order = sorted(range(len(rendering.scene.things)), key=lambda k: rendering.thing_boxes_px[k][1])
    names = [rendering.scene.things[k].name for k in order]
    return ", ".join(f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names)


def count_alike(rendering: Rendering, colour: str | None, kind: str | None, rng: random.Random) -> Question | None:
    """How many things have this colour and this kind; None stands for any. None where there are more than 5.

    The box holds all that are counted; it is the whole picture where there are none.
    """
    things = rendering.scene.things
    counted = tuple(k for k, thing in enumerate(things) if colour in (None, thing.colour) and kind in (None, thing.kind))
    if len(counted) > MOST_COUNTED:
        return None
    words = f"{colour or ''} {kind or 'thing'}s".strip()
    boxes = [rendering.thing_boxes_px[k] for k in counted] or [_whole(rendering)]
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    around = (min(x0), min(y0), max(x1), max(y1))
    return Question("count", rng.choice(_COUNT).format(things=words), str(len(counted)), around, -1, -1, counted)


def _relation(rendering: Rendering, index: int, rng: random.Random) -> Question | None:
    """Compare a thing with another whose name occurs once, in a way that is beyond doubt; None where there is none."""
    names = [thing.name for thing in rendering.scene.things]
    others = [k for k, name in enumerate(names) if k != index and names.count(name) == 1]
    if not others:
        return None
    pair = [index, rng.choice(others)]
    rng.shuffle(pair)
    first, second = pair
    boxes = rendering.thing_boxes_px
    asked = [(word, better) for word, better in _comparisons(boxes[first], boxes[second]) if better is not None]
    if not asked:
        return None
    relation, better = rng.choice(asked)
    right = first if better else second
    text = _RELATION.format(relation=relation, first=names[first], second=names[second])
    return Question("relation", text, names[right], boxes[right], right, -1)


def _comparisons(a: Box, b: Box) -> list[tuple[str, bool | None]]:
    """Per relation, whether it holds for the first box, or None in doubt. Boxes that are apart have two or more without."""
    left, above = _ahead(a[0], a[2], b[0], b[2]), _ahead(a[1], a[3], b[1], b[3])
    share = (a[2] - a[0]) * (a[3] - a[1]) / ((b[2] - b[0]) * (b[3] - b[1]))
    larger = None if 1 / _LARGER < share < _LARGER else share > 1
    return [
        ("further left", left), ("further right", _not(left)), ("higher", above), ("lower", _not(above)),
        ("larger", larger), ("smaller", _not(larger)),
    ]  # fmt: skip


def _ahead(a0: float, a1: float, b0: float, b1: float) -> bool | None:
    return True if a1 <= b0 else False if b1 <= a0 else None


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _whole(rendering: Rendering) -> Box:
    return 0.0, 0.0, float(rendering.image.width), float(rendering.image.height)
