"""Data inside a page: JSON that a script reads and a parser takes for text, and pictures that are shown when asked for.

No letter of markup stands in it, whatever it holds, and none that a person could not see.
"""

import json
import re
from base64 import b64encode
from typing import Any

from ray_pipeline.delivery.escapes import visible
from ray_pipeline.delivery.report.markup import Markup

SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_ESCAPES = re.compile(r"\\.|[<>&']")  # an escape of JSON is two letters, and its second is no letter of its own


def data_island(name: str, value: Any) -> Markup:
    """`value` for the page's script, under an id; texts in it as a reader may see them.

    Raises:
        ValueError: a number is not finite.
    """
    packed = json.dumps(shown(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _island(name, "application/json", _ESCAPES.sub(_escaped, packed))


def image_island(name: str, image: bytes) -> Markup:
    """A picture that costs no more than its letters until it is shown.

    Raises:
        ValueError: it is neither PNG nor JPEG.
    """
    for signature, kind in SIGNATURES.items():
        if image.startswith(signature):
            return _island(name, kind, b64encode(image).decode())
    raise ValueError(f"picture starts with {image[:8]!r}; expected PNG or JPEG")


def shown(value: Any) -> Any:
    """The same with hidden characters made visible in every text; line ends stay."""
    if isinstance(value, str):
        return value if value.isprintable() else visible(value, keep="\n")  # most are, and that is seen at once
    if isinstance(value, dict):
        return {key: shown(inner) for key, inner in value.items()}
    return [shown(inner) for inner in value] if isinstance(value, list | tuple) else value


def _island(name: str, kind: str, packed: str) -> Markup:
    return Markup(f'<script type="{kind}" id="{name}">{packed}</script>')


def _escaped(found: re.Match[str]) -> str:
    if found[0] == '\\"':
        return "\\u0022"
    return found[0] if found[0].startswith("\\") else f"\\u{ord(found[0]):04x}"
