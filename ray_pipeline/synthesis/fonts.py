"""Which fonts the renderer may use. Training and evaluation never share a family."""

import functools
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont

_SHIPPED = Path(__file__).parent / "fonts"
_SYSTEM = Path("/usr/share/fonts")
# Hack, Vera and Arkpandora descend from the same design as DejaVu.
_EVALUATION_FAMILIES = ("dejavu", "hack", "vera", "arkpandora", "roboto", "opensans", "open-sans", "aileron")
_NOT_LATIN_TEXT = ("symbol", "dingbat", "d050000", "math", "emoji", "initial", "keyboard", "chancery", "z003", "drawing", "mtrl")
_NOTO_LATIN = ("NotoSans-", "NotoSerif-", "NotoSansMono-", "NotoSansDisplay-", "NotoSerifDisplay-", "NotoMono-")
BUILT_IN = "pillow-built-in"


def evaluation_fonts() -> list[str]:
    """Fonts of the demo, the benchmarks and the tests: shipped with the package, plus Pillow's built-in one."""
    return [BUILT_IN, *sorted(str(path) for path in _SHIPPED.glob("*.ttf"))]


def training_fonts(root: Path = _SYSTEM) -> list[str]:
    """Every Latin text font installed below `root`, without the evaluation families.

    Raises:
        FileNotFoundError: fewer than 40 fonts are there; a model trained on so few does not read others.
    """
    found = [path for ending in ("*.ttf", "*.otf") for path in root.rglob(ending) if _may_train(path)]
    if len(found) < 40:
        raise FileNotFoundError(f"{len(found)} training fonts below {root}, expected at least 40: install fonts-* packages")
    return sorted(str(path) for path in found)


def _may_train(path: Path) -> bool:
    name = path.name.lower()
    if any(family in str(path).lower() for family in _EVALUATION_FAMILIES) or any(word in name for word in _NOT_LATIN_TEXT):
        return False
    return "noto" not in name or path.name.startswith(_NOTO_LATIN)


@functools.lru_cache(maxsize=4096)
def font_at(name: str, size_px: int) -> Font:
    """The font `name` (a path, or BUILT_IN) at an em size in pixels."""
    if name == BUILT_IN:
        built_in = ImageFont.load_default(size_px)
        if not isinstance(built_in, ImageFont.FreeTypeFont):
            raise RuntimeError("Pillow was built without FreeType; its built-in font cannot be scaled")
        return built_in
    return ImageFont.truetype(name, size_px)


@functools.lru_cache(maxsize=4096)
def capital_ratio(name: str) -> float:
    """Capital height of a font as a share of its em size, such as 0.72."""
    _, top, _, bottom = font_at(name, 200).getbbox("H")
    return (bottom - top) / 200
