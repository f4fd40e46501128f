"""Scenes to count in: several things of one name, among others that share only its colour or only its kind.

Lengths are in units, as in `scene`. Names are not unique here.
"""

import math
import random
from dataclasses import dataclass, replace

from ray_pipeline.synthesis.scene import COLOURS, KINDS, Scene, Thing, place, thing_with_text

CROWD_KINDS = tuple(kind for kind in KINDS if kind != "slip")
_GAP = 0.25  # of a thing's shorter side: below that two things of one colour grow together when shrunk
_ATTEMPTS = 60


@dataclass(frozen=True)
class Crowd:
    """A scene and the name that is to be counted in it; the first `alike` things bear it, no other does."""

    scene: Scene
    colour: str
    kind: str
    alike: int


def sample_crowd(
    seed: int, fonts: list[str], alike: int, side: tuple[float, float], aspect: tuple[float, float] = (0.67, 1.5)
) -> Crowd:
    """`alike` things of one name and two to four others: one of its colour, one of its kind, names that occur once.

    Every thing's shorter side is log-uniform in `side`, its upper bound lowered as far as it takes to fit all of them.

    Raises:
        ValueError: things so large that they do not fit even at the lower bound.
    """
    rng = random.Random(seed)
    ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
    colour, kind = rng.choice(sorted(COLOURS)), rng.choice(CROWD_KINDS)
    names = [(colour, kind)] * alike + _others(rng, colour, kind)
    for attempt in range(_ATTEMPTS):
        largest = max(side[0], side[1] * 0.95**attempt)
        things = _arranged(rng, Scene(seed, ratio), names, (side[0], largest), fonts)
        if things:
            return Crowd(Scene(seed, ratio, things), colour, kind, alike)
    raise ValueError(f"{len(names)} things of {side[0]} units do not fit in a scene of aspect {ratio:.2f}, expected smaller ones")


def _others(rng: random.Random, colour: str, kind: str) -> list[tuple[str, str]]:
    colours = [other for other in sorted(COLOURS) if other != colour]
    kinds = [other for other in CROWD_KINDS if other != kind]
    strangers = [(c, k) for c in colours for k in kinds]
    return [(colour, rng.choice(kinds)), (rng.choice(colours), kind), *rng.sample(strangers, rng.randint(0, 2))]


def _arranged(
    rng: random.Random, scene: Scene, names: list[tuple[str, str]], side: tuple[float, float], fonts: list[str]
) -> tuple[Thing, ...]:
    """All things in their places, or none where one found no place."""
    things: list[Thing] = []
    for colour, kind in names:
        shorter = math.exp(rng.uniform(math.log(side[0]), math.log(side[1])))
        thing = thing_with_text(rng, kind, colour, 0.05, rng.choice(fonts), least=(0.0, 0.0))
        placed = place(rng, scene, _scaled(thing, shorter / min(thing.width, thing.height)), things, _GAP * shorter)
        if placed is None:
            return ()
        things.append(placed)
    return tuple(things)


def _scaled(thing: Thing, factor: float) -> Thing:
    lines = tuple(replace(line, dx=line.dx * factor, dy=line.dy * factor, capital=line.capital * factor) for line in thing.lines)
    return replace(thing, width=thing.width * factor, height=thing.height * factor, lines=lines)
