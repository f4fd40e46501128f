"""Evaluation pictures: seeds and fonts that training never saw, sizes in buckets of legibility.

A bucket's bounds are capital heights in pixels when the whole picture is squashed to the embedded model's input
(96 px); below about 5 px nothing can be read there.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from ray_pipeline.synthesis.fonts import evaluation_fonts
from ray_pipeline.synthesis.questions import Question, ask
from ray_pipeline.synthesis.render import Rendering, render
from ray_pipeline.synthesis.scene import sample_scene

INPUT_PX = 96
BUCKETS = {"small": (2.0, 4.0), "medium": (4.0, 8.0), "large": (8.0, 16.0)}
SPLITS = {"evaluation": 700_000_000, "validation": 800_000_000, "demo": 900_000_000}  # training starts at 2^40


@dataclass(frozen=True)
class Case:
    """One picture with one question about its first thing. `bucket` says how large its text is."""

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
    start = SPLITS[split] + 1_000_000 * list(BUCKETS).index(bucket) + first
    for seed in range(start, start + count):
        rng = random.Random(seed)
        size = math.exp(rng.uniform(math.log(megapixels[0]), math.log(megapixels[1])))
        rendering = render(sample_scene(seed, fonts, (low, high), aspect=(0.75, 1.33)), size)
        question = ask(rendering, 0, task, rng)
        if question is None:
            raise RuntimeError(f"no {task!r} question about the first thing of seed {seed}; it is never a slip")
        yield Case(seed, bucket, rendering, question)
