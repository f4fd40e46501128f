"""Scanned documents with known truth: a printed sheet, worn, laid crookedly on a scanner, and what the scanner made of it.

Deterministic in the seed and the list of fonts. Frame: `_px` values are pixels of the finished page, x right, y down.
Lines stand in reading order. What is no line of text (rules, codes, drawings, handwriting, stamps, the print that shows
through from behind) is there to be left alone.
"""

import io
import math
import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ray_pipeline.synthesis.document_questions import DocumentQuestion, asked_document
from ray_pipeline.synthesis.document_sheets import Box, Sheet, sample_sheet, sheet_of

Paper = Literal["filling", "small"]
OUTLINE_POINTS = 5  # along each long edge of a line
_Grey = NDArray[np.float32]
_MESH = 12


@dataclass(frozen=True)
class PageLine:
    """A text line as it lies on the page. `outline_px` is (2, OUTLINE_POINTS, 2): points x, y along its top and bottom edge."""

    text: str
    outline_px: NDArray[np.float32]

    @property
    def box_px(self) -> Box:
        (x0, y0), (x1, y1) = self.outline_px.min((0, 1)).tolist(), self.outline_px.max((0, 1)).tolist()
        return x0, y0, x1, y1


@dataclass(frozen=True)
class DocumentPage:
    """A finished page. `grey_YX` is 0 black to 255 white; `tint` colours it; `capital_px` is the plain text's capital height."""

    seed: int
    grey_YX: NDArray[np.uint8]
    tint: tuple[float, float, float]
    lines: tuple[PageLine, ...]
    capital_px: float

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """(rows, columns, 3)."""
        return (self.grey_YX[..., None] * np.asarray(self.tint, np.float32)).astype(np.uint8)


