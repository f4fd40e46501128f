"""Two readings of one line: how alike their texts are, and the one text of two pieces that overlap.

Case and spaces do not count for likeness. A piece is least reliable where it was cut: joined texts change over from one
piece to the other in the middle of what both have seen.
"""

from dataclasses import dataclass
from difflib import SequenceMatcher

NEAR = 0.25  # what a whole overlap's distance from where geometry expects it costs, in shares of matching characters
SLACK = 3  # characters by which widths of letters may mislead geometry, at least
LOOSE = 0.5  # and in shares of the expected overlap
SURE = 3  # characters in common, below which a match says nothing


def alike(first: str, second: str) -> float:
    """Share of characters that two texts have in common and in order, 0..1; 1 for two empty ones."""
    return SequenceMatcher(None, _bare(first), _bare(second), autojunk=False).ratio()


def part_alike(part: str, whole: str) -> float:
    """How alike a text is to the stretch of another that fits it best, 0..1."""
    short, long = _bare(part), _bare(whole)
    if len(short) > len(long):
        short, long = long, short
    if not short:
        return 1.0
    match = SequenceMatcher(None, short, long, autojunk=False).find_longest_match()
    start = min(max(0, match.b - match.a), len(long) - len(short))
    return SequenceMatcher(None, short, long[start : start + len(short)], autojunk=False).ratio()


@dataclass(frozen=True)
class Stitched:
    """The joined text, how well the pieces agreed where they overlap (0..1), and on how many characters."""

    text: str
    agreement: float
    common: int


def stitched(left: str, right: str, overlap: float) -> Stitched:
    """Two pieces of one line as one. `overlap` characters are expected in both, as the boxes have it; below 0 a gap.

    A gap of half a character or more becomes a space. Where no shift makes the texts agree, geometry alone decides.
    """
    if overlap <= -0.5:
        return Stitched(f"{left.rstrip()} {right.lstrip()}", 0.0, 0)
    expected = len(left) - round(overlap)
    slack = max(SLACK, round(LOOSE * overlap))
    best = Stitched(_switched(left, right, min(max(0, expected), len(left))), 0.0, 0)
    highest = 0.0
    for shift in range(max(0, expected - slack), min(len(left), expected + slack) + 1):
        common = min(len(left) - shift, len(right))
        matches = sum(a == b for a, b in zip(left[shift:], right, strict=False))
        if not matches:
            continue
        share = matches / common
        worth = share - NEAR * abs(shift - expected) / max(1.0, overlap)
        if worth > highest:
            highest, best = worth, Stitched(_switched(left, right, shift), share, common)
    return best if best.agreement >= 0.5 else _loosely(left, right, expected) or best


def _switched(left: str, right: str, shift: int) -> str:
    """The left piece up to the middle of the overlap that begins at `shift`, then the right one."""
    common = min(len(left) - shift, len(right))
    if len(left) - shift > len(right):  # all of the right piece lies within the left one
        return left
    return left[: shift + common // 2] + right[common // 2 :]


def _loosely(left: str, right: str, expected: int) -> Stitched | None:
    """Where one reading lost or invented a character, no shift fits all of the overlap: change over at its longest match."""
    start = max(0, expected - SLACK)
    tail, head = left[start:], right[: len(left) - start + SLACK]
    match = SequenceMatcher(None, tail, head, autojunk=False).find_longest_match()
    if match.size < SURE:
        return None
    share = 2 * match.size / max(1, len(tail) + len(head) - 2 * SLACK)
    return Stitched(left[: start + match.a + match.size] + right[match.b + match.size :], min(1.0, share), match.size)


def _bare(text: str) -> str:
    return "".join(text.casefold().split())
