"""How concentrated a map is in a box, by hand; and the layer that looks there is found."""

import numpy as np
import pytest

from ray_pipeline.calibration.focus_layer import LEAST_ROWS, Concentration, best_layer, concentration

LEFT, HALF_CELL = (0.0, 0.0, 10.0, 30.0), (5.0, 0.0, 15.0, 15.0)


@pytest.mark.parametrize(
    ("cells", "box", "ratio", "hit"),
    [
        ([[1, 1], [1, 1]], LEFT, 1.0, True),  # everywhere alike: chance; the first cell is the largest
        ([[4, 1], [4, 1]], LEFT, 0.8 / 0.5, True),
        ([[0, 1], [0, 1]], LEFT, 1e-4 / 0.5, False),  # misses altogether
        ([[0, 0], [0, 0]], LEFT, 1.0, True),  # says nothing
        ([[-5, 1], [1, 1]], LEFT, (1 / 3) / 0.5, False),  # below nothing counts as nothing
        ([[4, 0], [0, 0]], HALF_CELL, 0.5 / 0.25, True),  # its middle lies on the box's edge
        ([[0, 0], [9, 0]], HALF_CELL, 1e-4 / 0.25, False),
    ],
)
def test_concentration(cells: list[list[float]], box: tuple[float, ...], ratio: float, hit: bool) -> None:
    found = concentration(np.array(cells, dtype=np.float64), 20, 30, [box])
    assert (found.ratio, found.hit) == (pytest.approx(ratio), hit)


def test_of_several_boxes_any_counts() -> None:
    found = concentration(np.array([[0.0, 1.0]]), 20, 30, [(0.0, 0.0, 5.0, 30.0), (10.0, 0.0, 20.0, 30.0)])
    assert (found.ratio, found.hit) == (pytest.approx(1 / 0.75), True)


def test_the_layer_that_looks_is_found() -> None:
    rows = [(Concentration(1.0, False), Concentration(4.0, k % 2 == 0), Concentration(4.0, True)) for k in range(LEAST_ROWS)]
    found, table = best_layer(rows)
    assert (found.layer, found.hit, found.rows) == (2, 1.0, LEAST_ROWS)
    assert [one.ratio for one in table] == pytest.approx([1, 4, 4])
    with pytest.raises(ValueError, match=f"{LEAST_ROWS - 1} questions .* expected at least {LEAST_ROWS}"):
        best_layer(rows[1:])
