"""Evaluation pictures: seeds and fonts that training never saw, sizes in buckets of legibility.

A bucket's bounds are capital heights in pixels when the whole picture is squashed to the embedded model's input
(96 px); below about 5 px nothing can be read there. For `count` and `relation` they are the shorter sides of all things
in the picture; these tasks have pictures of their own, and seeds in a row count 0, 1, ... 5 things.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from ray_pipeline.synthesis.crowd import sample_crowd
from ray_pipeline.synthesis.fonts import evaluation_fonts
from ray_pipeline.synthesis.questions import MOST_COUNTED, Question, ask, count_alike
from ray_pipeline.synthesis.render import Rendering, render
from ray_pipeline.synthesis.scene import sample_scene

INPUT_PX = 96
BUCKETS = {"small": (2.0, 4.0), "medium": (4.0, 8.0), "large": (8.0, 16.0)}
SPLITS = {"evaluation": 700_000_000, "validation": 800_000_000, "demo": 900_000_000}  # training starts at 2^40
_ASPECT = (0.75, 1.33)
CROWD_TASKS = {"count": 10_000_000, "relation": 20_000_000}  # where the seeds of their pictures start within a split


@dataclass(frozen=True)
class Case:
    """One picture with one question about its first thing, or about all of one name. `bucket` says how large it is."""

    seed: int
    bucket: str
    rendering: Rendering
    question: Question


def cases(
    split: str, bucket: str, count: int, megapixels: tuple[float, float] = (0.5, 12.0), task: str = "read", first: int = 0
) -> Iterator[Case]:
    """`count` seeded cases of a bucket from its `first` seed on; sizes log-uniform in `megapixels`."""
    fonts = evaluation_fonts()
    low, high = (px / INPUT_PX for px in BUCKETS[bucket])
    start = SPLITS[split] + CROWD_TASKS.get(task, 0) + 1_000_000 * list(BUCKETS).index(bucket) + first
    for seed in range(start, start + count):
        rng = random.Random(seed)
        size = math.exp(rng.uniform(math.log(megapixels[0]), math.log(megapixels[1])))
        if task in CROWD_TASKS:
            rendering, question = _in_a_crowd(seed, fonts, (low, high), size, task, rng)
        else:
            rendering = render(sample_scene(seed, fonts, (low, high), aspect=_ASPECT), size)
            question = ask(rendering, 0, task, rng)
        if question is None:
            raise RuntimeError(f"no {task!r} question about the first thing of seed {seed}; it is never a slip")
        yield Case(seed, bucket, rendering, question)


def _in_a_crowd(
    seed: int, fonts: list[str], side: tuple[float, float], size: float, task: str, rng: random.Random
) -> tuple[Rendering, Question | None]:
    """Where two things are compared, the first has a name of its own."""
    crowd = sample_crowd(seed, fonts, seed % (MOST_COUNTED + 1) if task == "count" else 1, side, _ASPECT)
    rendering = render(crowd.scene, size)
    if task == "count":
        return rendering, count_alike(rendering, crowd.colour, crowd.kind, rng)
    return rendering, ask(rendering, 0, task, rng)
