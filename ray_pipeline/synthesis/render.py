"""Scene -> pixels, and where everything in them is.

Frames: `_px` values are pixels of the drawn picture, x right, y down. A rendering also carries two label rasters at
half resolution: which character, and which thing, covers each place (0 = none); training reads its dense targets
from them, evaluation does not use them.
"""

import io
import itertools
import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ray_pipeline.synthesis.fonts import capital_ratio, font_at
from ray_pipeline.synthesis.scene import Line, Scene, Thing

Box = tuple[float, float, float, float]
RASTER_STEP = 2  # label rasters: one cell per 2 x 2 pixels


@dataclass(frozen=True)
class DrawnLine:
    """A text line as drawn: its box and capital height in pixels, its thing's index, its row on that thing."""

    text: str
    box_px: Box
    capital_px: float
    thing: int
    row: int
    first_label: int  # label of its first character in `character_YX`; the others follow


@dataclass(frozen=True)
class Rendering:
    """Pixels of one scene with the truth about them. `thing_boxes_px` follow `scene.things`."""

    scene: Scene
    image: Image.Image
    lines: tuple[DrawnLine, ...]
    thing_boxes_px: tuple[Box, ...]
    character_YX: NDArray[np.int32]
    thing_YX: NDArray[np.int32]


def render(scene: Scene, megapixels: float, degrade: bool = True) -> Rendering:
    """Draw a scene at `megapixels` million pixels (0.1 to 50). Deterministic in the scene alone.

    `degrade` adds blur, sensor noise and JPEG artefacts as the scene's seed decides.
    """
    scale = math.sqrt(megapixels * 1e6)
    width, height = round(scene.width * scale), round(scene.height * scale)
    rng = random.Random(scene.seed ^ 0x5EED)
    image = _background(rng, width, height)
    raster_size = (-(-width // RASTER_STEP), -(-height // RASTER_STEP))
    characters, things = Image.new("I", raster_size), Image.new("I", raster_size)
    lines: list[DrawnLine] = []
    boxes: list[Box] = []
    label = 1
    for index, thing in enumerate(scene.things):
        boxes.append(_draw_thing(image, things, thing, index, scale))
        for row, line in enumerate(thing.lines):
            drawn = _draw_line(image, characters, thing, line, scale, index, row, label)
            lines.append(drawn)
            label += len(line.text)
    if degrade:
        image = _degrade(rng, image)
    return Rendering(scene, image, tuple(lines), tuple(boxes), np.asarray(characters, np.int32), np.asarray(things, np.int32))


def _background(rng: random.Random, width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(rng.getrandbits(63))
    base = noise.integers(40, 216, 3)
    cells = rng.choice([2, 3, 6, 12, 24])
    spread = rng.choice([6, 20, 45])
    coarse = np.clip(base + noise.normal(0, spread, (cells, cells, 3)), 0, 255).astype(np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    side = math.sqrt(width * height)
    for _ in range(rng.choice([0, 3, 8, 16])):
        _distract(rng, draw, width, height, side)
    if rng.random() < 0.2:
        _grid(rng, draw, width, height, side)
    return image


def _distract(rng: random.Random, draw: ImageDraw.ImageDraw, width: int, height: int, side: float) -> None:
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    tone = tuple(rng.randint(20, 235) for _ in range(3))
    length, angle = side * rng.uniform(0.03, 0.35), rng.uniform(0, math.tau)
    stroke = max(1, round(side * rng.uniform(0.001, 0.012)))
    shape = rng.random()
    if shape < 0.5:
        draw.line((x, y, x + length * math.cos(angle), y + length * math.sin(angle)), tone, stroke)
    elif shape < 0.75:
        corners = [(x + length / 3 * math.cos(angle + k), y + length / 3 * math.sin(angle + k)) for k in (0.0, 2.1, 4.2)]
        draw.line([*corners, corners[0]], tone, stroke)
    else:  # writing-like scribble: attracts a reader, says nothing
        points = [(x + k * stroke * 2, y + rng.uniform(-4, 4) * stroke) for k in range(rng.randint(4, 14))]
        draw.line(points, tone, stroke)


def _grid(rng: random.Random, draw: ImageDraw.ImageDraw, width: int, height: int, side: float) -> None:
    pitch, tone = side * rng.uniform(0.03, 0.12), tuple(rng.randint(60, 200) for _ in range(3))
    stroke = max(1, round(side * 0.002))
    for k in range(int(width / pitch) + 1):
        draw.line((k * pitch, 0, k * pitch, height), tone, stroke)
    for k in range(int(height / pitch) + 1):
        draw.line((0, k * pitch, width, k * pitch), tone, stroke)


def _turned(thing: Thing, points: list[tuple[float, float]], scale: float) -> list[tuple[float, float]]:
    c, s = math.cos(math.radians(thing.angle_deg)), math.sin(math.radians(thing.angle_deg))
    return [(scale * (thing.cx + c * x + s * y), scale * (thing.cy - s * x + c * y)) for x, y in points]


def _outline(thing: Thing) -> list[tuple[float, float]]:
    w, h = thing.width / 2, thing.height / 2
    cut = min(w, h) * 0.5
    if thing.kind == "plate":
        return [
            (-w + cut, -h),
            (w - cut, -h),
            (w, -h + cut),
            (w, h - cut),
            (w - cut, h),
            (-w + cut, h),
            (-w, h - cut),
            (-w, -h + cut),
        ]
    if thing.kind == "tag":
        return [(-w, 0), (-w + cut, -h), (w, -h), (w, h), (-w + cut, h)]
    if thing.kind == "badge":
        return [(w * math.cos(k * math.tau / 48), h * math.sin(k * math.tau / 48)) for k in range(48)]
    if thing.kind == "slip":  # torn lower edge
        teeth = [(w - k * w / 6, h - (0.06 * thing.height if k % 2 else 0)) for k in range(13)]
        return [(-w, -h), (w, -h), *teeth]
    if thing.kind == "label":
        r, arc = min(w, h) * 0.6, [k * math.pi / 12 for k in range(7)]
        corners = [(w - r, h - r, 0.0), (-w + r, h - r, math.pi / 2), (-w + r, -h + r, math.pi), (w - r, -h + r, -math.pi / 2)]
        return [(x + r * math.cos(a + turn), y + r * math.sin(a + turn)) for x, y, turn in corners for a in arc]
    return [(-w, -h), (w, -h), (w, h), (-w, h)]


def _draw_thing(image: Image.Image, raster: Image.Image, thing: Thing, index: int, scale: float) -> Box:
    outline = _turned(thing, _outline(thing), scale)
    draw = ImageDraw.Draw(image)
    draw.polygon(outline, fill=thing.rgb)
    if thing.kind == "sign":
        rim = [(x * 0.94, y * 0.94) for x, y in _outline(thing)]
        corners = _turned(thing, rim, scale)
        draw.line([*corners, corners[0]], thing.ink, max(1, round(0.02 * scale * min(thing.width, thing.height))))
    if thing.kind == "tag":
        cut = min(thing.width, thing.height) / 4
        (x, y), r = _turned(thing, [(-thing.width / 2 + cut, 0)], scale)[0], cut * 0.35 * scale
        draw.ellipse((x - r, y - r, x + r, y + r), fill=thing.ink)
    ImageDraw.Draw(raster).polygon([(x / RASTER_STEP, y / RASTER_STEP) for x, y in outline], fill=index + 1)
    return _around(outline)


def _draw_line(
    image: Image.Image, raster: Image.Image, thing: Thing, line: Line, scale: float, index: int, row: int, label: int
) -> DrawnLine:
    font = font_at(thing.font, max(4, round(line.capital * scale / capital_ratio(thing.font))))
    left, top, right, bottom = font.getbbox(line.text)
    pad = 2
    tile = Image.new("L", (math.ceil(right - left) + 2 * pad, math.ceil(bottom - top) + 2 * pad))
    ImageDraw.Draw(tile).text((pad - left, pad - top), line.text, fill=255, font=font)
    turned = tile.rotate(thing.angle_deg, Image.Resampling.BICUBIC, expand=True) if thing.angle_deg else tile
    cx, cy = _turned(thing, [(line.dx, line.dy)], scale)[0]
    corner = (round(cx - turned.width / 2), round(cy - turned.height / 2))
    image.paste(thing.ink, (*corner, corner[0] + turned.width, corner[1] + turned.height), turned)
    edges = [font.getlength(line.text[:k]) - left for k in range(len(line.text) + 1)]
    edges[0], edges[-1] = 0.0, right - left
    half_w, half_h = (right - left) / 2, (bottom - top) / 2
    quads = [_quad(thing, line, scale, (a - half_w, -half_h, b - half_w, half_h)) for a, b in itertools.pairwise(edges)]
    draw = ImageDraw.Draw(raster)
    for offset, (quad, character) in enumerate(zip(quads, line.text, strict=True)):
        if character != " ":
            draw.polygon([(x / RASTER_STEP, y / RASTER_STEP) for x, y in quad], fill=label + offset)
    box = _around([point for quad in quads for point in quad])
    return DrawnLine(line.text, box, line.capital * scale, index, row, label)


def _quad(thing: Thing, line: Line, scale: float, box: Box) -> list[tuple[float, float]]:
    x0, y0, x1, y1 = (value / scale for value in box)
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return _turned(thing, [(line.dx + x, line.dy + y) for x, y in corners], scale)


def _around(points: list[tuple[float, float]]) -> Box:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def _degrade(rng: random.Random, image: Image.Image) -> Image.Image:
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    if rng.random() < 0.3:
        noise = np.random.default_rng(rng.getrandbits(63))
        grain = noise.integers(-rng.randint(4, 24), rng.randint(5, 25), (image.height, image.width, 1), np.int16)
        image = Image.fromarray(np.clip(np.asarray(image, np.int16) + grain, 0, 255).astype(np.uint8))
    if rng.random() < 0.25:
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=rng.randint(35, 90))
        image = Image.open(packed)
        image.load()
    return image
