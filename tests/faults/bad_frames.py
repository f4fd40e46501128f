"""Picture files put together by hand, byte by byte, where no library would write what they hold."""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from tests.ray_pipeline.intake import hostile_images as hostile

_PNG = b"\x89PNG\r\n\x1a\n"
_ZEROS_AT_ONCE = 16 << 20


def zeros_deflated(size: int) -> bytes:
    """A zlib stream of `size` zero bytes, made from one piece that repeats: a gigabyte is written in an instant."""
    assert size % _ZEROS_AT_ONCE == 0
    packer = zlib.compressobj(9, wbits=-15)
    piece = packer.compress(bytes(_ZEROS_AT_ONCE)) + packer.flush(zlib.Z_FULL_FLUSH)
    times = size // _ZEROS_AT_ONCE
    return b"\x78\xda" + piece * times + b"\x03\x00" + struct.pack(">I", (size % 65521) << 16 | 1)


def png_of_zeros(width: int, height: int, size: int) -> bytes:
    """A grey PNG of this size in pixels whose pixel stream holds `size` zero bytes."""
    header = hostile.png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return _PNG + header + hostile.png_chunk(b"IDAT", zeros_deflated(size)) + hostile.png_chunk(b"IEND", b"")


def png_with_bomb(chunk: bytes, size: int) -> bytes:
    """A small PNG with a compressed chunk that unfolds to `size` bytes."""
    keyword = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0", b"iCCP": b"profile\0\0"}[chunk]
    whole = hostile.saved(Image.new("RGB", (8, 8)), "PNG")
    return whole[:33] + hostile.png_chunk(chunk, keyword + zeros_deflated(size)) + whole[33:]


def png_of_comments(count: int) -> bytes:
    whole = hostile.saved(Image.new("RGB", (8, 8)), "PNG")
    return whole[:33] + b"".join(hostile.png_chunk(b"tEXt", b"k%d\0v" % number) for number in range(count)) + whole[33:]


