"""One line of print as a scanner or a camera would deliver it: a grey strip around the line, and what stands in it.

A strip is cut as a line finder cuts: some slack on all sides, at times a little too tight, with pieces of the
neighbouring lines. The print looks like laser, thermal head, dot matrix or worn ink; the page around it is scanned,
copied, photographed or compressed. Costs 1 to 3 ms a line.
"""

import functools
import io
import math
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ray_pipeline.synthesis.document_texts import random_line, spoken
from ray_pipeline.synthesis.fonts import Font, font_at

Grey = NDArray[np.uint8]
Ink = NDArray[np.float32]  # rows x columns, 0 = paper, 1 = full ink

_SIZES_PX = (23, 29, 36)
_ASCII = frozenset(string.ascii_letters + string.digits + string.punctuation + " ")
_MISSING = "\U000f1234"  # a code point for private use, which no text font draws


@dataclass(frozen=True)
class LineStrip:
    """A rendered line: `grey_YX` (12 to 80 rows) and its text as a reader should answer it."""

    grey_YX: Grey
    text: str


@functools.lru_cache(maxsize=200_000)
def _shape(font: str, character: str) -> bytes:
    """A character as drawn, or nothing where it leaves no ink."""
    mask = font_at(font, 16).getmask(character)
    return bytes(mask) + bytes(str(mask.size), "ascii") if mask.getbbox() else b""


@functools.lru_cache(maxsize=4096)
def is_text_font(font: str) -> bool:
    """Whether a font scales and draws Latin letters and digits, each in a shape of its own."""
    try:
        font_at(font, _SIZES_PX[0])
        shapes = [_shape(font, character) for character in "AaGg09@~%{Qq"]
    except OSError:  # a bitmap font in sizes of its own
        return False
    return len({*shapes, _shape(font, _MISSING)}) >= len(shapes) and b"" not in shapes


def draws(font: str, text: str) -> bool:
    """Whether a text font has every character of a text; its ASCII is taken for granted."""
    return all(character in _ASCII or _shape(font, character) not in (b"", _shape(font, _MISSING)) for character in text)