@dataclass(frozen=True)
class _Lie:
    """How a sheet lies: turned about its middle, which comes to (cx, cy), and bent by waves along both axes.

    A place (a, b) of the turned-back page shows the sheet's place (a + wave(b), b + wave(a)).
    """

    turn: float
    cx: float
    cy: float
    sheet_wh: tuple[int, int]
    waves: tuple[tuple[float, float, float], ...]  # amplitude, radians per px, phase; for y as a function of x, then the reverse

    def _bent(self, k: int, along: NDArray[np.float64]) -> NDArray[np.float64]:
        amplitude, pace, phase = self.waves[k]
        return amplitude * np.sin(pace * along + phase)

    def to_sheet(self, page_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        c, s = math.cos(self.turn), math.sin(self.turn)
        x, y = page_N2[:, 0] - self.cx, page_N2[:, 1] - self.cy
        a, b = c * x + s * y, c * y - s * x
        u, v = a + self._bent(1, b), b + self._bent(0, a)
        return np.stack([u + self.sheet_wh[0] / 2, v + self.sheet_wh[1] / 2], 1)

    def to_page(self, sheet_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        u, v = sheet_N2[:, 0] - self.sheet_wh[0] / 2, sheet_N2[:, 1] - self.sheet_wh[1] / 2
        a, b = u, v
        for _ in range(5):  # the waves are gentle: a contraction
            a, b = u - self._bent(1, b), v - self._bent(0, a)
        c, s = math.cos(self.turn), math.sin(self.turn)
        return np.stack([c * a - s * b + self.cx, s * a + c * b + self.cy], 1)


def sample_document(
    seed: int,
    fonts: list[str],
    capital_px: tuple[float, float] = (11.0, 36.0),
    most_rows: int = 60,
    paper: Paper | None = None,
    worn: bool = True,
) -> DocumentPage:
    """The page of one seed. Plain capitals are log-uniform in `capital_px` (within what a sheet can be set in).

    `filling` paper reaches the page's edges, `small` paper lies on a larger empty one; drawn where None. `worn` False
    leaves out fading, dirt, scribbles, noise and compression, not the way the sheet lies.
    """
    rng = random.Random(seed)
    sheet = sample_sheet(rng.getrandbits(62), fonts, capital_px[0] * (capital_px[1] / capital_px[0]) ** rng.random(), most_rows)
    return _scan(rng, sheet, seed, paper, worn)


def sample_asked_document(
    seed: int, fonts: list[str], capital_px: tuple[float, float] = (11.0, 36.0)
) -> tuple[DocumentPage, list[DocumentQuestion]]:
    """A page with questions about it; drawn, worn and scanned as `sample_document` says."""
    rng = random.Random(seed)
    rows, questions = asked_document(rng)
    sheet = sheet_of(rng, rows, fonts, capital_px[0] * (capital_px[1] / capital_px[0]) ** rng.random())
    return _scan(rng, sheet, seed, None, True), questions


def _scan(rng: random.Random, sheet: Sheet, seed: int, paper: Paper | None, worn: bool) -> DocumentPage:
    noise = np.random.default_rng(rng.getrandbits(63))
    ink = sheet.ink_YX.astype(np.float32) / np.float32(255)
    if worn:
        ink = _worn_ink(rng, noise, ink, sheet.capital_px)
    tone, dark = rng.choice([255, rng.uniform(215, 255), rng.uniform(150, 240)]), rng.uniform(0, 90)
    dark = min(dark if rng.random() < 0.75 else rng.uniform(60, 170), tone - 55)
    flat = tone - (tone - dark) * ink
    if worn:
        flat *= _shading(rng, noise, ink.shape, sheet.capital_px)
    page, lie = _laid(
        rng, np.clip(flat, 0, 255).astype(np.uint8), sheet, tone, paper or ("small" if rng.random() < 0.12 else "filling")
    )
    lines = tuple(PageLine(line.text, _outline(lie, line.box)) for line in sheet.lines)
    if worn:
        page = _scribbled(rng, page, sheet.capital_px)
        page = _scanned(rng, noise, page, sheet.capital_px)
    shade = rng.uniform(0.78, 1.0)
    tint = (1.0, 1.0, 1.0) if rng.random() < 0.7 else (1.0, rng.uniform(shade, 1), shade)
    return DocumentPage(seed, np.asarray(page), tint, lines, sheet.capital_px)


def _outline(lie: _Lie, box: Box) -> NDArray[np.float32]:
    across = np.linspace(box[0], box[2], OUTLINE_POINTS)
    edges = np.stack([np.stack([across, np.full_like(across, y)], 1) for y in (box[1], box[3])])
    return lie.to_page(edges.reshape(-1, 2)).reshape(2, OUTLINE_POINTS, 2).astype(np.float32)


def _worn_ink(rng: random.Random, noise: np.random.Generator, ink: _Grey, capital: float) -> _Grey:
    """Thin or swollen strokes, the dots of a dot matrix, a ribbon that fades in bands, print lost in spots."""
    draw = rng.random()
    if draw < 0.12:
        ink = _filtered(ink, ImageFilter.MaxFilter(3))
    elif draw < 0.2 and capital > 16:
        ink = _filtered(ink, ImageFilter.MinFilter(3))
    if rng.random() < 0.2:
        ink = ink * _dots(rng, ink.shape, capital)
    if rng.random() < 0.3:
        bands = _smooth(noise, ink.shape, (rng.choice([1, 3, 8]), rng.choice([1, 3, 10])), rng.uniform(0.2, 0.9))
        ink = ink * np.clip(1 - np.abs(bands), 0.1, 1)
    if rng.random() < 0.15:
        spots = _smooth(noise, ink.shape, (int(ink.shape[0] / capital), int(ink.shape[1] / capital)), 1.0)
        ink = ink * np.clip(1.6 - np.clip(spots, 0, 2), 0, 1)
    if rng.random() < 0.15:  # print on the back
        ghost = np.asarray(Image.fromarray((ink[:, ::-1] * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(capital / 12)))
        ink = np.maximum(ink, np.roll(ghost, rng.randrange(len(ghost)), 0).astype(np.float32) / 255 * rng.uniform(0.03, 0.15))
    return ink


def _dots(rng: random.Random, shape: tuple[int, ...], capital: float) -> _Grey:
    """Needles hit a grid: about 7 to 9 dots a capital."""
    pace = math.tau * rng.uniform(7, 9) / capital
    rows = 0.5 + 0.5 * np.cos(pace * np.arange(shape[0], dtype=np.float32))
    columns = (
        0.5 + 0.5 * np.cos(pace * np.arange(shape[1], dtype=np.float32)) if rng.random() < 0.5 else np.ones(shape[1], np.float32)
    )
    depth = rng.uniform(0.3, 0.9)
    dotted: _Grey = 1 - depth + depth * np.sqrt(rows[:, None] * columns[None])
    return dotted


def _shading(rng: random.Random, noise: np.random.Generator, shape: tuple[int, ...], capital: float) -> _Grey:
    """Uneven light, and folds: a bright and a dark flank beside a line."""
    light = 1 + _smooth(noise, shape, (rng.choice([2, 3, 5]), rng.choice([2, 3])), rng.choice([0.01, 0.05, 0.15]))
    for _ in range(rng.choice([0, 0, 1, 3])):
        axis = rng.randrange(2)
        away = np.arange(shape[axis], dtype=np.float32) - rng.uniform(0, shape[axis])
        wide = capital * rng.uniform(0.3, 4)
        fold = 1 + rng.uniform(-0.15, 0.15) * away / wide * np.exp(-((away / wide) ** 2))
        light *= fold[:, None] if axis == 0 else fold[None]
    return np.minimum(light, 1.15)


def _laid(rng: random.Random, flat: NDArray[np.uint8], sheet: Sheet, tone: float, paper: Paper) -> tuple[Image.Image, _Lie]:
    """The sheet on the scanner's glass."""
    high, wide = flat.shape
    crooked = rng.random() < 0.75
    turn = math.radians(max(-6.0, min(6.0, rng.gauss(0, 1.6)))) if crooked else 0.0
    lean = abs(math.sin(turn))
    if paper == "small":
        page_w, page_h = round(wide * rng.uniform(1.3, 3.2)), round(high * rng.uniform(1.1, 2))
        cx, cy = page_w * rng.uniform(0.35, 0.65), page_h * rng.uniform(0.4, 0.6)
    else:
        page_w = round(wide * rng.uniform(0.99, 1.12) + lean * high * rng.uniform(0.3, 1))
        page_h = round(high * rng.uniform(0.99, 1.1) + lean * wide * rng.uniform(0.3, 1))
        cx, cy = page_w * rng.uniform(0.48, 0.52), page_h * rng.uniform(0.48, 0.52)
    bend = rng.choice([0.0, 0.0, 0.3, 0.8]) * sheet.capital_px if crooked else 0.0
    waves = tuple((bend * rng.uniform(0, 1), rng.uniform(2, 7) / length, rng.uniform(0, math.tau)) for length in (wide, high))
    lie = _Lie(turn, cx, cy, (wide, high), waves)
    glass = rng.choice([tone, 255, 255, rng.uniform(0, 60), rng.uniform(120, 255)])
    ground = Image.new("L", (page_w, page_h), round(glass))
    if not crooked and not bend:
        ground.paste(Image.fromarray(flat), (round(cx - wide / 2), round(cy - high / 2)))
        return ground, _Lie(0.0, round(cx - wide / 2) + wide / 2, round(cy - high / 2) + high / 2, (wide, high), waves)
    shown = Image.new("L", (page_w, page_h))
    ImageDraw.Draw(shown).polygon([tuple(point) for point in lie.to_page(_around(wide, high)).tolist()], fill=255)
    laid = Image.fromarray(flat).transform(
        (page_w, page_h), Image.Transform.MESH, _mesh(lie, page_w, page_h), Image.Resampling.BICUBIC
    )
    ground.paste(laid, (0, 0), shown)
    return ground, lie


def _around(wide: float, high: float) -> NDArray[np.float64]:
    """The outline of a sheet, several points a side, half a pixel inside."""
    t = np.linspace(0, 1, 9)[:-1]
    w, h = wide - 1.0, high - 1.0
    sides = [(t * w, 0 * t), (0 * t + w, t * h), (w - t * w, 0 * t + h), (0 * t, h - t * h)]
    return np.concatenate([np.stack(side, 1) for side in sides]) + 0.5


def _mesh(lie: _Lie, page_w: int, page_h: int) -> list[tuple[tuple[int, int, int, int], tuple[float, ...]]]:
    """Rectangles of the page and where their corners lie on the sheet: upper left, lower left, lower right, upper right."""
    xs = np.linspace(0, page_w, _MESH + 1).round().astype(int)
    ys = np.linspace(0, page_h, _MESH + 1).round().astype(int)
    cells = [(xs[i], ys[j], xs[i + 1], ys[j + 1]) for j in range(_MESH) for i in range(_MESH)]
    corners = np.asarray([[(x0, y0), (x0, y1), (x1, y1), (x1, y0)] for x0, y0, x1, y1 in cells], np.float64)
    quads = lie.to_sheet(corners.reshape(-1, 2)).reshape(-1, 8).tolist()
    return [((int(a), int(b), int(c), int(d)), tuple(quad)) for (a, b, c, d), quad in zip(cells, quads, strict=True)]


def _scribbled(rng: random.Random, page: Image.Image, capital: float) -> Image.Image:
    """Handwriting, ticks, rings, a stamp's outline, punched holes: strokes over whatever is there."""
    draw = ImageDraw.Draw(page)
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 4])):
        x, y = rng.uniform(0, page.width), rng.uniform(0, page.height)
        tone, stroke, size = rng.randint(0, 140), max(1, round(capital * rng.uniform(0.06, 0.25))), capital * rng.uniform(1, 4)
        shape = rng.random()
        if shape < 0.6:
            _written(rng, draw, x, y, size, tone, stroke)
        elif shape < 0.75:
            draw.ellipse((x, y, x + size * rng.uniform(1, 5), y + size * rng.uniform(1, 3)), outline=tone, width=stroke)
        elif shape < 0.85:
            draw.line((x, y, x + size / 3, y + size / 2, x + size, y - size / 2), tone, stroke)
        elif shape < 0.93:
            draw.ellipse((x, y, x + size, y + size), fill=tone)
        else:
            draw.line((x, y, x + size * rng.uniform(2, 9), y + size * rng.uniform(-2, 2)), tone, stroke)
    for _ in range(rng.choice([0, 0, 0, 4, 40])):
        x, y, r = rng.uniform(0, page.width), rng.uniform(0, page.height), capital * rng.uniform(0.03, 0.15)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=rng.randint(0, 120))
    return page


