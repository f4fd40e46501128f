"""Pages of planted lines in letters of one width, and a perfect reader of any region of them.

The reader sees a letter where all of it is inside the region. Of a line that shows too little of its height it makes
nonsense, as readers do; of one that shows next to nothing it makes nothing.
"""

from dataclasses import dataclass

from hypothesis import strategies as st

from ray_pipeline.models.contract import TextLine
from schemas.picture import Box

LETTER = 0.5  # of a line's height


@dataclass(frozen=True)
class Planted:
    """A line: where it begins, how high it is, and its text, whose letters are half as wide as high."""

    x: float
    y: float
    height: float
    text: str

    @property
    def box_px(self) -> Box:
        return self.x, self.y, self.x + len(self.text) * LETTER * self.height, self.y + self.height


def read(planted: Planted, region: Box) -> TextLine | None:
    """What a perfect reader reads of a line in a region; None where it shows nothing of it."""
    x0, y0, x1, y1 = region
    step = LETTER * planted.height
    seen = [k for k in range(len(planted.text)) if planted.x + k * step >= x0 - 1e-9 and planted.x + (k + 1) * step <= x1 + 1e-9]
    top, bottom = max(y0, planted.y), min(y1, planted.y + planted.height)
    while seen and planted.text[seen[0]] == " ":
        seen.pop(0)
    while seen and planted.text[seen[-1]] == " ":
        seen.pop()
    if not seen or bottom - top < 0.3 * planted.height:
        return None
    box = planted.x + seen[0] * step, top, planted.x + (seen[-1] + 1) * step, bottom
    whole = bottom - top > 0.999 * planted.height
    text = planted.text[seen[0] : seen[-1] + 1]
    return TextLine(box, text if whole else "~" * len(text), -0.1 if whole else -0.05)


WORDS = st.text("abcdehilmnorstu", min_size=1, max_size=9)


@st.composite
def pages(draw: st.DrawFn) -> tuple[int, int, list[Planted]]:
    """Width, height and lines: rows of up to three pieces, apart by more than any gap between words."""
    width, height = draw(st.integers(150, 1300)), draw(st.integers(120, 900))
    lines, y = [], float(draw(st.integers(0, 20)))
    while len(lines) < 40:
        high = draw(st.integers(10, 24))
        if y + high > height:
            break
        x = float(draw(st.integers(0, 60)))
        for _ in range(draw(st.integers(1, 3))):
            room = int((width - x) / (LETTER * high))
            text = " ".join(draw(st.lists(WORDS, min_size=1, max_size=12)))[: max(0, room)].strip()
            if not text:
                break
            lines.append(Planted(x, y, float(high), text))
            x += len(text) * LETTER * high + high * draw(st.integers(3, 6))
        y += high * draw(st.sampled_from((1.1, 1.4, 2.0)))
    return width, height, lines
