"""The crop grid: every published example, and the cap that `strict` adds."""

import random

import pytest
import torch

from ray_pipeline.methods.multicrop import crop_grid, look
from ray_pipeline.models.multicrop_tokens import coordinates
from schemas.model import ViewSettings
from schemas.picture import Box

Span = tuple[int, int]


def spans(boxes: tuple[Box, ...], axis: int) -> list[Span]:
    return sorted({(int(box[axis]), int(box[axis + 2])) for box in boxes[1:]})


# width, height, max_crops, views with the whole picture, number of columns, the last, number of rows, the last
PUBLISHED = [
    (577, 576, 100, 5, 2, (192, 577), 2, (192, 576)),
    (640, 480, 100, 3, 2, (192, 640), 1, (0, 480)),
    (800, 600, 8, 7, 3, (384, 800), 2, (192, 600)),
    (800, 600, 100, 7, 3, (384, 800), 2, (192, 600)),
    (1024, 768, 100, 13, 4, (576, 1024), 3, (384, 768)),
    (1024, 768, 8, 9, 4, (591, 1024), 2, (197, 768)),
    (1920, 1080, 100, 37, 9, (1536, 1920), 4, (576, 1080)),
    (1920, 1080, 20, 19, 6, (1210, 1920), 3, (484, 1080)),
    (1920, 1080, 16, 13, 6, (1360, 1920), 2, (272, 1080)),
    (4240, 2832, 100, 97, 12, (3377, 4240), 8, (2149, 2832)),
    (4240, 2832, 50, 46, 9, (3256, 4240), 5, (1628, 2832)),
    (3213, 3024, 100, 101, 10, (2448, 3213), 10, (2448, 3024)),
    (3213, 3024, 200, 183, 14, (2626, 3213), 13, (2424, 3024)),
    (300, 2000, 100, 10, 1, (0, 300), 9, (1536, 2000)),
    (300, 2000, 2, 10, 1, (0, 300), 9, (1536, 2000)),
    (200, 1000, 5, 5, 1, (0, 200), 4, (576, 1000)),
    (5000, 380, 50, 26, 25, (4608, 5000), 1, (0, 380)),
    (1000, 500, 1, 3, 2, (252, 1000), 1, (0, 500)),
    (384, 5000, 10, 25, 1, (0, 384), 24, (4531, 5000)),
    (2000, 400, 3, 9, 8, None, 1, (0, 400)),
]
STRICT = [
    (300, 2000, 2, 3, 1, (0, 300), 2, (502, 2000)),
    (384, 5000, 10, 11, 1, (0, 384), 10, (3753, 5000)),
    (2000, 400, 3, 4, 3, (804, 2000), 1, (0, 400)),
    (1024, 768, 8, 9, 4, (591, 1024), 2, (197, 768)),
]
CASES = [("official", *case) for case in PUBLISHED] + [("strict", *case) for case in STRICT]


@pytest.mark.parametrize(("policy", "width", "height", "crops", "views", "columns", "right", "rows", "bottom"), CASES)
def test_grid(
    policy: str, width: int, height: int, crops: int, views: int, columns: int, right: Span | None, rows: int, bottom: Span
) -> None:
    boxes = crop_grid(width, height, crops, policy)  # type: ignore[arg-type]
    assert boxes[0] == (0, 0, width, height)
    assert len(boxes) == views == len(set(boxes))
    assert (len(spans(boxes, 0)), len(spans(boxes, 1))) == (columns, rows)
    assert spans(boxes, 1)[-1] == bottom and (right is None or spans(boxes, 0)[-1] == right)


@pytest.mark.parametrize(
    ("width", "height", "crops", "columns", "rows"),
    [
        (577, 576, 100, [(0, 384), (192, 577)], [(0, 384), (192, 576)]),
        (1024, 768, 100, [(0, 384), (192, 576), (384, 768), (576, 1024)], [(0, 384), (192, 576), (384, 768)]),
        (1024, 768, 8, [(0, 394), (197, 591), (394, 788), (591, 1024)], [(0, 394), (197, 768)]),
        (1920, 1080, 20, None, [(0, 484), (242, 726), (484, 1080)]),
        (1920, 1080, 16, None, [(0, 544), (272, 1080)]),
    ],
)
def test_spans(width: int, height: int, crops: int, columns: list[Span] | None, rows: list[Span]) -> None:
    boxes = crop_grid(width, height, crops, "official")
    assert spans(boxes, 1) == rows and (columns is None or spans(boxes, 0) == columns)


@pytest.mark.parametrize("policy", ["official", "strict"])
@pytest.mark.parametrize(("width", "height", "crops"), [(640, 480, 0), (576, 576, 100), (4240, 2832, 1), (1, 1, 9)])
def test_no_crops(width: int, height: int, crops: int, policy: str) -> None:
    assert crop_grid(width, height, crops, policy) == ((0, 0, width, height),)  # type: ignore[arg-type]