def _written(rng: random.Random, draw: ImageDraw.ImageDraw, x: float, y: float, size: float, tone: int, stroke: int) -> None:
    """A running hand: loops whose pen moves on."""
    for _ in range(rng.randint(1, 8)):
        t = np.linspace(0, math.tau * rng.uniform(0.5, 1.6), 24)
        a, b, phase = size * rng.uniform(0.1, 0.6), size * rng.uniform(0.2, 0.7), rng.uniform(0, math.tau)
        xs = x + a * np.cos(t + phase) + size * 0.15 * t
        ys = y + b * np.sin(t * rng.choice([1, 1, 2]) + phase)
        draw.line([(float(p), float(q)) for p, q in zip(xs, ys, strict=True)], tone, stroke)
        x += size * rng.uniform(0.4, 1.1)


def _scanned(rng: random.Random, noise: np.random.Generator, page: Image.Image, capital: float) -> Image.Image:
    """Blur, low resolution, grain, a lamp's edge, hard black and white, compression."""
    if rng.random() < 0.35:
        page = page.filter(ImageFilter.GaussianBlur(capital * rng.uniform(0.02, 0.07)))
    if rng.random() < 0.2 and capital > 14:
        factor = rng.uniform(9, capital) / capital
        small = page.resize((max(1, round(page.width * factor)), max(1, round(page.height * factor))), Image.Resampling.BILINEAR)
        page = small.resize(page.size, rng.choice([Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]))
    if rng.random() < 0.35:
        grain = noise.standard_normal((page.height, page.width), np.float32) * rng.uniform(2, 22)
        page = Image.fromarray(np.clip(np.asarray(page) + grain, 0, 255).astype(np.uint8))
    if rng.random() < 0.15:
        _edged(rng, page)
    if rng.random() < 0.2:
        low = rng.uniform(110, 190)
        soft = rng.choice([1.5, 4, 30])
        page = page.point([round(min(255.0, max(0.0, (value - low) * soft + 128))) for value in range(256)])
    if rng.random() < 0.35:
        packed = io.BytesIO()
        page.save(packed, "JPEG", quality=rng.randint(18, 85))
        page = Image.open(packed)
        page.load()
    return page


