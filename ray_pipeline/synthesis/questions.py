"""Questions about a rendered picture, with answers and boxes.

Every question has a box. `read` and `line` answers are texts, `colour` and `kind` closed words, `where` boxes alone.
"""

import random
from dataclasses import dataclass

from ray_pipeline.synthesis.render import Box, Rendering

GENERIC = "Write a general description of the image."
_READ = ("What is the text on the {name}?", "What does the {name} say?", "Read the text on the {name}.")
_COLOUR = ('What colour is the thing that says "{text}"?',)
_KIND = ('What kind of thing says "{text}"?', 'What shape is the thing that says "{text}"?')
_WHERE = ("Where is the {name}?", "Find the {name}.")
_WHERE_TEXT = ('Where is the text "{text}"?',)
_ORDINALS = ("first", "second", "third", "fourth")
_LINE = ("Read the {ordinal} line of the {name}.", "What is the {ordinal} line on the {name}?")


@dataclass(frozen=True)
class Question:
    """One question. `line` indexes the rendering's lines where the answer is or names a text; -1 where none does."""

    task: str  # read, line, colour, kind, where, where_text, describe
    text: str
    answer: str
    box_px: Box
    thing: int
    line: int


def ask(rendering: Rendering, index: int, task: str, rng: random.Random) -> Question | None:
    """A question of the given task about thing `index`, or None where the task does not fit the thing."""
    thing = rendering.scene.things[index]
    rows = [k for k, line in enumerate(rendering.lines) if line.thing == index]
    if task == "where":
        return Question(task, rng.choice(_WHERE).format(name=thing.name), "", rendering.thing_boxes_px[index], index, -1)
    if task == "describe":
        whole = (0.0, 0.0, float(rendering.image.width), float(rendering.image.height))
        return Question(task, GENERIC, describe(rendering), whole, -1, -1)
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
