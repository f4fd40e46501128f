"""Text from data made visible: control, bidirectional and other invisible characters become escapes.

For pages, messages and logs only; results keep the raw text.
"""

from unicodedata import category

from ray_pipeline.scrubbing import scrubbed

# Cc control, Cf format (bidi), Cs lone surrogates, Co private, Cn unassigned, Zl and Zp line and paragraph separators.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
JOINERS = "\u200c\u200d"  # invisible too, but Persian, Indic scripts and emoji are misspelt without them


def visible(text: str, keep: str = "") -> str:
    """The text with every hidden character as `\\xNN`, `\\uNNNN` or `\\UNNNNNNNN`, but for those in `keep`."""
    return "".join(character if _shown(character, keep) else _escape(character) for character in text)


def one_line(text: str, limit: int = 500) -> str:
    """The text as one visible line of at most `limit` characters, without secrets, white space collapsed."""
    line = visible(scrubbed(" ".join(text.split()), paths=True))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _shown(character: str, keep: str) -> bool:
    return character in keep or character in JOINERS or category(character) not in HIDDEN


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