def test_strict_takes_no_two_crops_where_one_is_allowed() -> None:
    assert len(crop_grid(1000, 500, 1, "strict")) == 1 and len(crop_grid(1000, 500, 1, "official")) == 3


def test_order_and_centres_of_800_x_600() -> None:
    boxes = crop_grid(800, 600, 8, "official")
    assert boxes == (
        (0, 0, 800, 600),
        (0, 0, 384, 384),
        (0, 192, 384, 600),
        (192, 0, 576, 384),
        (192, 192, 576, 600),
        (384, 0, 800, 384),
        (384, 192, 800, 600),
    )
    centres = [[0.5, 0.5], [0.24, 0.32], [0.24, 0.66], [0.48, 0.32], [0.48, 0.66], [0.74, 0.32], [0.74, 0.66]]
    assert torch.allclose(coordinates(boxes, 800, 600, 2), torch.tensor(centres))
    both = coordinates(boxes, 800, 600, 4)
    assert both.shape == (7, 4) and torch.allclose(both[:, :2], torch.tensor(centres))
    assert both[0].tolist() == [0.5, 0.5, 1, 1] and both[6].tolist() == pytest.approx([0.74, 0.66, 0.52, 0.68])


def test_centres_of_1024_x_768() -> None:
    centres = coordinates(crop_grid(1024, 768, 8, "official"), 1024, 768, 2)[1:]
    assert centres[:, 0].tolist() == pytest.approx([0.192383] * 2 + [0.384766] * 2 + [0.577148] * 2 + [0.788574] * 2, abs=1e-6)
    assert centres[:, 1].tolist() == pytest.approx([0.256510, 0.628255] * 4, abs=1e-6)


def test_strict_keeps_the_cap_and_is_official_where_official_does() -> None:
    rng = random.Random(20)
    broken = 0
    for _ in range(10_000):
        width, height, crops = rng.randint(100, 6000), rng.randint(100, 6000), rng.choice([1, 2, 4, 8, 16, 50, 100, 200])
        strict, official = (crop_grid(width, height, crops, policy) for policy in ("strict", "official"))  # type: ignore[arg-type]
        assert len(strict) - 1 <= crops
        if len(official) - 1 <= crops:
            assert strict == official
        else:
            broken += 1
    assert 0.15 < broken / 10_000 < 0.27  # published behaviour breaks its cap in 21 % of such pictures


def test_crops_cover_the_picture() -> None:
    rng = random.Random(7)
    for _ in range(300):
        width, height = rng.randint(100, 3000), rng.randint(100, 3000)
        crops = crop_grid(width, height, rng.randint(1, 60), base_px=rng.choice([96, 384]))[1:] or ((0, 0, width, height),)
        for axis, length in ((0, width), (1, height)):
            reach = 0.0
            for low, high in sorted((box[axis], box[axis + 2]) for box in crops):
                assert 0 <= low <= reach and high <= length
                reach = max(reach, high)
            assert reach == length


@pytest.mark.parametrize(
    ("width", "height", "crops", "expected"),
    [
        (144, 144, 9, 1),  # 1.5 x 96
        (145, 144, 9, 5),  # 96, stride 48: two columns and two rows
        (288, 192, 15, 16),  # 5 x 3 of 96
        (288, 192, 14, 9),  # 98: 4 x 2
    ],
)
def test_grid_for_a_tower_of_96_px(width: int, height: int, crops: int, expected: int) -> None:
    assert len(crop_grid(width, height, crops, base_px=96)) == expected
    assert look(width, height, ViewSettings(max_crops=crops), 96) == crop_grid(width, height, crops, "strict", 96)


def test_growth_scales_with_the_base() -> None:
    assert spans(crop_grid(288, 192, 14, base_px=96), 0)[0] == (0, 98)  # 10 * 96 / 384 = 2.5, to even
    assert spans(crop_grid(2048, 1536, 8, base_px=768), 0)[0] == (0, 788)  # twice 1024 x 768
    assert spans(crop_grid(1024, 768, 8, step_px=40), 0)[0] == (0, 424)


def test_policy_comes_from_the_settings() -> None:
    assert len(look(300, 2000, ViewSettings(max_crops=2, policy="official"), 384)) == 10
    assert len(look(300, 2000, ViewSettings(max_crops=2, policy="strict"), 384)) == 3
    assert look(300, 2000, ViewSettings(), 384) == ((0, 0, 300, 2000),)


@pytest.mark.parametrize("arguments", [(0, 5, 1), (5, 0, 1), (5, 5, -1)])
def test_impossible_pictures_are_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=f"{arguments[0]} x {arguments[1]} px, {arguments[2]} crops"):
        crop_grid(*arguments)


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="'lenient', expected official or strict"):
        crop_grid(9, 9, 1, "lenient")  # type: ignore[arg-type]
