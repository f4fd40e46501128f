"""A box that ends at its crop's edge belongs to a thing that the crop shows in part; such an answer must not win."""

import pytest

from ray_pipeline.models.contract import Generation
from ray_pipeline.perceiver import _cut_off
from schemas.picture import Box

CROP = (100.0, 50.0, 300.0, 250.0)


@pytest.mark.parametrize(
    ("box", "crops", "cut"),
    [
        ((150.0, 100.0, 250.0, 200.0), (CROP,), False),
        ((100.2, 100.0, 250.0, 200.0), (CROP,), True),
        ((150.0, 51.0, 250.0, 200.0), (CROP,), True),
        ((150.0, 100.0, 299.9, 200.0), (CROP,), True),
        ((150.0, 100.0, 250.0, 249.0), (CROP,), True),
        ((150.0, 100.0, 250.0, 246.0), (CROP,), False),
        ((10.0, 10.0, 20.0, 20.0), (CROP,), False),
        ((410.0, 400.0, 499.5, 450.0), (CROP, (400.0, 350.0, 500.0, 500.0)), True),
        (None, (CROP,), False),
        ((100.0, 100.0, 250.0, 200.0), (), False),
    ],
)
def test_a_box_at_the_edge_is_cut_off(box: Box | None, crops: tuple[Box, ...], cut: bool) -> None:
    answer = Generation("", "", -0.1, box, -0.1, 4, True)
    assert _cut_off(answer, crops) is cut
