"""The regressor's features, its shape for any model, its file, and selection by what it predicts."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from ray_pipeline.geometry.footprints import Footprints, grid_footprints, join
from ray_pipeline.methods.acs_learned import AirS, acs_learned, features, token_cells
from ray_pipeline.methods.candidates import Candidate
from tests.ray_pipeline.methods.made_pools import FAR, FIRST, HEIGHT, NEAR, SHIFTED, WIDTH, candidate, pool

BOXES = (FIRST, SHIFTED, NEAR, FAR)


class TellTale:
    """Predicts what a candidate's first weight says, and remembers which layers it was shown."""

    def __init__(self, layers: tuple[int, ...] = (0,)) -> None:
        self.layers, self.heads, self.shown = layers, 1, []

    def rate(self, candidates: Sequence[Candidate], footprints: Footprints, width: int, height: int) -> Tensor:
        weights = [torch.full((4, 1, 1, 4), math.nan) if one.weights_CLHT is None else one.weights_CLHT for one in candidates]
        self.shown += [one[0, :, 0, 0].tolist() for one in weights]
        assert (len(footprints), width, height) == (4, WIDTH, HEIGHT)
        return torch.stack([one[0, 0, 0, 0] for one in weights])


def members(*predicted: float, logprobs: Sequence[float] = (-1, -1, -1, -1)) -> list[Candidate]:
    return [candidate(BOXES[k], k, logprobs[k], torch.full((4, 1, 1, 4), value)) for k, value in enumerate(predicted)]


def choose_among(candidates: Sequence[Candidate], **more: object) -> object:
    return acs_learned(pool(candidates, **(dict(method="acs_learned", layers=(0,), regressor=TellTale()) | more)))


def test_the_highest_prediction_wins_and_is_told() -> None:
    choice = choose_among(members(0.2, 0.7, 0.4))
    assert choice.index == 1 and choice.predicted_ious == pytest.approx((0.2, 0.7, 0.4)) and "0.700" in choice.reason


def test_equal_predictions_go_by_the_digits_then_by_agreement() -> None:
    assert choose_among(members(0.5, 0.5, 0.5, logprobs=(-3, -1, -2))).index == 1
    assert choose_among(members(0.5, 0.5, 0.5, 0.5)).index in (0, 2)


def test_nan_is_never_ranked() -> None:
    spoiled = members(0.9, 0.3, 0.4)
    spoiled[0] = replace(spoiled[0], weights_CLHT=torch.full((4, 1, 1, 4), math.nan))
    choice = choose_among(spoiled)
    assert choice.index == 2 and choice.predicted_ious[0] is None and not choice.fell_back


def test_one_readable_candidate_of_several_falls_back() -> None:
    bare = [replace(one, weights_CLHT=None) for one in members(0.9, 0.3)]
    choice = choose_among([*bare, *members(0.1, 0.2, 0.4)[2:]])
    assert choice.reason.startswith("fallback: attention of 1 of 3 candidates is readable; medoid")
    assert choice.predicted_ious == (None,) * 3
    assert choose_among(members(0.4)).predicted_ious == (pytest.approx(0.4),)


def test_a_regressor_that_predicts_nothing_falls_back() -> None:
    """Halves of attention that are finite may still overflow inside a foreign regressor."""

    class Overflowing(TellTale):
        def rate(self, candidates: Sequence[Candidate], footprints: Footprints, width: int, height: int) -> Tensor:
            return torch.tensor([math.nan, self.second])

        second = math.nan

    assert choose_among(members(0.9, 0.3), regressor=Overflowing()).reason.startswith("fallback: the regressor predicts no")
    Overflowing.second = 0.2
    choice = choose_among(members(0.9, 0.3), regressor=Overflowing())
    assert choice.index == 1 and choice.predicted_ious == (None, pytest.approx(0.2))


def test_layers_are_handed_over_in_the_regressors_order() -> None:
    weights = torch.arange(3.0)[None, :, None, None].expand(4, 3, 1, 4) / 10
    regressor = TellTale((9, 5))
    choose_among([candidate(FIRST, 0, weights=weights)], layers=(5, 7, 9), regressor=regressor)
    assert regressor.shown == [pytest.approx([0.2, 0.0])]


@pytest.mark.parametrize(
    ("more", "message"),
    [({"regressor": None}, "acs_learned needs a regressor"), ({"regressor": TellTale((0, 4))}, r"reads layers \[4\] too")],
)
def test_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_among(members(0.2, 0.7), **more)


