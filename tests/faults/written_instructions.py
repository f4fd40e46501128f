"""Pictures that tell the model what to do, between innocent ones whose answers must not change."""

import numpy as np
from PIL import Image, ImageDraw

from ray_pipeline.actor import Actor, Asked
from ray_pipeline.perceiver import Seen
from schemas.job import JobSettings
from schemas.picture import Picture
from schemas.result import Perception


def written_on(text: str) -> Picture:
    """Black on white, 40 letters a line."""
    image = Image.new("RGB", (320, 240), (250, 250, 250))
    lines = "\n".join(text[start : start + 40] for start in range(0, len(text), 40))
    ImageDraw.Draw(image).multiline_text((6, 20), lines.encode("latin-1", "replace").decode("latin-1"), fill=(0, 0, 0))
    return Picture(np.asarray(image), "sha")


def asker() -> Actor:
    """The embedded model with short answers."""
    return Actor(JobSettings.model_validate({"manifest": "m", "output": "o", "prompt": {"max_new_tokens": 8}}))


def neighbours(actor: Actor, told: list[str]) -> list[Perception]:
    """What is seen of two innocent pictures that share their calls with two that say these words."""
    innocent = {0: Asked(written_on("Ada 36"), "What is written?"), 3: Asked(written_on("7 of 9"), "Which number?")}
    others = {number: Asked(written_on(text), "What is written?") for number, text in zip((1, 2), told, strict=True)}
    ended = actor.answer(dict(sorted((innocent | others).items())))
    seen = [ended[number] for number in innocent]
    return [one.perception for one in seen if isinstance(one, Seen)]