def flat_jpeg(side: int) -> bytes:
    """A valid grey JPEG of one shade: two zero bits per block of 8 x 8, whatever its size."""
    blocks = (-(-side // 8)) ** 2
    return _jpeg_head(0xC0, side) + _scan(0, 63) + bytes(-(-2 * blocks // 8)) + b"\xff\xd9"


def jpeg_of_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG that goes over all its blocks once per scan, at some twenty bytes a scan."""
    blocks = (-(-side // 8)) ** 2
    runs = -(-blocks // 32_767)  # end-of-band runs: a one-bit code, then fourteen ones
    bits = "0" + "1" * 14
    packed = int((bits * runs).ljust(-(-15 * runs // 8) * 8, "1"), 2).to_bytes(-(-15 * runs // 8), "big")
    dc_bits = bytes(-(-blocks // 8))
    over_all = _scan(1, 63) + packed.replace(b"\xff", b"\xff\0")
    return _jpeg_head(0xC2, side, ac_symbol=0xE0) + _scan(0, 0) + dc_bits + over_all * scans + b"\xff\xd9"


def _jpeg_head(frame: int, side: int, ac_symbol: int = 0) -> bytes:
    """Start, quantisation, frame, and two Huffman tables with the one-bit code 0 for a single symbol each."""
    table = b"\xff\xdb\0\x43\0" + b"\x10" * 64
    size = b"\xff" + bytes([frame]) + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\x01\x11\0"
    codes = [
        b"\xff\xc4" + struct.pack(">HB", 20, kind) + b"\1" + bytes(15) + bytes([value]) for kind, value in _symbols(ac_symbol)
    ]
    return b"\xff\xd8" + table + size + b"".join(codes)


def _symbols(ac_symbol: int) -> list[tuple[int, int]]:
    return [(0x00, 0), (0x10, ac_symbol)]


def _scan(first: int, last: int) -> bytes:
    return b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\0" + bytes([first, last, 0])


def gif_of_frames(count: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + b",\0\0\0\0\x09\0\x09\0\0\x02\x02\x4c\x01\0" * count + b";"


def flat_gif(side: int) -> bytes:
    return hostile.saved(Image.new("L", (side, side)), "GIF")


def apng_of_frames(count: int, claimed: int | None = None) -> bytes:
    """`count` frames of one pixel; the header claims `claimed` of them."""
    chunk, pixel = hostile.png_chunk, zlib.compress(b"\0\0")
    pieces = [chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))]
    pieces.append(chunk(b"acTL", struct.pack(">II", count if claimed is None else claimed, 0)))
    for number in range(count):
        sequence = max(0, 2 * number - 1)
        pieces.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", sequence, 1, 1, 0, 0, 1, 100, 0, 0)))
        pieces.append(chunk(b"fdAT", struct.pack(">I", sequence + 1) + pixel) if number else chunk(b"IDAT", pixel))
    return _PNG + b"".join(pieces) + chunk(b"IEND", b"")


def webp_of_frames(count: int) -> bytes:
    still = hostile.saved(Image.new("RGB", (1, 1)), "WEBP", lossless=True)
    frame = bytes(12) + (10).to_bytes(3, "little") + b"\0" + still[still.index(b"VP8L") :]
    frame += bytes(len(frame) % 2)
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + bytes(6) + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += (b"ANMF" + struct.pack("<I", len(frame)) + frame) * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


def lossless_webp_header(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    body = b"VP8L" + struct.pack("<I", 5) + b"\x2f" + struct.pack("<I", bits) + b"\0"
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def avif_of_size(width: int, height: int) -> bytes:
    """A small AVIF whose `ispe` box claims another size."""
    data = bytearray(hostile.saved(hostile.noise(16, 16), "AVIF"))
    start = data.index(b"ispe") + 8
    data[start : start + 8] = struct.pack(">II", width, height)
    return bytes(data)


def jpeg_2000_of_size(width: int, height: int) -> bytes:
    """A small JPEG 2000 whose header box and code stream claim another size, in tiles of one pixel."""
    data = bytearray(hostile.saved(hostile.noise(16, 16), "JPEG2000"))
    start = data.index(b"ihdr") + 4
    data[start : start + 8] = struct.pack(">II", height, width)
    start = data.index(b"\xff\x51") + 6
    data[start : start + 24] = struct.pack(">IIIIII", width, height, 0, 0, 1, 1)
    return bytes(data)


def tiff_of(tags: list[tuple[int, int, int, bytes]], order: str = "<") -> bytes:
    """A TIFF of one page from (tag, type, count, value bytes); longer values go behind the directory."""
    place = 8 + 2 + 12 * len(tags) + 4
    entries, tail = b"", b""
    for tag, kind, count, value in tags:
        entries += struct.pack(order + "HHI", tag, kind, count)
        if len(value) > 4:
            entries += struct.pack(order + "I", place + len(tail))
            tail += value
        else:
            entries += value.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8) + struct.pack(order + "H", len(tags)) + entries + bytes(4) + tail


def _long(value: int) -> bytes:
    return struct.pack("<I", value)


def _page(width: int, height: int, **changed: tuple[int, int, bytes]) -> list[tuple[int, int, int, bytes]]:
    """Tags of an uncompressed grey page, some of them changed by number (`t258=(type, count, value)`)."""
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: width * height}
    tags = {tag: (4, 1, _long(value)) for tag, value in values.items()}
    tags |= {int(name[1:]): entry for name, entry in changed.items()}
    return [(tag, *entry) for tag, entry in sorted(tags.items())]


def tiff_with_strip(strip: bytes, side: int) -> bytes:
    """A deflated grey page of side² pixels with this strip."""
    changed = {"t259": (4, 1, _long(8)), "t279": (4, 1, _long(len(strip)))}
    place = len(tiff_of(_page(side, side, **changed)))
    return tiff_of(_page(side, side, **changed, t273=(4, 1, _long(place)))) + strip


def tiff_cmyk_16() -> bytes:
    """Two pixels of 16-bit ink: none, and full cyan."""
    bits = (3, 4, struct.pack("<4H", 16, 16, 16, 16))
    changed = {"t258": bits, "t262": (4, 1, _long(5)), "t277": (4, 1, _long(4)), "t279": (4, 1, _long(16))}
    place = len(tiff_of(_page(2, 1, **changed)))
    pixels = struct.pack("<8H", 0, 0, 0, 0, 65_535, 0, 0, 0)
    return tiff_of(_page(2, 1, **changed, t273=(4, 1, _long(place)))) + pixels


def broken_tiffs() -> Iterator[tuple[str, bytes]]:
    """Directories that contradict themselves."""
    page = hostile.saved(hostile.noise(20, 20), "TIFF")
    yield "2^32 - 1 values of a tag", tiff_of(_page(9, 9, t270=(2, 2**32 - 1, _long(8))))
    yield "65,535 tags", b"II*\0" + _long(8) + b"\xff\xff" + b"\x00\x01\x04\x00\x01\0\0\0\x09\0\0\0" * 65_535 + bytes(4)
    yield "rows per strip 0", tiff_of(_page(9, 9, t278=(4, 1, _long(0))))
    yield "tiles of 0", tiff_of(_page(9, 9, t322=(4, 1, _long(0)), t323=(4, 1, _long(0)), t324=(4, 1, _long(8))))
    yield "1,000 samples a pixel", tiff_of(_page(9, 9, t277=(4, 1, _long(1000))))
    yield "bits 0", tiff_of(_page(9, 9, t258=(4, 1, _long(0))))
    yield "floats of 64 bits", tiff_of(_page(1, 1, t258=(4, 1, _long(64)), t339=(4, 1, _long(3)), t279=(4, 1, _long(8))))
    yield "unknown compression", tiff_of(_page(9, 9, t259=(4, 1, _long(31_337))))
    yield "old JPEG without data", tiff_of(_page(9, 9, t259=(4, 1, _long(6)), t513=(4, 1, _long(8)), t514=(4, 1, _long(2**31))))
    yield "fax without an end", tiff_of(_page(9000, 9000, t259=(4, 1, _long(4)), t279=(4, 1, _long(100)), t258=(4, 1, _long(1))))
    yield "Exif that is the page itself", tiff_of(_page(9, 9, t34665=(4, 1, _long(8)), t330=(4, 1, _long(8))))
    yield "orientation of 2^32 - 1 values", tiff_of(_page(9, 9, t274=(3, 2**32 - 1, _long(6))))
    yield "directory at the last byte", page[:4] + _long(len(page) - 1) + page[8:]
    yield "directory before the file", b"II*\0" + _long(0) + bytes(50)
    yield "big TIFF of 2^63 tags", b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + b"\xff" * 8 + bytes(64)


def beyond_its_palette(kind: str) -> bytes:
    """Two pixels: one of the only colour (red), one of the 200th of one."""
    if kind == "PNG":
        header = hostile.png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0))
        body = hostile.png_chunk(b"PLTE", b"\xff\0\0") + hostile.png_chunk(b"IDAT", zlib.compress(b"\0\0\xc8"))
        return _PNG + header + body + hostile.png_chunk(b"IEND", b"")
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0] * (256 if kind == "GIF" else 1))
    image.putpixel((1, 0), 200)
    data = bytearray(hostile.saved(image, kind, **({"optimize": False} if kind == "GIF" else {})))
    if kind == "GIF":  # keep two of the 256 colours
        return bytes(data[:10] + bytes([data[10] & 0xF8]) + data[11:19] + data[13 + 768 :])
    data[-4:] = b"\x00\xc8\x00\x00"
    return bytes(data)


def cyclic_profile() -> bytes:
    """An ICC profile whose tags are each other, the tag table, and the whole profile."""
    table = struct.pack(">I", 3) + b"A2B0" + struct.pack(">II", 128, 300) + b"B2A0" + struct.pack(">II", 0, 2**31)
    table += b"desc" + struct.pack(">II", 132, 36)
    body = bytes(12) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(88) + table
    return struct.pack(">I", len(body) + 4) + body


def jpeg_with_circling_profile() -> bytes:
    """Profile pieces 1 of 2, 2 of 2, 1 of 2, … a thousand times."""
    whole = hostile.saved(hostile.noise(16, 16), "JPEG")
    pieces = [b"ICC_PROFILE\0" + bytes([1 + number % 2, 2]) + bytes(200) for number in range(1000)]
    return whole[:2] + b"".join(b"\xff\xe2" + struct.pack(">H", len(piece) + 2) + piece for piece in pieces) + whole[2:]


def broken_exif_blocks() -> Iterator[tuple[str, bytes]]:
    """Exif blocks that lie, loop or never end."""
    entry = struct.Struct("<HHII")
    orientation = entry.pack(0x0112, 3, 1, 2**32 - 1)
    loop = entry.pack(0x8769, 4, 1, 8) + entry.pack(0x8825, 4, 1, 8) + entry.pack(0xA005, 4, 1, 8)
    head = b"II*\0\x08\0\0\0"
    yield "Exif header 500,000 times", b"Exif\0\0" * 500_000
    yield "Exif with a huge orientation", b"Exif\0\0" + head + struct.pack("<H", 1) + orientation + bytes(4)
    yield "Exif orientation as text", b"Exif\0\0" + head + struct.pack("<H", 1) + entry.pack(0x0112, 2, 2**31, 8) + bytes(4)
    yield "Exif that points at itself", b"Exif\0\0" + head + struct.pack("<H", 3) + loop + struct.pack("<I", 8)
    yield "Exif of 65,535 tags", b"Exif\0\0" + head + b"\xff\xff" + entry.pack(0x0112, 4, 2**31, 0) * 5000
    yield "Exif of one byte", b"E"


def with_raw_exif(image: Image.Image, kind: str, block: bytes) -> bytes:
    """The block as it stands in the format's Exif chunk, beside nothing that would make a library rewrite it."""
    whole = hostile.saved(image, kind)
    if kind == "PNG":
        return whole[:33] + hostile.png_chunk(b"eXIf", block) + whole[33:]
    flags = b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + b"".join((side - 1).to_bytes(3, "little") for side in image.size)
    body = flags + whole[12:] + b"EXIF" + struct.pack("<I", len(block)) + block + bytes(len(block) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
