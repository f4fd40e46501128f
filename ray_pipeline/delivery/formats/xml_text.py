"""Text from data as text of an XML document, and nothing but text.

XML 1.0 has no way to write most control characters and the two noncharacters U+FFFE and U+FFFF: they become U+FFFD.
"""

import re
from html import escape

_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPACES = {"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}  # in an attribute a parser would make plain spaces of them


def writable(text: str) -> str:
    """The text as an XML document can hold it."""
    return _UNWRITABLE.sub("\ufffd", text)


def xml_text(text: str) -> str:
    """As the content of an element."""
    return escape(writable(text), quote=False).replace("\r", "&#13;")


def xml_attribute(text: str) -> str:
    """As the value of an attribute, with its quotes."""
    escaped = escape(writable(text), quote=True)
    for space, reference in _SPACES.items():
        escaped = escaped.replace(space, reference)
    return f'"{escaped}"'