def test_a_uniform_map_is_ln_2_everywhere() -> None:
    prints = grid_footprints((0, 0, WIDTH, HEIGHT), 17, 23, 0)
    every = torch.ones(391, dtype=torch.bool)
    cells = token_cells(prints, every, WIDTH, HEIGHT, 24)
    assert cells.sum(1).tolist() == pytest.approx([1.0] * 391, abs=1e-5)
    maps, scalars = features(torch.full((4, 2, 3, 391), 0.001), every, cells)
    assert maps.shape == (4, 6, 24, 24) and scalars.shape == (4, 6, 2)
    assert maps.amin().item() == pytest.approx(math.log(2), abs=1e-5) == maps.amax().item()
    assert scalars[..., 0].unique().tolist() == pytest.approx([1.0])
    assert scalars[..., 1].unique().tolist() == pytest.approx([math.log(0.391)])


def test_a_single_token_lands_where_it_saw_the_picture_with_its_mass() -> None:
    """Views of several sizes, newlines and a thumbnail: row 3, column 5 of a 6 x 8 tile over the right half."""
    tile = grid_footprints((320, 0, 640, 480), 6, 8, 1)
    newline = Footprints(torch.zeros(1, 4), torch.tensor([-1]), torch.tensor([False]))
    prints = join([grid_footprints((0, 0, WIDTH, HEIGHT), 2, 2, 0), tile, newline])
    kept = prints.valid_T & (prints.view_T == 1)
    row = torch.zeros(4, 1, 1, 53)
    row[..., 4 + 3 * 8 + 5] = 0.3
    row[..., [0, 52]] = 0.5  # not kept
    maps, scalars = features(row, kept, token_cells(prints, kept, WIDTH, HEIGHT, 24))
    shares = maps.expm1()[0, 0] / 576
    assert shares.sum().item() == pytest.approx(1.0, abs=1e-5)
    rows, columns = (shares > 1e-6).nonzero().T
    assert (rows.min().item(), rows.max().item()) == (12, 15)  # 240..320 of 480 px
    assert (columns.min().item(), columns.max().item()) == (19, 20)  # 520..560 of 640 px: 19.5..21
    assert shares[12, 19].item() * 2 == pytest.approx(shares[12, 20].item(), abs=1e-5)
    assert scalars[0, 0].tolist() == pytest.approx([0.0, math.log(0.3)], abs=1e-6)


def test_tokens_beside_the_picture_bring_nothing() -> None:
    prints = grid_footprints((0, -480, WIDTH, HEIGHT), 2, 1, 0)
    assert token_cells(prints, torch.ones(2, dtype=torch.bool), WIDTH, HEIGHT, 8).sum(1).tolist() == pytest.approx([0.0, 1.0])


def test_a_head_without_mass_counts_as_looking_everywhere() -> None:
    prints = grid_footprints((0, 0, WIDTH, HEIGHT), 4, 6, 0)
    every = torch.ones(24, dtype=torch.bool)
    maps, scalars = features(torch.zeros(4, 1, 1, 24), every, token_cells(prints, every, WIDTH, HEIGHT, 8))
    assert maps.unique().tolist() == pytest.approx([math.log(2)], abs=1e-5)
    assert scalars[0, 0].tolist() == pytest.approx([1.0, math.log(1e-8)])


@pytest.mark.parametrize(
    ("layers", "heads", "least", "most"), [(17, 28, 850e3, 950e3), (28, 28, 1.0e6, 1.1e6), (1, 2, 1, 2e4), (2, 4, 1, 2e4)]
)
def test_parameters_follow_the_model(layers: int, heads: int, least: float, most: float) -> None:
    count = sum(p.numel() for p in AirS(range(layers), heads).parameters())
    assert least <= count <= most


def small(seed: int = 1) -> AirS:
    torch.manual_seed(seed)
    return AirS((5, 7), 3, grid=12, tokens="all").eval()


def attention(count: int, tokens: int = 12) -> list[Tensor]:
    random = torch.Generator().manual_seed(3)
    return [torch.rand(4, 2, 3, tokens, generator=random) / tokens for _ in range(count)]


def test_a_candidates_prediction_does_not_know_its_neighbours() -> None:
    regressor, prints = small(), grid_footprints((0, 0, WIDTH, HEIGHT), 3, 4, 0)
    together = regressor.predict(attention(3), prints, WIDTH, HEIGHT)
    alone = torch.cat([regressor.predict([one], prints, WIDTH, HEIGHT) for one in attention(3)])
    assert together.tolist() == pytest.approx(alone.tolist(), abs=1e-6)
    assert together.min() > 0 and together.max() < 1 and together.unique().numel() == 3


