"""AIR-B: its file, what it refuses, and the two kinds of regressor told apart."""

import json
import math

import pytest
import torch
from safetensors.torch import save

from ray_pipeline.methods.acs_learned import AirS
from ray_pipeline.methods.box_regressor import AirB, read_regressor
from tests.ray_pipeline.methods.made_boxes import HEADS, LAYERS, PRINTS, planted, trained_on_boxes
from tests.ray_pipeline.methods.made_pools import FAR, FIRST, HEIGHT, WIDTH, candidate


def test_unreadable_candidates_are_not_rated() -> None:
    members, _ = planted(5)
    broken = torch.full_like(members[0].weights_CLHT, math.nan)  # type: ignore[arg-type]
    mixed = [members[0], candidate(FIRST, 7), candidate(FAR, 8, weights=broken), *members[1:]]
    rated = trained_on_boxes().rate(mixed, PRINTS, WIDTH, HEIGHT)
    assert rated.isnan().tolist() == [False, True, True, *[False] * 5]
    assert trained_on_boxes().rate([candidate(FIRST, 7)], PRINTS, WIDTH, HEIGHT).isnan().all()


def test_a_box_elsewhere_is_rated_otherwise() -> None:
    """Unlike AIR-S: the same attention, another box."""
    members, _ = planted(5)
    moved = [candidate(FAR, 0, weights=members[0].weights_CLHT), *members[1:]]
    assert (
        abs(trained_on_boxes().rate(moved, PRINTS, WIDTH, HEIGHT)[0] - trained_on_boxes().rate(members, PRINTS, WIDTH, HEIGHT)[0])
        > 1e-3
    )


def test_saved_and_loaded_it_predicts_the_same() -> None:
    again = read_regressor(trained_on_boxes().to_bytes())
    members, _ = planted(3)
    assert isinstance(again, AirB) and (again.layers, again.heads, again.tokens) == (LAYERS, HEADS, "finest_view")
    torch.testing.assert_close(
        again.rate(members, PRINTS, WIDTH, HEIGHT), trained_on_boxes().rate(members, PRINTS, WIDTH, HEIGHT), atol=5e-3, rtol=0
    )
    assert again.to_bytes() == trained_on_boxes().to_bytes()
    assert isinstance(read_regressor(AirS((1,), 2, grid=8).to_bytes()), AirS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not a regressor", "not a safetensors file"),
        (save({"weight": torch.ones(2)}), "metadata {}, expected heads, layers and tokens under 'air-b 1'"),
        (save({"weight": torch.ones(2)}, {"air-b 1": json.dumps({"heads": 2})}), "expected heads, layers and tokens"),
        (
            save({"weight": torch.ones(2)}, {"air-b 1": json.dumps({"layers": [1], "heads": 2, "tokens": "all"})}),
            "weights do not fit",
        ),
    ],
)
def test_foreign_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_regressor(data)


@pytest.mark.parametrize(("layers", "heads"), [((), 4), ((3, 3), 4), ((3,), 0)])
def test_impossible_sizes_are_refused(layers: tuple[int, ...], heads: int) -> None:
    with pytest.raises(ValueError, match="expected distinct ones"):
        AirB(layers, heads)


def test_attention_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attention of shape \(4, 2, 4\), expected \(4, 2, 3\)"):
        trained_on_boxes().rate([candidate(FIRST, 0, weights=torch.rand(4, 2, 4, 144))], PRINTS, WIDTH, HEIGHT)