class LineRenderer:
    """Renders lines in fonts of which every family (folder and first word of the name) has about the same chance.

    The first lines can be short and plain, giving way to all kinds over `plain_lines` lines: CTC finds its first
    characters much sooner on those.
    """

    def __init__(self, fonts: Sequence[str], seed: int, plain_lines: int = 0) -> None:
        self._plain_lines, self._drawn = plain_lines, 0
        self._random = random.Random(seed)
        self._noise = np.random.default_rng(seed)
        families: dict[str, list[str]] = {}
        for font in fonts:
            folder, _, name = font.rpartition("/")
            families.setdefault(folder + name.split("-")[0].split(".")[0], []).append(font)
        self._families = list(families.values())
        self._even = [math.sqrt(len(family)) * (3.0 if "mono" in family[0].lower() else 1.0) for family in self._families]

    def line(self, text: str | None = None) -> LineStrip:
        """A strip of `text`, or of a random line. Characters that no drawn font has are left out."""
        rng = self._random
        plain = rng.random() * self._plain_lines > self._drawn
        self._drawn += 1
        chosen = random_line(rng, 8 if plain else rng.choice((8, 14, 20, 28, 44))) if text is None else text
        font = self._font_for(chosen)
        shown = "".join(character for character in chosen if draws(font, character)).strip() or "0"
        return LineStrip(self._plain(font, shown) if plain else self._scan(self._print(font, shown)), spoken(shown))

    def _plain(self, font: str, text: str) -> Grey:
        face = font_at(font, _SIZES_PX[1])
        left, top, right, bottom = (int(edge) for edge in face.getbbox(text, anchor="ls"))
        picture = Image.new("L", (max(4, right - left) + 8, max(18, bottom - top) + 6), 255)
        ImageDraw.Draw(picture).text((4 - left, picture.height - 3 - bottom), text, fill=0, font=face, anchor="ls")
        return np.asarray(picture)

    def _font_for(self, text: str) -> str:
        """A text font that has every character; after some draws one that has not."""
        rng = self._random
        for tries in range(200):
            font = rng.choice(rng.choices(self._families, self._even)[0])
            if is_text_font(font) and (tries > 8 or draws(font, text)):
                return font
        raise ValueError("no font with letters and digits was drawn in 200 tries: expected fonts of Latin text")

    def _print(self, font: str, text: str) -> Ink:
        """The ink of a text with its surroundings, cut as a line finder cuts."""
        rng = self._random
        size = rng.choice(_SIZES_PX)
        face = font_at(font, size)
        letters = rng.choice((0.0, 0.0, 0.0, rng.uniform(-0.05, 0.0), rng.uniform(0.0, 0.25))) * size
        pitch = size * rng.uniform(0.95, 1.7)
        around = [random_line(rng, 30) if rng.random() < 0.3 else "" for _ in range(2)]
        length = int(face.getlength(text) + max(letters, 0.0) * len(text)) + 2 * size
        canvas = Image.new("L", (length, int(2 * pitch + 2 * size)), 0)
        draw = ImageDraw.Draw(canvas)
        baseline = pitch + 1.2 * size
        _draw_text(draw, text, size, baseline, face, letters)
        left, top, right, bottom = canvas.getbbox() or (size, int(baseline - size), 2 * size, int(baseline))
        if bottom - top < 0.45 * size:  # dots and dashes alone: a finder sees a line of full height
            top, bottom = min(top, int(baseline - 0.75 * size)), max(bottom, int(baseline))
        for neighbour, place in zip(around, (baseline - pitch, baseline + pitch), strict=True):
            shown = "".join(character for character in neighbour if character in _ASCII)
            if shown:
                _draw_text(draw, shown, size + rng.randint(-size, size // 2), place, face, 0.0)
        if rng.random() < 0.12:
            self._rule(draw, canvas.size, top, bottom)
        stretch = math.exp(rng.gauss(-0.15, 0.2))
        up, down, fore, aft = self._slack(bottom - top, size)
        box = (left - fore, top - up, right + aft, bottom + down)
        grown = Image.new("L", (box[2] - box[0], box[3] - box[1]), 0)
        grown.paste(canvas, (-box[0], -box[1]))
        grown = self._bent(grown, stretch)
        rows = np.asarray(grown, np.float32) / 255.0
        return self._impression(rows, bottom - top)

    def _slack(self, height: int, size: int) -> tuple[int, int, int, int]:
        """Rows above and below, columns before and after the ink that the cut takes along; negative where it is too tight."""
        rng = self._random
        up, down = (round(height * rng.uniform(-0.04, 0.32)) for _ in range(2))
        fore, aft = (round(size * rng.choice((rng.uniform(-0.05, 0.35), rng.uniform(0.0, 0.9)))) for _ in range(2))
        return up, down, fore, aft

    def _rule(self, draw: ImageDraw.ImageDraw, extent: tuple[int, int], top: int, bottom: int) -> None:
        rng = self._random
        place = rng.choice((top - rng.randint(2, 8), bottom + rng.randint(1, 8), bottom + rng.randint(1, 4)))
        shade, width = rng.randint(120, 255), rng.randint(1, 3)
        if rng.random() < 0.75:
            draw.line((0, place, extent[0], place + rng.randint(-2, 2)), fill=shade, width=width)
        else:
            edge = rng.choice((rng.randint(0, 14), extent[0] - rng.randint(1, 14)))
            draw.line((edge, 0, edge, extent[1]), fill=shade, width=width)

    def _bent(self, picture: Image.Image, stretch: float) -> Image.Image:
        """Stretched, sheared (skew, slant) and bent print; shape stays about the same apart from the stretch."""
        rng = self._random
        width, height = max(4, round(picture.width * stretch)), picture.height
        skew = rng.choice((0.0, 0.0, rng.gauss(0.0, 0.012), rng.gauss(0.0, 0.03)))
        skew = max(-0.05, min(0.05, skew)) if width < 12 * height else skew * 0.3
        slant = rng.choice((0.0, 0.0, 0.0, rng.uniform(-0.15, 0.2)))
        if skew or slant or stretch != 1.0:
            extra = round(abs(skew) * width * 0.5)
            across = (1 / stretch, slant / stretch, -slant * height / 2 / stretch)
            down = (skew, 1.0, -skew * width / 2 - extra)
            picture = picture.transform(
                (width, height + 2 * extra), Image.Transform.AFFINE, (*across, *down), Image.Resampling.BILINEAR
            )
        if rng.random() < 0.12 and width > 3 * height:
            rise = rng.uniform(-0.12, 0.12) * height
            parts = 6
            edges = np.linspace(0, picture.width, parts + 1).astype(int)
            lift = rise * np.sin(np.linspace(0, math.pi, parts + 1) + rng.uniform(-0.6, 0.6))
            mesh = [
                ((int(x0), 0, int(x1), picture.height), (x0, y0, x0, y0 + picture.height, x1, y1 + picture.height, x1, y1))
                for x0, x1, y0, y1 in zip(edges[:-1], edges[1:], lift[:-1], lift[1:], strict=True)
            ]
            picture = picture.transform(picture.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
        return picture

    def _impression(self, ink: Ink, height: int) -> Ink:
        """What the printer makes of ideal ink: dots, coarse rows, thick, thin, worn or streaked."""
        rng = self._random
        ideal = ink
        look = rng.random()
        if look < 0.10:
            ink = self._dot_matrix(ink, height)
        elif look < 0.26:
            ink = self._coarse_dots(ink, height)
        elif look < 0.55:  # thick or thin strokes: blur, then a threshold beside the middle
            soft = _blurred(ink, rng.uniform(0.4, 1.6))
            middle = rng.choice((rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.6)))
            ink = np.clip((soft - middle) * rng.uniform(2.0, 8.0) + 0.5, 0.0, 1.0)
        if rng.random() < 0.30:
            ink = ink * self._wear(ink.shape)
        if rng.random() < 0.10:  # a thermal head with dead dots: whole columns or rows miss
            whole = (1, ink.shape[1]) if rng.random() < 0.5 else (ink.shape[0], 1)
            ink = ink * (self._noise.random(whole) > rng.uniform(0.01, 0.07))
        return ink.astype(np.float32) if ink.mean() > 0.4 * ideal.mean() else ideal

    def _dot_matrix(self, ink: Ink, height: int) -> Ink:
        """Nine or so pins per letter height, every pin a soft disc."""
        rng = self._random
        across = height / rng.choice((7, 8, 9, 9, 11, 14))  # one dot, in source pixels
        small = _resized(ink, max(1, round(ink.shape[1] / across)), max(1, round(ink.shape[0] / across)), Image.Resampling.BOX)
        dots = np.clip((small - rng.uniform(0.25, 0.4)) * 6 + 0.5, 0, 1)
        cell = rng.choice((3, 4, 4, 5))
        place = np.arange(cell) - (cell - 1) / 2
        radius = rng.uniform(0.38, 0.62) * cell
        disc = np.clip(radius + 0.5 - np.hypot(place[:, None], place[None, :]), 0, 1)
        return np.kron(dots, disc).astype(np.float32)

    def _coarse_dots(self, ink: Ink, height: int) -> Ink:
        """A thermal head or a bitmap font: square dots, 10 to 26 per letter height."""
        rng = self._random
        step = height / rng.uniform(10, 26)
        small = _resized(ink, max(1, round(ink.shape[1] / step)), max(1, round(ink.shape[0] / step)), Image.Resampling.BOX)
        dots = (small > rng.uniform(0.25, 0.55)).astype(np.float32)
        return _resized(dots, ink.shape[1], ink.shape[0], Image.Resampling.NEAREST)

    def _wear(self, shape: tuple[int, ...]) -> Ink:
        """Uneven ink: clouds of paler print at one scale, from faint patches to broken strokes."""
        rng = self._random
        scale = rng.choice((1.5, 3, 6, 20))
        rows, columns = max(2, round(shape[0] / scale)), max(2, round(shape[1] / scale))
        clouds = self._noise.random((rows, columns), np.float32)
        cover = _resized(clouds, shape[1], shape[0], Image.Resampling.BILINEAR)
        least = rng.uniform(0.1, 0.7)
        left: Ink = np.clip((cover - rng.uniform(0.0, 0.3)) * rng.uniform(2, 6) + least, least, 1.0)
        return left

    def _scan(self, ink: Ink) -> Grey:
        """Grey values of a printed strip: paper and ink tones, stains, strokes, blur, few pixels, noise, compression."""
        rng = self._random
        ink = self._strokes(ink) if rng.random() < 0.06 else ink
        if rng.random() < 0.6:
            ink = _blurred(ink, abs(rng.gauss(0.0, 0.75)))
        ink = self._few_pixels(ink)
        paper = rng.choice((255.0, rng.uniform(225, 255), rng.uniform(140, 240)))
        contrast = paper * rng.choice(
            (rng.uniform(0.7, 1.0), rng.uniform(0.7, 1.0), rng.uniform(0.5, 1.0), rng.uniform(0.15, 0.7))
        )
        grey = paper - contrast * ink
        if rng.random() < 0.3:
            grey = grey + self._uneven(grey.shape)
        if rng.random() < 0.4:
            grey = grey + self._noise.normal(0.0, rng.choice((2, 5, 9, 14)), grey.shape)
        if rng.random() < 0.05:
            grey = 255.0 - grey
        if rng.random() < 0.15:  # a copier's hard contrast
            grey = (grey - paper + contrast * rng.uniform(0.3, 0.7)) * rng.uniform(1.5, 5) + 128
        picture = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
        if rng.random() < 0.2:
            picture = picture.filter(ImageFilter.UnsharpMask(rng.uniform(0.8, 2.0), rng.randint(60, 250), 0))
        return _compressed(picture, rng.randint(12, 85)) if rng.random() < 0.4 else np.asarray(picture)

    def _few_pixels(self, ink: Ink) -> Ink:
        """Scaled to the pixels that the page gives the line: 13 to 60 rows."""
        rng = self._random
        rows = round(math.exp(rng.gauss(math.log(33), 0.38)))
        rows = max(13, min(60, rows))
        columns = max(4, round(ink.shape[1] * rows / ink.shape[0]))
        kind = rng.choice((Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC))
        return np.clip(_resized(ink, columns, rows, kind), 0, 1)

    def _uneven(self, shape: tuple[int, ...]) -> Ink:
        rng = self._random
        corners = self._noise.normal(0.0, rng.choice((6, 14, 25)), (rng.choice((2, 3)), rng.choice((2, 3, 8)))).astype(np.float32)
        return _resized(corners, shape[1], shape[0], Image.Resampling.BILINEAR)

    def _strokes(self, ink: Ink) -> Ink:
        """A pen stroke or part of a stamp over the print."""
        rng = self._random
        rows, columns = ink.shape
        layer = Image.new("L", (columns, rows), 0)
        draw = ImageDraw.Draw(layer)
        shade = rng.randint(70, 220)
        if rng.random() < 0.5:
            points = [(rng.uniform(0, columns), rng.uniform(-0.5, 1.5) * rows) for _ in range(rng.randint(2, 4))]
            draw.line(points, fill=shade, width=rng.randint(1, 3), joint="curve")
        else:
            radius, middle = rng.uniform(1, 3) * rows, (rng.uniform(0, columns), rng.uniform(-2, 3) * rows)
            draw.ellipse(
                (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius),
                outline=shade,
                width=rng.randint(1, 4),
            )
        both: Ink = np.maximum(ink, np.asarray(layer, np.float32) / 255.0)
        return both


def _draw_text(draw: ImageDraw.ImageDraw, text: str, left: float, baseline: float, face: Font, letters: float) -> None:
    if not letters:
        draw.text((left, baseline), text, fill=255, font=face, anchor="ls")
        return
    for character in text:
        draw.text((left, baseline), character, fill=255, font=face, anchor="ls")
        left += face.getlength(character) + letters


def _resized(values: Ink, columns: int, rows: int, kind: Image.Resampling) -> Ink:
    return np.asarray(Image.fromarray(values.astype(np.float32, copy=False)).resize((columns, rows), kind), np.float32)


def _blurred(ink: Ink, radius: float) -> Ink:
    picture = Image.fromarray((ink * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    soft: Ink = np.asarray(picture, np.float32) / 255.0
    return soft


def _compressed(picture: Image.Image, quality: int) -> Grey:
    store = io.BytesIO()
    picture.save(store, "JPEG", quality=quality)
    store.seek(0)
    return np.asarray(Image.open(store).convert("L"))