def test_candidates_are_rated_by_their_attention_alone() -> None:
    regressor, prints = small(), grid_footprints((0, 0, WIDTH, HEIGHT), 3, 4, 0)
    a, b = attention(2)
    members = [candidate(FIRST, 0, weights=a), candidate(FAR, 1), candidate(FAR, 2, weights=b)]
    rated = regressor.rate(members, prints, WIDTH, HEIGHT)
    assert rated[[0, 2]].tolist() == pytest.approx(regressor.predict([a, b], prints, WIDTH, HEIGHT).tolist())
    assert rated[1].isnan() and regressor.rate(members[1:2], prints, WIDTH, HEIGHT).isnan().all()


def test_every_channel_coordinate_and_place_matters() -> None:
    regressor, prints = small(), grid_footprints((0, 0, WIDTH, HEIGHT), 3, 4, 0)
    (weights,) = attention(1)
    known = regressor.predict([weights], prints, WIDTH, HEIGHT)
    for swapped in (weights.flip(0), weights.flip(1), weights.flip(2), weights.flip(3)):
        assert abs(known - regressor.predict([swapped], prints, WIDTH, HEIGHT)).item() > 1e-6


def test_every_parameter_takes_part() -> None:
    regressor = small()
    random = torch.Generator().manual_seed(8)
    regressor(torch.rand(2, 4, 6, 12, 12, generator=random), torch.rand(2, 4, 6, 2, generator=random)).sum().backward()
    assert [name for name, one in regressor.named_parameters() if one.grad is None or not one.grad.abs().max() > 0] == []


def test_scalars_are_measured_by_the_training_set() -> None:
    regressor = small()
    random = torch.Generator().manual_seed(8)
    maps, scalars = torch.rand(1, 4, 6, 12, 12, generator=random), torch.rand(1, 4, 6, 2, generator=random)
    plain = regressor(maps, (scalars - 0.4) / 0.5)
    regressor.scalar_mean.fill_(0.4)
    regressor.scalar_spread.fill_(0.5)
    assert regressor(maps, scalars).item() == pytest.approx(plain.item(), abs=1e-6)


def test_dropped_channels_are_not_seen() -> None:
    regressor = small()
    random = torch.Generator().manual_seed(8)
    maps, scalars = torch.rand(1, 4, 6, 12, 12, generator=random), torch.rand(1, 4, 6, 2, generator=random)
    kept = torch.tensor([[1.0, 1, 0, 1, 1, 1]])
    known = regressor(maps, scalars, kept)
    maps[:, :, 2], scalars[:, :, 2] = 5.0, 5.0
    assert torch.equal(known, regressor(maps, scalars, kept)) and not torch.equal(known, regressor(maps, scalars))


def test_saved_and_loaded_it_predicts_the_same() -> None:
    regressor, prints = small(), grid_footprints((0, 0, WIDTH, HEIGHT), 3, 4, 0)
    regressor.scalar_mean.fill_(0.3)
    again = AirS.from_bytes(regressor.to_bytes())
    assert (again.layers, again.heads, again.grid, again.tokens, again.training) == ((5, 7), 3, 12, "all", False)
    assert torch.equal(regressor.predict(attention(2), prints, WIDTH, HEIGHT), again.predict(attention(2), prints, WIDTH, HEIGHT))
    assert again.to_bytes() == regressor.to_bytes()


ABOUT = {"layers": [5, 8], "heads": 4, "grid": 12, "tokens": "all"}


def foreign(about: dict[str, object], name: str = "air-s 1") -> bytes:
    return save({"weight": torch.ones(2)}, {name: json.dumps(about)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not a regressor", "not a safetensors file"),
        (save({"weight": torch.ones(2)}), "metadata {}, expected grid, heads, layers and tokens under 'air-s 1'"),
        (foreign(ABOUT, "other"), "metadata {'other':"),
        (foreign({"layers": [0]}), "expected grid, heads, layers and tokens"),
        (foreign(ABOUT | {"more": 1}), "expected grid, heads, layers and tokens"),
        (foreign(ABOUT), r"do not fit {'layers': \[5, 8\], 'heads': 4"),
        (foreign(ABOUT | {"heads": 0}), "of 0 heads on a grid of 12"),
    ],
)
def test_foreign_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AirS.from_bytes(data)


@pytest.mark.parametrize(("layers", "heads", "grid"), [((), 4, 24), ((3, 3), 4, 24), ((3,), 0, 24), ((3,), 4, 7)])
def test_impossible_sizes_are_refused(layers: tuple[int, ...], heads: int, grid: int) -> None:
    with pytest.raises(ValueError, match="expected distinct ones"):
        AirS(layers, heads, grid)


def test_attention_of_another_model_is_refused() -> None:
    prints = grid_footprints((0, 0, WIDTH, HEIGHT), 3, 4, 0)
    with pytest.raises(ValueError, match=r"attention of shape \(4, 2, 4\), expected \(4, 2, 3\)"):
        small().predict([torch.rand(4, 2, 4, 12)], prints, WIDTH, HEIGHT)
