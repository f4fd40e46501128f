"""Numbers about one box: worked by hand on a 4 x 4 grid, and the same whatever order the candidates come in."""

import math

import pytest
import torch

from ray_pipeline.geometry.footprints import grid_footprints
from ray_pipeline.methods.box_features import MAP_FEATURES, POOL_FEATURES, map_features, pool_features, token_side
from ray_pipeline.methods.candidates import boxes_of
from tests.ray_pipeline.methods.made_pools import HEIGHT, WIDTH, candidate

PRINTS = grid_footprints((0, 0, WIDTH, HEIGHT), 4, 4, 0)  # cells of 160 x 120 px
EVERY = torch.ones(16, dtype=torch.bool)
CELL, HALF, FAR = (
    (160.0, 120.0, 320.0, 240.0),
    (160.0, 120.0, 240.0, 240.0),
    (480.0, 360.0, 640.0, 480.0),
)  # cell 5, its left half


def seen(row_T: torch.Tensor, *boxes: tuple[float, ...]) -> dict[str, list[float]]:
    weights = row_T.expand(len(boxes), 4, 1, 1, 16)
    told = map_features(weights, torch.tensor(boxes, dtype=torch.float64), PRINTS, EVERY, WIDTH, HEIGHT)
    assert told.shape == (len(boxes), 4, len(MAP_FEATURES)) and told.dtype == torch.float32
    return {name: told[:, 0, place].tolist() for place, name in enumerate(MAP_FEATURES)}


def one_token(token: int, mass: float = 0.2) -> torch.Tensor:
    return mass * torch.nn.functional.one_hot(torch.tensor(token), 16).float()


def test_a_map_in_one_cell() -> None:
    told = seen(one_token(5), CELL, HALF, FAR)
    assert told["inside"] == pytest.approx([1, 0.5, 0]) and told["log_inside"] == pytest.approx(
        [0, math.log(0.5), math.log(1e-3)]
    )
    assert told["nearby"] == pytest.approx([1, 1, 0])
    assert told["density"] == pytest.approx([math.log(1.001 / 0.0635), math.log(0.501 / 0.03225), math.log(0.001 / 0.0635)])
    assert told["right"] == pytest.approx([0, 0.25, -2]) and told["below"] == pytest.approx([0, 0, -2])
    assert told["right_or_left"] == pytest.approx([0, 0.25, 2]) and told["below_or_above"] == pytest.approx([0, 0, 2])
    assert told["entropy"] == pytest.approx([0] * 3, abs=1e-9) and told["log_mass"] == pytest.approx([math.log(0.2)] * 3)


def test_a_map_everywhere() -> None:
    told = seen(torch.full((16,), 0.01), CELL, FAR)
    assert told["inside"] == pytest.approx([1 / 16] * 2) and told["density"] == pytest.approx([0, 0], abs=1e-6)
    assert told["nearby"] == pytest.approx([9 / 16, 4 / 16]) and told["entropy"] == pytest.approx([1, 1])


def test_a_map_further_off_than_three_tokens_makes_no_difference() -> None:
    told = seen(one_token(0), (639.0, 479.0, 640.0, 480.0))
    assert told["right"] == [-3] and told["below_or_above"] == [3]


def test_a_row_without_mass_lies_everywhere() -> None:
    told = seen(torch.zeros(16), CELL)
    assert told["inside"] == pytest.approx([1 / 16]) and told["log_mass"] == pytest.approx([math.log(1e-8)])


def test_what_is_known_without_attention() -> None:
    members = [
        candidate(CELL, 0, -0.5, entropy=2.0, multiplicity=3),
        candidate(HALF, 1, -1.5, entropy=3.0),
        candidate(FAR, 2, -math.inf, entropy=math.inf),
    ]
    told = pool_features(members, PRINTS, EVERY, WIDTH, HEIGHT)
    assert told.shape == (3, len(POOL_FEATURES)) and told.isfinite().all()
    column = {name: told[:, place].tolist() for place, name in enumerate(POOL_FEATURES)}
    assert column["logprob"] == [-0.5, -1.5, -20] and column["logprob_to_likeliest"] == [0, -1, -19.5]
    assert column["digit_entropy"] == [2, 3, 20]
    assert column["agreement"] == pytest.approx([2.5 / 4, 1.5 / 4, 0])
    assert column["pool_agreement"] == pytest.approx([1 / 3] * 3)
    likely = 1 / (1 + math.exp(-4))
    assert column["likely_agreement"] == pytest.approx([likely + 0.5 * (1 - likely), 0.5 * likely + 1 - likely, 0], abs=1e-6)
    assert column["cluster_share"] == pytest.approx([0.8, 0.8, 0.2])
    assert column["x_unit"] == pytest.approx([240 / 640, 200 / 640, 560 / 640]) and column["width_unit"] == [0.25, 0.125, 0.25]
    assert column["log_height"] == pytest.approx([math.log(0.25)] * 3)
    mean_x0 = (3 * 160 + 160 + 480) / 5
    assert column["x0_off"] == pytest.approx([(160 - mean_x0) / 160] * 2 + [(480 - mean_x0) / 160])
    spread = math.sqrt((4 * (160 - mean_x0) ** 2 + (480 - mean_x0) ** 2) / 5) / 160
    assert column["x0_spread"] == pytest.approx([spread] * 3)


def test_order_does_not_matter() -> None:
    members = [candidate(box, k, -k - 0.5) for k, box in enumerate((CELL, HALF, FAR))]
    turned = pool_features(members[::-1], PRINTS, EVERY, WIDTH, HEIGHT).flip(0)
    torch.testing.assert_close(turned, pool_features(members, PRINTS, EVERY, WIDTH, HEIGHT))
    weights = torch.rand(3, 4, 1, 2, 16, generator=torch.Generator().manual_seed(1))
    straight = map_features(weights, boxes_of(members), PRINTS, EVERY, WIDTH, HEIGHT)
    torch.testing.assert_close(
        map_features(weights.flip(0), boxes_of(members[::-1]), PRINTS, EVERY, WIDTH, HEIGHT).flip(0), straight
    )


def test_a_token_is_as_long_as_the_median_one() -> None:
    assert token_side(PRINTS.boxes_T4_px.double()).tolist() == [160, 120]
    assert token_side(torch.zeros(3, 4, dtype=torch.float64)).tolist() == [1, 1]