def _edged(rng: random.Random, page: Image.Image) -> None:
    """The dark beyond a scanner's lid, ragged or straight, along some sides."""
    draw, tone = ImageDraw.Draw(page), rng.randint(0, 60)
    for side in rng.sample(range(4), rng.randint(1, 3)):
        deep = max(1.0, 0.02 * min(page.size) * rng.random())
        length = page.width if side < 2 else page.height
        inner = [(k * length / 20, deep * (1 if rng.random() < 0.5 else rng.uniform(0.3, 1.5))) for k in range(21)]
        points = [(0.0, 0.0), *inner, (float(length), 0.0)]
        place = {
            0: lambda a, d: (a, d),
            1: lambda a, d: (a, page.height - d),
            2: lambda a, d: (d, a),
            3: lambda a, d: (page.width - d, a),
        }
        draw.polygon([place[side](a, d) for a, d in points], fill=tone)


def _filtered(ink: _Grey, how: ImageFilter.Filter) -> _Grey:
    done = Image.fromarray((ink * 255).astype(np.uint8)).filter(how)
    return np.asarray(done, np.float32) / np.float32(255)


def _smooth(noise: np.random.Generator, shape: tuple[int, ...], cells: tuple[int, int], spread: float) -> _Grey:
    """Random values of `spread` at cells + 1 points an axis, smooth between them."""
    coarse = Image.fromarray(noise.normal(0, spread, (cells[0] + 1, cells[1] + 1)).astype(np.float32))
    return np.array(coarse.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
