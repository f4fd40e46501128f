"""Token weights on the picture: the published example, the two laws, planted weights found again."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.geometry.footprints import Footprints, grid_footprints, join, view_footprints
from ray_pipeline.geometry.raster import Maps, picture_means, rasterise
from schemas.picture import Box

COLUMNS = [(0, 0, 2, 4), (1, 0, 3, 4), (2, 0, 4, 4)]


def prints(*boxes: Box, views: list[int] | None = None, valid: list[bool] | None = None) -> Footprints:
    view = torch.tensor(views if views is not None else list(range(len(boxes))), dtype=torch.int64)
    flags = torch.tensor(valid if valid is not None else [True] * len(boxes), dtype=torch.bool)
    return Footprints(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), view, flags)


def integral(maps: Maps) -> torch.Tensor:
    return maps.deposit_YX.sum((-2, -1)) * maps.cell_area_px


def test_published_example() -> None:
    maps = rasterise(torch.tensor([0.1, 0.2, 0.6, 0.1]), prints((0, 0, 4, 4), *COLUMNS), 4, 4, 4, 4)
    for row in range(4):
        assert maps.deposit_YX[row].tolist() == pytest.approx([0.03125, 0.10625, 0.09375, 0.01875])
        assert maps.ratio_YX[row].tolist() == pytest.approx([0.166667, 0.34, 0.30, 0.10], abs=1e-6)
    assert maps.deposit_YX.sum().item() == pytest.approx(1)
    without = rasterise(torch.tensor([0.2, 0.6, 0.1]), prints(*COLUMNS), 4, 4, 4, 4)
    assert without.ratio_YX[2].tolist() == pytest.approx([0.2, 0.4, 0.35, 0.1])


boxes_anywhere = st.lists(
    st.tuples(st.floats(-30, 110), st.floats(-30, 80), st.floats(0, 60), st.floats(0, 60)).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(boxes_anywhere, st.integers(1, 40), st.integers(1, 40), st.randoms(use_true_random=False))
def test_first_law_mass_is_kept(boxes: list[Box], rows: int, columns: int, random: object) -> None:
    generator = torch.Generator().manual_seed(random.randrange(2**31))  # type: ignore[attr-defined]
    weights = torch.rand(len(boxes), generator=generator, dtype=torch.float64)
    valid = (torch.rand(len(boxes), generator=generator) > 0.2).tolist()
    maps = rasterise(weights, prints(*boxes, valid=valid), 97, 61, rows, columns)
    assert integral(maps).item() == pytest.approx(maps.placed_mass.item(), abs=1e-9)
    assert (maps.placed_mass + maps.unplaced_mass).item() == pytest.approx(weights.sum().item())
    if maps.covered_YX.any():
        low, high = weights.min() - 1e-9, weights.max() + 1e-9
        assert ((maps.ratio_YX >= low) & (maps.ratio_YX <= high))[maps.covered_YX].all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 13), st.integers(1, 17), st.integers(20, 4000), st.integers(20, 4000), st.integers(1, 3))
def test_second_law_one_plain_grid_is_the_attention_grid(rows: int, columns: int, width: int, height: int, fine: int) -> None:
    attention = torch.rand(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(rows * 31 + columns))
    grid = grid_footprints((0, 0, width, height), rows, columns, 0)
    maps = rasterise(attention.flatten(), grid, width, height, fine * rows, fine * columns)
    expected = attention.repeat_interleave(fine, 0).repeat_interleave(fine, 1)
    assert torch.allclose(maps.ratio_YX, expected, rtol=1e-9, atol=0)
    assert maps.covered_YX.all()


def test_default_cell_is_half_the_smallest_footprint() -> None:
    attention = torch.arange(12.0).reshape(3, 4)
    maps = rasterise(attention.flatten(), grid_footprints((0, 0, 640, 480), 3, 4, 0), 640, 480)
    assert maps.ratio_YX.shape == (6, 8)
    assert torch.allclose(maps.ratio_YX, attention.double().repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert maps.cell_area_px == 80 * 80


@pytest.mark.parametrize(
    ("boxes", "shape"),
    [
        ([(0, 0, 1, 300)], (2, 256)),  # capped across only
        ([(0, 0, 400, 300), (100, 90, 150, 120)], (20, 16)),
        ([(0, 0, 30, 300)], (2, 27)),  # 26.7 cells: rounded up, never coarser than half
        ([(-99, 0, 1, 300)], (2, 8)),  # a token that is mostly padding needs no finer raster
        ([(500, 0, 501, 300)], (1, 1)),  # outside the picture
        ([], (1, 1)),
    ],
)
def test_raster_size(boxes: list[Box], shape: tuple[int, int]) -> None:
    assert tuple(rasterise(torch.ones(len(boxes)), prints(*boxes), 400, 300).ratio_YX.shape) == shape


def test_partial_cells_get_their_exact_share() -> None:
    maps = rasterise(torch.tensor([6.0]), prints((0.5, 1, 3.5, 2)), 4, 2, 1, 2)
    assert (maps.deposit_YX * maps.cell_area_px).tolist() == [[3.0, 3.0]]
    maps = rasterise(torch.tensor([6.0]), prints((1.5, 0, 4.5, 2)), 6, 2, 2, 3)  # cells of 2 x 1 px
    assert (maps.deposit_YX * maps.cell_area_px).tolist() == [[0.5, 2.0, 0.5]] * 2


def test_padding_is_clipped_and_keeps_its_mass() -> None:
    # three quarters of the first token are padding; the second lies wholly in it, the third has no place
    footprints = prints((-30, 0, 10, 10), (-70, 0, -30, 10), (0, 0, 40, 10), valid=[True, True, False])
    maps = rasterise(torch.tensor([2.0, 5.0, 7.0]), footprints, 40, 10, 1, 4)
    assert (maps.deposit_YX * maps.cell_area_px).tolist() == [[2, 0, 0, 0]]
    assert maps.covered_YX.tolist() == [[True, False, False, False]]
    assert maps.ratio_YX.tolist() == [[2, 0, 0, 0]]
    assert (maps.placed_mass.item(), maps.unplaced_mass.item()) == (2, 12)


def test_a_token_without_a_place_spoils_nothing() -> None:
    footprints = prints((0, 0, 4, 2), (0, 0, 4, 2), valid=[True, False])
    maps = rasterise(torch.tensor([1.0, float("nan")]), footprints, 4, 2)
    assert maps.ratio_YX.isfinite().all() and maps.placed_mass == 1


def test_batch_is_one_by_one() -> None:
    weights = torch.rand(2, 3, 9, generator=torch.Generator().manual_seed(4))
    footprints = join([grid_footprints((0, 0, 70, 50), 2, 2, 0), grid_footprints((20, 5, 70, 50), 1, 5, 1)])
    maps = rasterise(weights, footprints, 70, 50)
    assert maps.deposit_YX.shape[:2] == (2, 3) and maps.coverage_YX.ndim == 2 and maps.placed_mass.shape == (2, 3)
    single = rasterise(weights[1, 2], footprints, 70, 50)
    assert torch.allclose(maps.ratio_YX[1, 2], single.ratio_YX) and torch.allclose(maps.deposit_YX[1, 2], single.deposit_YX)


def test_overlapping_views_do_not_bias_the_ratio() -> None:
    views = [(0, 0, 400, 300), (0, 0, 250, 300), (150, 0, 400, 300)]
    footprints = join([view_footprints(box, 12, 12, 1, 0, k, "patch") for k, box in enumerate(views)])
    maps = rasterise(torch.full((432,), 0.25), footprints, 400, 300)
    assert torch.allclose(maps.ratio_YX, torch.full_like(maps.ratio_YX, 0.25))
    assert maps.deposit_YX.max() > 1.5 * maps.deposit_YX.min()


def test_planted_rectangle_is_found_again() -> None:
    target = (292.0, 61.0, 333.0, 99.0)
    views = [(0, 0, 400, 300), (0, 0, 250, 200), (150, 0, 400, 200), (0, 100, 250, 300), (150, 100, 400, 300)]
    footprints = join([view_footprints(box, 27, 27, 27 * 14 / 384, 1, k, "patch") for k, box in enumerate(views)])
    centres = (footprints.boxes_T4_px[:, :2] + footprints.boxes_T4_px[:, 2:]) / 2
    inside = (centres >= torch.tensor(target[:2])).all(1) & (centres <= torch.tensor(target[2:])).all(1)
    ratio = rasterise(inside.double(), footprints, 400, 300).ratio_YX
    row, column = (ratio >= 0.5).nonzero(as_tuple=True)
    cell_x, cell_y = 400 / ratio.shape[1], 300 / ratio.shape[0]
    found = (column.min() * cell_x, row.min() * cell_y, (column.max() + 1) * cell_x, (row.max() + 1) * cell_y)
    assert [float(edge) for edge in found] == pytest.approx(target, abs=10)


def test_wrong_counts_are_refused() -> None:
    footprints = prints(*COLUMNS)
    with pytest.raises(ValueError, match="4 weights for 3 footprints"):
        rasterise(torch.ones(4), footprints, 4, 4)
    with pytest.raises(ValueError, match="4 weights for 3 footprints"):
        picture_means(torch.ones(4), footprints)
    with pytest.raises(ValueError, match="picture 0 x 4 px"):
        rasterise(torch.ones(3), footprints, 0, 4)
    with pytest.raises(ValueError, match="on 0 x 4 cells"):
        rasterise(torch.ones(3), footprints, 4, 4, 4, 0)


def test_picture_means_of_crops() -> None:
    crops = [(0, 0, 384, 384), (0, 192, 384, 600), (192, 0, 576, 384)]
    whole = (0, 0, 800, 600)
    footprints = prints(*[whole] * 2, *[crops[0]] * 2, *[crops[1]] * 2, *[crops[2]] * 4, views=[0, 0, 1, 1, 2, 2, 3, 3, 3, 3])
    weights = torch.tensor([9.0, 9, 1, 3, 5, 5, 4, 4, 4, 0])
    means, kept = picture_means(torch.stack([weights, 2 * weights]), footprints)
    assert means.tolist() == [[2, 5, 3], [4, 10, 6]]
    assert kept.view_T.tolist() == [1, 2, 3] and kept.boxes_T4_px.tolist() == [list(box) for box in crops]
    maps = rasterise(means, kept, 800, 600)
    best = (maps.ratio_YX[0] == maps.ratio_YX[0].max()).nonzero()[0] + 0.5
    x, y = best[1] * 800 / maps.ratio_YX.shape[1], best[0] * 600 / maps.ratio_YX.shape[0]
    assert x < 192 and y > 384  # where crop 2 is alone, though crop 3 has twice its tokens


def test_picture_means_keep_a_picture_that_is_alone() -> None:
    means, kept = picture_means(torch.tensor([1.0, 3.0]), prints((0, 0, 8, 6), (0, 0, 8, 6), views=[0, 0]))
    assert means.tolist() == [2] and kept.view_T.tolist() == [0]


def test_picture_means_leave_patches_alone() -> None:
    grid = view_footprints((0, 0, 60, 40), 12, 12, 1.0, 0, 0)
    crop = view_footprints((10, 5, 50, 35), 12, 12, 1.0, 134, 1)
    nowhere = prints((0, 0, 0, 0), views=[-1], valid=[False])
    weights = torch.arange(155.0)
    means, kept = picture_means(weights, join([grid, nowhere, crop]))
    assert means.tolist() == [*range(144), 149.5]
    assert kept.view_T.tolist() == [0] * 144 + [1]
    assert torch.equal(kept.boxes_T4_px[:144], grid.boxes_T4_px)
