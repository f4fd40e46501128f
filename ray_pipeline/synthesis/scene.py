"""A picture before it has pixels: things with short texts on them, placed without overlap.

Lengths are in *units*: 1 unit is sqrt(width x height) of the picture, so a scene of aspect a is sqrt(a) wide and
1/sqrt(a) high and can be drawn at any resolution. Within a scene sampled here each (colour, kind) pair occurs once, which makes
"the red tag" a complete description.
"""

import math
import random
from dataclasses import dataclass, field

from ray_pipeline.synthesis.texts import short_text, slip_line

KINDS = ("sign", "label", "plate", "tag", "badge", "slip")
COLOURS = {
    "red": (200, 35, 35), "orange": (240, 140, 25), "yellow": (240, 215, 50), "green": (40, 145, 60),
    "blue": (40, 80, 200), "purple": (130, 50, 160), "white": (240, 240, 240), "black": (30, 30, 30),
}  # fmt: skip
SMALLEST_CAPITAL, LARGEST_CAPITAL = 0.012, 0.20  # of a unit; texts then cover about 0.05 % to 20 % of the picture


@dataclass(frozen=True)
class Line:
    """One line of text: centre relative to the thing's centre in its own (unrotated) frame, capital height, in units."""

    text: str
    dx: float
    dy: float
    capital: float


@dataclass(frozen=True)
class Thing:
    """A sign, label, plate, tag, badge or slip. Centre, width and height in units; angle in degrees, anticlockwise."""

    kind: str
    colour: str
    rgb: tuple[int, int, int]
    ink: tuple[int, int, int]
    cx: float
    cy: float
    width: float
    height: float
    angle_deg: float
    font: str
    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """What a picture shows. `seed` also drives its background, noise and compression."""

    seed: int
    aspect: float
    things: tuple[Thing, ...] = field(default=())

    @property
    def width(self) -> float:
        return math.sqrt(self.aspect)

    @property
    def height(self) -> float:
        return 1 / math.sqrt(self.aspect)


def sample_scene(
    seed: int,
    fonts: list[str],
    capital: tuple[float, float] = (SMALLEST_CAPITAL, LARGEST_CAPITAL),
    most_things: int = 5,
    aspect: tuple[float, float] = (0.67, 1.5),
    confusable: float = 0.0,
) -> Scene:
    """The scene of one seed. The first thing's capital height is log-uniform in `capital` (units); it is never a slip.

    The others draw theirs from the whole range, so that a small text has large neighbours and the reverse. With
    probability `confusable` another thing shares the first one's colour or its kind.
    """
    rng = random.Random(seed)
    ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
    scene = Scene(seed, ratio)
    things: list[Thing] = []
    wanted = rng.randint(1, most_things)
    for attempt in range(60):
        if len(things) == wanted:
            break
        bounds = capital if not things else (SMALLEST_CAPITAL, min(0.10, LARGEST_CAPITAL))
        kind = rng.choice([kind for kind in KINDS if things or kind != "slip"])
        colour = rng.choice(sorted(COLOURS))
        if confusable and things and rng.random() < confusable:
            kind, colour = (kind, things[0].colour) if rng.random() < 0.6 else (things[0].kind, colour)
        if any(thing.kind == kind and thing.colour == colour for thing in things):
            continue
        shrink = 1.0 if things or attempt < 20 else 0.7
        height = math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1]))) * shrink
        thing = thing_with_text(rng, kind, colour, max(height, bounds[0]), rng.choice(fonts))
        placed = place(rng, scene, thing, things)
        if placed is not None:
            things.append(placed)
    if not things:  # one very wide text can fail to fit in a narrow picture: the same seed with shorter capitals
        return sample_scene(seed, fonts, (capital[0], max(capital[0], capital[1] * 0.6)), most_things, aspect, confusable)
    return Scene(seed, ratio, tuple(things))


def thing_with_text(
    rng: random.Random, kind: str, colour: str, capital: float, font: str, least: tuple[float, float] = (0.10, 0.26)
) -> Thing:
    """A thing around short texts of this capital height, not yet placed. Its sides are drawn from `least` where the text
    needs less; (0, 0) makes it no larger than its text asks. All lengths in units."""
    rgb = tuple(max(0, min(255, channel + rng.randint(-22, 22))) for channel in COLOURS[colour])
    luminance = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2]
    dark = luminance > 128
    shade = rng.randint(0, 40)
    ink = (shade, shade, shade) if dark else (255 - shade, 255 - shade, 255 - shade)
    if kind == "slip":
        count = rng.randint(2, 4)
        texts, pitch = [slip_line(rng) for _ in range(count)], capital * rng.uniform(1.7, 2.4)
        capital = min(capital, 0.07)
    else:
        texts, pitch = [short_text(rng)], 0.0
    text_width = max(len(text) for text in texts) * 0.86 * capital
    text_height = 1.4 * capital + pitch * (len(texts) - 1)
    inner_w, inner_h = {"tag": (1.35, 1.5), "badge": (1.35, 1.8), "plate": (1.2, 1.4)}.get(kind, (1.15, 1.35))
    shortest = rng.uniform(*least)
    width = max(text_width * inner_w, shortest * rng.uniform(1.0, 1.6))
    height = max(text_height * inner_h, shortest * rng.uniform(0.6, 1.0))
    if kind == "slip":
        height = max(height, width * rng.uniform(1.0, 1.4))
    if kind == "badge":
        width = height = max(width, height)
    free_x = max(0.0, (width / inner_w - text_width) / 2)
    free_y = max(0.0, (height / inner_h - text_height) / 2)
    dx, dy = rng.uniform(-free_x, free_x) * 0.9, rng.uniform(-free_y, free_y) * 0.9
    first = dy - pitch * (len(texts) - 1) / 2
    lines = tuple(Line(text, dx, first + pitch * row, capital) for row, text in enumerate(texts))
    angle = rng.gauss(0, 5) if rng.random() < 0.6 else 0.0
    angle = max(-15.0, min(15.0, angle))
    return Thing(kind, colour, (rgb[0], rgb[1], rgb[2]), ink, 0.0, 0.0, width, height, angle, font, lines)


def place(rng: random.Random, scene: Scene, thing: Thing, others: list[Thing], gap: float = 0.0) -> Thing | None:
    """The thing at a random place inside the scene, more than `gap` units from all others; None where none was found."""
    half_w, half_h = _half_extent(thing)
    if 2 * half_w > scene.width or 2 * half_h > scene.height:
        return None
    for _ in range(12):
        cx, cy = rng.uniform(half_w, scene.width - half_w), rng.uniform(half_h, scene.height - half_h)
        if all(_apart(cx, cy, half_w + gap, half_h + gap, other) for other in others):
            return Thing(**{**thing.__dict__, "cx": cx, "cy": cy})
    return None


def _half_extent(thing: Thing) -> tuple[float, float]:
    c, s = math.cos(math.radians(thing.angle_deg)), abs(math.sin(math.radians(thing.angle_deg)))
    return (thing.width * c + thing.height * s) / 2, (thing.width * s + thing.height * c) / 2


def _apart(cx: float, cy: float, half_w: float, half_h: float, other: Thing) -> bool:
    other_w, other_h = _half_extent(other)
    return abs(cx - other.cx) > half_w + other_w or abs(cy - other.cy) > half_h + other_h
