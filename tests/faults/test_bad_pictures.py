"""Every kind of bad picture comes to one right status, and the good ones beside it are what they would be alone."""

import random
from pathlib import Path

import numpy as np
import pytest

from ray_pipeline.intake.decode import Decoder
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status
from tests.faults.bad_pictures import KINDS, BadPicture, bad_pictures, endless_pictures, flipped_files
from tests.ray_pipeline.intake import hostile_images as hostile

SETTINGS = FetchSettings(decode_timeout_s=100, pdf=True)
GOOD_EVERY = 8


def status(decoder: Decoder, data: bytes) -> str:
    try:
        decoder.decode(data, None)
    except RowFailure as failure:
        assert failure.message.isprintable() and failure.message
        return failure.status
    return Status.OK


def pixels(decoder: Decoder, data: bytes) -> bytes:
    return decoder.decode(data, None).pixels_YX3.tobytes()


def peak_bytes(pid: int | None) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_each_ends_as_it_should_and_spares_the_others() -> None:
    """One child serves them all: nothing crashes it, nothing makes it large, and good pictures keep every byte."""
    good = [hostile.saved(hostile.noise(40 + number, 30, number), kind) for number, kind in enumerate(KINDS)]
    with Decoder(SETTINGS) as alone:
        expected = [pixels(alone, data) for data in good]
    found, wrong = 0, []
    with Decoder(SETTINGS) as decoder:
        child = decoder.child_pid
        for number, bad in enumerate(bad_pictures(seed=0)):
            got = status(decoder, bad.data)
            wrong += [(bad.name, got, sorted(bad.acceptable))] * (got not in bad.acceptable)
            if number % GOOD_EVERY == 0:
                chosen = number // GOOD_EVERY % len(good)
                assert pixels(decoder, good[chosen]) == expected[chosen], bad.name
            found += 1
        assert decoder.child_pid == child
        assert peak_bytes(child) <= SETTINGS.decode_memory_bytes
    assert (wrong, found > 300) == ([], True)


def test_the_seed_moves_the_flips() -> None:
    assert list(flipped_files(1)) == list(flipped_files(1)) != list(flipped_files(2))


@pytest.mark.parametrize("bad", endless_pictures(), ids=lambda bad: bad.name)
def test_the_clock_ends_what_nothing_else_does(bad: BadPicture) -> None:
    with Decoder(SETTINGS.model_copy(update={"decode_timeout_s": 0.5})) as hasty:
        assert status(hasty, bad.data) in bad.acceptable
        assert hasty.child_pid is None


def test_the_same_bytes_a_thousand_times() -> None:
    """Under a thousand names they are one picture with one digest, each time with pixels of its own."""
    data = hostile.saved(hostile.noise(8, 8), "PNG")
    with Decoder(SETTINGS) as decoder:
        pictures = [decoder.decode(data, None) for _ in range(1000)]
    assert {(picture.sha256, picture.pixels_YX3.tobytes()) for picture in pictures} == {
        (pictures[0].sha256, hostile.noise(8, 8).tobytes())
    }
    pictures[0].pixels_YX3[:] = 0
    assert np.any(pictures[1].pixels_YX3)


@pytest.mark.slow
def test_the_order_does_not_matter() -> None:
    """A sample of them in three orders: the same statuses."""
    sample = [bad for number, bad in enumerate(bad_pictures(seed=0)) if number % 12 == 0]
    orders = []
    with Decoder(SETTINGS) as decoder:
        for seed in range(3):
            shuffled = random.Random(seed).sample(sample, len(sample))
            orders.append({bad.name: status(decoder, bad.data) for bad in shuffled})
    assert orders[0] == orders[1] == orders[2]
