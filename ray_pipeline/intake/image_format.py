"""What a file's first bytes say it is. Names and declared types are never consulted."""

_MAGICS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"BM", "BMP"),
    (b"%PDF-", "PDF"),
)
_AVIF_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")
_OTHERS = (
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"8BPS", "Photoshop"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"{", "JSON"),
    (b"[", "JSON"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"<", "HTML"),
)


def sniffed(head: bytes) -> str | None:
    """Pillow's name of an allowed format, or PDF, from the file's first 16 bytes; null for anything else."""
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS:
        return "AVIF"
    if head[:1] == b"P" and head[1:2] in b"123456f" and head[2:3].isspace():
        return "PPM"
    return None


def likeness(head: bytes) -> str:
    """A word for the error message about bytes that are no allowed picture."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    lowered = text[:8].lower()
    return next(
        (f"looks like {name}" for magic, name in _OTHERS if text.startswith(magic) or lowered.startswith(magic)), "unknown"
    )
