"""A TrueType font of one blank glyph: text set in it can be found and copied, but not seen, in any script.

Fonts with shapes hold few scripts and weigh megabytes; what a page says is visible in its picture already.
"""

import struct
from collections.abc import Sequence

UNITS = 1000  # of the em square, and of the glyph's width
_REGULAR, _NO_CODE = 64, 0xFFFF
# The glyph: a line from corner to corner and back. It paints nothing, but has the extent by which readers mark text; PDFium
# adds 1/64 to its height.
_TOP = UNITS * 63 // 64
_DIAGONAL = struct.pack(">5h2H2B4h", 1, 0, 0, UNITS, _TOP, 1, 0, 1, 1, 0, UNITS, 0, _TOP)


def blank_font() -> bytes:
    """The file. Glyph 1 is the blank one; glyph 0 is what stands for unknown characters, and as blank."""
    tables = {
        b"OS/2": _os2(),
        b"cmap": struct.pack(">4HI7H3HhH", 0, 1, 3, 1, 12, 4, 24, 0, 2, 2, 0, 0, _NO_CODE, 0, _NO_CODE, 1, 0),
        b"glyf": _DIAGONAL,
        b"head": struct.pack(">4I2H2q4h2H3h", 0x10000, 0x10000, 0, 0x5F0F3CF5, 0, UNITS, 0, 0, 0, 0, UNITS, UNITS, 0, 8, 2, 0, 0),
        b"hhea": struct.pack(">I3hH11hH", 0x10000, UNITS, 0, 0, UNITS, 0, 0, UNITS, 1, *[0] * 7, 1),
        b"hmtx": struct.pack(">Hhh", UNITS, 0, 0),
        b"loca": struct.pack(">3H", 0, 0, len(_DIAGONAL) // 2),
        b"maxp": struct.pack(">I14H", 0x10000, 2, 2, 1, 0, 0, 1, *[0] * 8),
        b"name": _name("Blank"),
        b"post": struct.pack(">2I2h5I", 0x30000, 0, 0, 0, 1, 0, 0, 0, 0),
    }
    head = struct.pack(">I4H", 0x10000, len(tables), 128, 3, 16 * len(tables) - 128)
    body, start = b"", len(head) + 16 * len(tables)
    for tag, table in sorted(tables.items()):
        padded = table + bytes(-len(table) % 4)
        checksum = sum(struct.unpack(f">{len(padded) // 4}I", padded)) % 2**32
        head += tag + struct.pack(">3I", checksum, start + len(body), len(table))
        body += padded
    return head + body


def to_unicode(characters: Sequence[str]) -> str:
    """The map, in PostScript, from codes 1, 2, … to these characters, by which a reader of the PDF knows them."""
    entries = [f"<{code:04X}> <{one.encode('utf-16-be').hex().upper()}>" for code, one in enumerate(characters, 1)]
    blocks = [entries[start : start + 100] for start in range(0, len(entries), 100)]
    lines = [
        "/CIDInit /ProcSet findresource begin", "12 dict begin", "begincmap",
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def", "/CMapName /Adobe-Identity-UCS def",
        "/CMapType 2 def", "1 begincodespacerange", "<0000> <FFFF>", "endcodespacerange",
        *(f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar" for block in blocks),
        "endcmap", "CMapName currentdict /CMap defineresource pop", "end", "end",
    ]  # fmt: skip
    return "\n".join(lines)


def _os2() -> bytes:
    table = struct.pack(">Hh3H11h", 3, UNITS, 400, 5, 0, *[0] * 11) + bytes(10) + struct.pack(">4I", 0, 0, 0, 0) + b"NONE"
    return table + struct.pack(">3H3h2H2I2h3H", _REGULAR, 0, _NO_CODE, UNITS, 0, 0, UNITS, 0, 0, 0, 0, 0, 0, 0, 0)


def _name(family: str) -> bytes:
    text = family.encode("utf-16-be")
    records = b"".join(struct.pack(">6H", 3, 1, 0x409, kind, len(text), 0) for kind in (1, 6))
    return struct.pack(">3H", 0, 2, 6 + len(records)) + records + text
