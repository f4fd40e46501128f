"""Dense pages of text: many more legible characters a view than a scene has, which is what teaches a tower to read."""

import random

from ray_pipeline.synthesis.scene import COLOURS, KINDS, Line, Scene, Thing
from ray_pipeline.synthesis.texts import short_text


def sample_page(seed: int, fonts: list[str]) -> Scene:
    """Four tiles, each filled with lines of short texts in one font. Capital heights 0.02 to 0.08 of a unit."""
    rng = random.Random(seed)
    tiles = [_tile(rng, x, y, rng.choice(fonts)) for x in (0.25, 0.75) for y in (0.25, 0.75)]
    return Scene(seed, 1.0, tuple(tiles))


def _tile(rng: random.Random, cx: float, cy: float, font: str) -> Thing:
    colour = rng.choice(sorted(COLOURS))
    rgb = tuple(max(0, min(255, value + rng.randint(-30, 30))) for value in COLOURS[colour])
    dark = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2] > 128
    shade = rng.randint(0, 70)
    ink = (shade,) * 3 if dark else (255 - shade,) * 3
    capital = 0.02 * 4 ** rng.random()
    pitch = capital * rng.uniform(1.5, 2.2)
    count = max(1, int(0.46 / pitch))
    lines = []
    for row in range(count):
        text = short_text(rng)
        while len(text) * 0.8 * capital < 0.30:
            text += " " + short_text(rng)
        lines.append(Line(text, 0.0, (row - (count - 1) / 2) * pitch, capital))
    kind = rng.choice([kind for kind in KINDS if kind not in ("badge", "tag")])
    return Thing(kind, colour, (rgb[0], rgb[1], rgb[2]), ink, cx, cy, 0.49, 0.49, rng.gauss(0, 4), font, tuple(lines))
