"""What hostile bytes come to: one status each, and the next file is decoded as if nothing had been."""

import hashlib
import mmap
import os
import random
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from ray_pipeline.intake import decode
from ray_pipeline.intake.decode import Decoder, DecoderUnavailable
from ray_pipeline.intake.pixels import judged
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status
from tests.ray_pipeline.intake import hostile_images as hostile

GOOD = hostile.saved(hostile.noise(30, 20), "PNG")
LIMITS = FetchSettings(max_pixels=4_000_000, max_pages=50, pdf=True, decode_timeout_s=90, decode_memory_bytes=600_000_000)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(LIMITS) as started:
        yield started


def outcome(decoder: Decoder, data: bytes, page: int | None = None) -> tuple[str, str]:
    try:
        picture = decoder.decode(data, page)
    except RowFailure as failure:
        return failure.status, failure.message
    return "ok", f"{picture.width}x{picture.height}"


TOO_LARGE = {
    "png 100,000": hostile.png_header(100_000, 100_000),
    "png 40,000": hostile.png_header(40_000, 40_000),
    "tiff 100,000": hostile.tiff_pages([(100_000, 100_000)]),
    "tiff 40,000": hostile.tiff_pages([(40_000, 40_000)]),
    "bmp 100,000": hostile.bmp_header(100_000, 100_000),
    "bmp 40,000": hostile.bmp_header(40_000, -40_000),
    "gif 65,535": hostile.gif_header(65_535, 65_535),
    "webp 40,000": hostile.webp_header(40_000, 40_000),
    "webp 16,383": hostile.webp_header(16_383, 16_383),
    "ppm 100,000": hostile.ppm_header(100_000, 100_000),
    "jpeg 65,500": hostile.jpeg_header(65_500, 65_500),
    "one pixel too many": hostile.bmp_header(2001, 2000),
    "large second page": hostile.tiff_pages([(9, 9), (9000, 9000)]),
    "10,000 pages": hostile.tiff_pages([(9, 9)] * 10_000),
    "51 frames": hostile.animation("GIF", 3)[:-1] + b",\0\0\0\0\x09\0\x09\0\0\x02\x02\x4c\x01\0" * 51 + b";",
    "text bomb": hostile.text_bomb_png(),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_too_large(decoder: Decoder, name: str) -> None:
    page = 1 if name == "large second page" else None
    status, message = outcome(decoder, TOO_LARGE[name], page)
    assert (status, message.isprintable()) == (Status.DECODE_TOO_LARGE, True), message
    assert outcome(decoder, GOOD) == ("ok", "30x20")


CORRUPT = {
    "empty": b"",
    "png magic": b"\x89PNG\r\n\x1a\n",
    "jpeg magic": b"\xff\xd8\xff",
    "tiff magic": b"II*\0",
    "zero by zero": hostile.png_header(0, 0),
    "png without pixels": hostile.png_header(20, 20),
    "tiff without pixels": hostile.tiff_pages([(20, 20)]),
    "webp header": hostile.webp_header(20, 20),
    "two palettes cut": hostile.gif_header(20, 20)[:20],
    "pdf without pages": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "text": b"BMW is not a bitmap, but it begins like one",
    "avif brand": b"\0\0\0\x1cftypavif" + bytes(60),
    "jpeg 2000 magic": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt(decoder: Decoder, name: str) -> None:
    status, message = outcome(decoder, CORRUPT[name])
    assert status == Status.DECODE_CORRUPT, message
    assert outcome(decoder, GOOD) == ("ok", "30x20")


@pytest.mark.parametrize("name", hostile.dressed_as_jpeg())
def test_unsupported(decoder: Decoder, name: str) -> None:
    status, message = outcome(decoder, hostile.dressed_as_jpeg()[name])
    assert status == Status.DECODE_UNSUPPORTED, message


@pytest.mark.parametrize(
    ("name", "word"), [("html", "HTML"), ("json", "JSON"), ("svg", "SVG"), ("eps", "PostScript"), ("zip", "ZIP")]
)
def test_unsupported_says_what_it_looks_like(decoder: Decoder, name: str, word: str) -> None:
    assert word in outcome(decoder, hostile.dressed_as_jpeg()[name])[1]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM"])
def test_cut_files_are_corrupt(decoder: Decoder, kind: str) -> None:
    whole = hostile.saved(hostile.noise(64, 48), kind)
    assert outcome(decoder, whole) == ("ok", "64x48")
    for piece in hostile.cuts(whole):
        status, message = outcome(decoder, piece)
        if kind == "JPEG2000" and status == "ok":
            continue  # its layers make a cut file a coarser picture
        assert status == Status.DECODE_CORRUPT, (len(piece), message)


@seed(20261121)
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF", "JPEG2000", "AVIF", "PDF"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=12),
)
def test_flipped_bytes_end_as_a_status_and_spare_the_next_file(
    decoder: Decoder, kind: str, flips: list[tuple[float, int]]
) -> None:
    data = bytearray(hostile.saved(hostile.noise(20, 14), kind))
    for place, mask in flips:
        data[int(place * len(data))] ^= mask
    status, message = outcome(decoder, bytes(data))
    assert status == "ok" or status in {"decode_unsupported", "decode_corrupt", "decode_too_large", "decode_crash"}, message
    assert outcome(decoder, GOOD) == ("ok", "30x20")


@pytest.mark.parametrize(
    ("page", "status", "numbers"),
    [(3, "decode_corrupt", ("3", "3")), (-1, "decode_corrupt", ("-1", "3")), (2**40, "decode_corrupt", (str(2**40), "3"))],
)
def test_page_out_of_range_names_both_numbers(decoder: Decoder, page: int, status: str, numbers: tuple[str, str]) -> None:
    got, message = outcome(decoder, hostile.animation("GIF", 3), page)
    assert got == status
    assert all(number in message for number in numbers)


def test_tiff_that_links_to_itself(decoder: Decoder) -> None:
    """The loop is noticed and two pages are counted; each can be read."""
    looped = hostile.tiff_pages([(4, 4), (5, 5)], loop=True)
    assert outcome(decoder, looped, 0) == ("ok", "4x4")
    assert "the file has 2" in outcome(decoder, looped, 2)[1]


@pytest.mark.parametrize(("pages", "status"), [(49, "ok"), (50, "ok"), (51, "decode_too_large")])
def test_tiff_at_its_limit_of_pages(decoder: Decoder, pages: int, status: str) -> None:
    assert outcome(decoder, hostile.tiff_pages([(9, 9)] * pages), pages - 1)[0] == status
    if status == "ok":
        assert f"the file has {pages}" in outcome(decoder, hostile.tiff_pages([(9, 9)] * pages), pages)[1]


def test_picture_beyond_the_memory_limit() -> None:
    """Allowed by its pixels, but not by the child's address space."""
    with Decoder(LIMITS.model_copy(update={"max_pixels": 400_000_000, "decode_memory_bytes": 500_000_000})) as small:
        assert outcome(small, hostile.png_header(19_000, 19_000))[0] == Status.DECODE_TOO_LARGE
        assert outcome(small, GOOD) == ("ok", "30x20")


def test_pixel_memory_that_cannot_be_mapped_says_nothing_bad_of_the_file() -> None:
    with pytest.raises(RowFailure, match=r"decode_too_large: needs more memory than fetch\.decode_memory_bytes"), judged(1):
        mmap.mmap(-1, 1 << 62)


def test_too_little_memory_to_start_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_PAUSE_S", 0.01)
    with pytest.raises(DecoderUnavailable, match="does not start.*too small"):
        Decoder(LIMITS.model_copy(update={"decode_memory_bytes": 1_000_000}))


STARTS = [  # what the child of each try is -> whether the file is decoded, or what is said of the machine
    (["raise SystemExit(3)", None], None),
    (["import os; os.kill(os.getpid(), 11)", "import nothing_of_the_kind", None], None),
    (["import nothing_of_the_kind"] * 3, "No module named 'nothing_of_the_kind'"),
    (["raise SystemExit(3)"] * 3, "exit code 3"),
    (["import os; os.kill(os.getpid(), 9)"] * 3, "exit code -9"),
]


@pytest.mark.parametrize(("scripts", "said"), STARTS)
def test_a_child_that_is_not_ready_is_the_machine_s_fault(
    scripts: list[str | None], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never the file's: it is tried again, and then no file is judged at all."""
    monkeypatch.setattr(decode, "_PAUSE_S", 0.01)
    sound, waiting = decode._command(FetchSettings()), list(scripts)
    with Decoder(LIMITS) as decoder:
        os.kill(decoder.child_pid or 0, signal.SIGKILL)
        os.waitid(os.P_PID, decoder.child_pid or 0, os.WEXITED | os.WNOWAIT)

        def command(settings: FetchSettings) -> list[str]:
            script = waiting.pop(0)
            return sound if script is None else [sys.executable, "-I", "-c", script]

        monkeypatch.setattr(decode, "_command", command)
        if said is None:
            assert outcome(decoder, GOOD) == ("ok", "30x20")
        else:
            with pytest.raises(DecoderUnavailable, match=said):
                decoder.decode(GOOD, None)
        assert not waiting


def test_an_interpreter_that_is_not_there_is_the_machine_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_PAUSE_S", 0.01)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DecoderUnavailable, match="No such file or directory: '/nowhere/python'"):
        Decoder(LIMITS)


def test_timeout_then_a_fresh_child() -> None:
    with Decoder(LIMITS.model_copy(update={"decode_timeout_s": 0.5})) as hasty:
        stuck = hasty.child_pid or 0
        os.kill(stuck, signal.SIGSTOP)
        status, message = outcome(hasty, GOOD)
        assert (status, "0.5 s" in message) == (Status.DECODE_TIMEOUT, True)
        with pytest.raises(ProcessLookupError):
            os.kill(stuck, 0)
        assert hasty.child_pid is None
        hasty._settings = LIMITS  # half a second can be too short for the fresh one as well
        assert outcome(hasty, GOOD) == ("ok", "30x20")


def test_child_killed_between_files_harms_no_file() -> None:
    with Decoder(LIMITS) as decoder:
        pid = decoder.child_pid or 0
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert outcome(decoder, GOOD) == ("ok", "30x20")


KILLS = [  # signal, how many children it ends in the middle of the file, the file's end
    (signal.SIGKILL, 1, "ok"),  # whoever ends everything kills in any order: a row is not blamed at once
    (signal.SIGKILL, 2, "decode_crash"),
    (signal.SIGSEGV, 1, "decode_crash"),
    (signal.SIGXCPU, 1, "decode_timeout"),
]


@pytest.mark.parametrize(("number", "times", "status"), KILLS)
def test_child_killed_in_the_middle_of_a_file(
    number: signal.Signals, times: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the file arrives and killed when it is there, so that it surely falls into it."""
    send, left = socket.send_fds, [times]
    with Decoder(LIMITS) as decoder:

        def send_and_kill(channel: socket.socket, buffers: list[bytes], descriptors: list[int]) -> int:
            if not left[0]:
                return send(channel, buffers, descriptors)
            left[0] -= 1
            pid = decoder.child_pid or 0
            os.kill(pid, signal.SIGSTOP)
            sent = send(channel, buffers, descriptors)
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
            return sent

        with monkeypatch.context() as patch:
            patch.setattr(socket, "send_fds", send_and_kill)
            patch.setattr(decode, "_PAUSE_S", 0.01)
            got, message = outcome(decoder, GOOD)
        assert got == status and not left[0], message
        assert outcome(decoder, GOOD) == ("ok", "30x20")


def test_a_signal_to_all_processes_of_a_job_is_the_parent_s_to_answer(decoder: Decoder) -> None:
    assert outcome(decoder, GOOD) == ("ok", "30x20")
    pid = decoder.child_pid or 0
    os.kill(pid, signal.SIGTERM)
    assert outcome(decoder, GOOD) == ("ok", "30x20") and decoder.child_pid == pid


def test_the_child_is_locked_in(decoder: Decoder) -> None:
    """Limits as seen from outside, no environment, no network interface but its own loopback."""
    assert outcome(decoder, GOOD) == ("ok", "30x20")  # so that there is a child, whatever came before
    home = Path(f"/proc/{decoder.child_pid}")
    limits = {line[:25].strip(): line[25:].split()[0] for line in (home / "limits").read_text().splitlines()[1:]}
    assert limits["Max address space"] == str(LIMITS.decode_memory_bytes)
    assert (limits["Max file size"], limits["Max core file size"]) == ("0", "0")
    assert int(limits["Max open files"]) <= 32
    assert set((home / "environ").read_bytes().split(b"\0")) <= {b"OPENBLAS_NUM_THREADS=1", b"LC_ALL=C.UTF-8", b""}
    assert os.readlink(home / "fd" / "2") == os.devnull
    loaded = (home / "maps").read_text()
    assert "torch" not in loaded
    assert "arrow" not in loaded
    if os.readlink(home / "ns" / "net") != os.readlink("/proc/self/ns/net"):
        names = [line.split(":")[0].strip() for line in (home / "net" / "dev").read_text().splitlines()[2:]]
        assert names == ["lo"]


def test_digest_is_of_the_file(decoder: Decoder) -> None:
    assert decoder.decode(GOOD, None).sha256 == hashlib.sha256(GOOD).hexdigest()


def test_pictures_outlive_the_decoder_and_do_not_share_memory() -> None:
    with Decoder(LIMITS) as decoder:
        first = decoder.decode(GOOD, None)
        second = decoder.decode(GOOD, None)
    first.pixels_YX3[:] = 0
    assert second.pixels_YX3.tobytes() == hostile.noise(30, 20).tobytes()


def test_poison_between_good_files_leaves_nothing_behind(decoder: Decoder) -> None:
    """Good pictures decode to the same bytes with and without bad neighbours; no descriptor is left open."""
    bad = [*TOO_LARGE.values(), *CORRUPT.values(), *hostile.dressed_as_jpeg().values()]
    good = [hostile.saved(hostile.noise(11 + number, 7, number), "PNG") for number in range(40)]
    expected = [hostile.noise(11 + number, 7, number).tobytes() for number in range(40)]
    mixed = [(data, None) for data in bad] + list(zip(good, expected, strict=True))
    random.Random(7).shuffle(mixed)
    before = decoding_descriptors()
    for data, pixels in mixed:
        if pixels is None:
            outcome(decoder, data)
        else:
            assert decoder.decode(data, None).pixels_YX3.tobytes() == pixels
    assert decoding_descriptors() == before


def decoding_descriptors() -> int:
    """Open descriptors of the kinds that decoding uses: its anonymous files and unnamed pairs of sockets.

    Not all of them: whatever else runs in this process opens and closes some of its own.
    """
    return sum(is_of_decoding(int(name)) for name in os.listdir("/proc/self/fd"))


def is_of_decoding(descriptor: int) -> bool:
    try:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
        if not target.startswith("socket:"):
            return target.startswith(("/memfd:picture-", "/memfd:decoder-"))
        with socket.socket(fileno=os.dup(descriptor)) as found:
            return found.family == socket.AF_UNIX and not found.getsockname() and not found.getpeername()
    except OSError:  # closed meanwhile, or not connected
        return False


def test_thin_pictures(decoder: Decoder) -> None:
    for size in ((1, 65_535), (65_535, 1)):
        picture = decoder.decode(hostile.saved(Image.new("RGB", size, (1, 2, 3)), "PNG"), None)
        assert (picture.width, picture.height) == size
        assert (picture.pixels_YX3 == (1, 2, 3)).all()
