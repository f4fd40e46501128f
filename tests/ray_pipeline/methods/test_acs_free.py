"""ACS-Free: the published selections, aggregates, agreement, and everything that can go wrong with attention."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ray_pipeline.geometry.footprints import grid_footprints, join
from ray_pipeline.methods.acs_free import acs_free, mid_ranks, score, usable_aggregate
from ray_pipeline.methods.candidates import Candidate
from ray_pipeline.methods.entropy import Entropies
from schemas.profile import HeadProfile, JointScore, ProfiledHead
from tests.ray_pipeline.methods.made_pools import (
    FAR,
    FIRST,
    HEIGHT,
    NEAR,
    SHIFTED,
    WIDTH,
    candidate,
    head,
    one_head_each,
    pool,
    profile,
)

S, T, F, O = (0.7, 0.1, 0.1, 0.1), (0.5, 0.5, 0.0, 0.0), (0.25,) * 4, (1.0, 0.0, 0.0, 0.0)  # noqa: E741
FOUR = [[4.10, 4.50, 3.90, 5.00], [4.00, 4.60, 3.70, 4.90], [4.40, 4.30, 4.20, 5.20]]
TWO = [[4.10, 4.50], [4.00, 4.62], [4.40, 4.30]]


def entropies(nats: list[list[float]]) -> Entropies:
    values = torch.tensor(nats, dtype=torch.float64)
    return Entropies(values, values / math.log(391), torch.ones_like(values))


def written(*rows: tuple[float, ...], mass: float = 0.2) -> Tensor:
    """Attention of one head of one layer, a row per coordinate."""
    return mass * torch.tensor(rows)[:, None, None]


def choose_among(candidates: list[Candidate], **more: object) -> object:
    known = dict(method="acs_free", layers=(0,), profile=profile(one_head_each()), aggregate="mean")
    return acs_free(pool(candidates, **(known | more)))


@pytest.mark.parametrize(
    ("nats", "aggregate", "expected"),
    [
        (FOUR, "mean", [4.375, 4.300, 4.525]),
        (FOUR, "rank", [2.0, 1.5, 2.5]),
        (TWO, "mean", [4.30, 4.31, 4.35]),
        (TWO, "rank", [2.0, 2.0, 2.0]),
    ],
)
def test_published_scores(nats: list[list[float]], aggregate: str, expected: list[float]) -> None:
    heads = [head(name) for name in ("x0", "y0", "x1", "y1")[: len(nats[0])]]
    assert score(entropies(nats), heads, aggregate).tolist() == pytest.approx(expected)
    same_coordinate = [head("x0", layer) for layer in range(len(nats[0]))]
    assert score(entropies(nats), same_coordinate, aggregate).tolist() == pytest.approx(expected)


def test_coordinates_weigh_the_same_however_many_heads_they_have() -> None:
    heads = [head("x0", 0), head("y1", 0), head("x0", 1), head("x0", 2)]
    assert score(entropies([[1.0, 4.0, 2.0, 3.0]]), heads, "mean").tolist() == pytest.approx([(2.0 + 4.0) / 2])


def test_zscore_measures_each_head_by_its_own_spread() -> None:
    """A head of wide spread outvotes the others in the mean, not in standard deviations."""
    heads = [head("x0", mu=0.5, sigma=0.1), head("y0", mu=0.8, sigma=0.01)]
    normalised = torch.tensor([[0.45, 0.81], [0.50, 0.78]], dtype=torch.float64)
    read = Entropies(normalised * math.log(391), normalised, torch.ones_like(normalised))
    assert score(read, heads, "zscore").tolist() == pytest.approx([0.25, -1.0])
    assert score(read, heads, "mean").argmin().item() == 0


def test_mid_ranks_share_ties() -> None:
    values = torch.tensor([[3.0], [1.0], [1.0 + 5e-7], [7.0]])
    assert mid_ranks(values)[:, 0].tolist() == [3.0, 1.5, 1.5, 4.0]


def test_published_selection_end_to_end() -> None:
    """A and C have the same R, B more of it; the likelier digits of C decide."""
    rows = [(S, T, F, O), (S, S, S, S), (O, F, T, S)]
    boxes, logprobs = (FIRST, SHIFTED, FAR), (-0.30, -0.10, -0.22)
    members = [
        candidate(box, k, logprob, written(*row)) for k, (box, row, logprob) in enumerate(zip(boxes, rows, logprobs, strict=True))
    ]
    choice = choose_among(members)
    assert choice.entropies_nats == pytest.approx((0.754972, 0.940448, 0.754972), abs=1e-6)
    assert choice.index == 2 and choice.box_px == FAR and not choice.fell_back


def members_of(rows: list[tuple[tuple[float, ...], ...]]) -> list[Candidate]:
    return [
        candidate(box, k, weights=written(*row)) for k, (row, box) in enumerate(zip(rows, (FIRST, SHIFTED, FAR), strict=False))
    ]


def test_where_all_agree_the_first_stands_unscored() -> None:
    wide, focused = written(F, F, F, F), written(O, O, O, O)
    members = [candidate(FIRST, 0, -9, wide), candidate((100.5, 100, 120, 120), 1, -0.1, focused)]
    choice = choose_among(members)
    assert choice.index == 0 and choice.reason == "all candidates agree" and choice.entropies_nats == (None, None)
    assert choose_among([members[1], members[0]]).index == 0
    assert choose_among([candidate(FIRST, 2, multiplicity=5)]).index == 2


def test_an_invalid_head_is_left_out_for_all() -> None:
    """Head 0 of x0 sees nothing of the picture while B is written; alone it would have chosen A."""
    a, b, c = (written(*[F] * 4).repeat(1, 1, 2, 1) for _ in range(3))
    a[0, 0, 0], b[0, 0, 0] = torch.tensor(O), 1e-12 * torch.tensor(S)
    c[0, 0, 1] = torch.tensor(S)
    rows = zip((FIRST, SHIFTED, FAR), (a, b, c), strict=True)
    members = [candidate(box, k, weights=weights) for k, (box, weights) in enumerate(rows)]
    heads = profile([head("x0"), head("x0", 0, 1), head("y0")])
    choice = choose_among(members, profile=heads)
    assert choice.index == 2 and "2 heads" in choice.reason
    b[0, 0, 0] = torch.tensor(F)
    assert choose_among(members, profile=heads).index == 0


def test_a_coordinate_without_heads_falls_back_to_the_medoid() -> None:
    members = [candidate(box, k, weights=written(F, F, O, O)) for k, box in enumerate((FAR, FIRST, NEAR))]
    broken = written(O, O, O, O)
    broken[1] = 0
    members[0] = candidate(FAR, 0, weights=broken)
    choice = choose_among(members)
    assert choice.fell_back and choice.reason.startswith("fallback: no valid head left for y0; medoid")
    assert choice.index == 1


def test_coordinates_the_profile_does_not_know_are_left_out() -> None:
    members = members_of([(F, O, O, O), (S, F, F, F)])
    assert choose_among(members, profile=profile([head("x0")])).index == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_is_never_ranked(value: float) -> None:
    spoiled = written(O, O, O, O)
    spoiled[3, 0, 0, 2] = value
    members = members_of([(O, O, O, O), (S, S, S, S), (F, F, F, F)])
    members[0] = candidate(FIRST, 0, weights=spoiled)
    choice = choose_among(members)
    assert choice.index == 1 and choice.entropies_nats[0] is None and choice.entropies_nats[1] == pytest.approx(0.940448)


def test_one_readable_candidate_is_no_contest() -> None:
    members = [candidate(FIRST, 0), candidate(NEAR, 1), candidate(FAR, 2, weights=written(O, O, O, O))]
    choice = choose_among(members)
    assert choice.reason.startswith("fallback: attention of 1 of 3 candidates is readable") and choice.index == 0


@pytest.mark.parametrize(("agreement", "chosen"), [(0.0, 0), (0.67, 0), (0.70, 1), (2.0, 1)])
def test_agreement_counts_in_standard_deviations_of_the_score(agreement: float, chosen: int) -> None:
    """R = 0, ln 2 / 4, ln 4 has spread 0.6167; the first agrees with none, the others with half of the rest at 0.8223.

    So the first loses from 0.1733 / (0.6167 x 0.4112) = 0.683 on.
    """
    rows = zip((FAR, FIRST, NEAR), ((O, O, O, O), (O, O, O, T), (F, F, F, F)), strict=True)
    members = [candidate(box, k, weights=written(*row)) for k, (box, row) in enumerate(rows)]
    assert choose_among(members, agreement=agreement).index == chosen


@pytest.mark.parametrize(
    ("asked", "candidates", "used"),
    [(None, 10, "zscore"), ("mean", 10, "mean"), ("rank", 4, "rank"), ("rank", 3, "mean"), ("zscore", 2, "zscore")],
)
def test_ranks_need_four(asked: str | None, candidates: int, used: str) -> None:
    assert usable_aggregate(asked, candidates, profile(one_head_each())) == used


def joint(pointing: list[ProfiledHead] | None = None, **weights: float) -> HeadProfile:
    known = JointScore(**({"entropy": 0.0, "surprise": 0.0, "likelihood": 0.0, "agreement": 0.0} | weights))
    found = [head("y0")] if pointing is None else pointing
    return profile([head("x0")]).model_copy(update={"pointing": tuple(found), "joint": known})


@pytest.mark.parametrize(("asked", "used"), [(None, "joint"), ("joint", "joint"), ("mean", "mean"), ("zscore", "zscore")])
def test_a_profile_with_weights_joins_by_them(asked: str | None, used: str) -> None:
    assert usable_aggregate(asked, 2, joint()) == used


@pytest.mark.parametrize("known", [profile(one_head_each()), joint([])], ids=["no weights", "no pointing heads"])
def test_a_joint_score_needs_weights_and_heads(known: HeadProfile) -> None:
    assert usable_aggregate(None, 9, known) == "zscore"
    with pytest.raises(ValueError, match="joint needs a profile with weights and pointing heads"):
        usable_aggregate("joint", 9, known)


LEFT, RIGHT = (0.0, 0.0, 160.0, 480.0), (320.0, 0.0, 480.0, 480.0)  # the first and the third of four tokens


def contest(known: HeadProfile, logprobs: tuple[float, float] = (-1.0, -1.0)) -> object:
    """Two columns: x0's row looks closely while the right one is written; y0's row, the same for both, lies in the left one."""
    pointed = (0.8, 0.1, 0.05, 0.05)
    rows = ((S, pointed, F, F), (O, pointed, F, F))
    members = [candidate(box, k, logprobs[k], written(*rows[k])) for k, box in enumerate((LEFT, RIGHT))]
    return choose_among(members, profile=known, aggregate=None)


@pytest.mark.parametrize(
    ("weights", "chosen"),
    [
        ({"entropy": 1.0}, 1),
        ({"surprise": 1.0}, 0),
        ({"entropy": 1.0, "surprise": 0.1}, 1),
        ({"entropy": 0.1, "surprise": 1.0}, 0),
    ],
)
def test_a_row_that_all_share_tells_them_apart_by_the_box(weights: dict[str, float], chosen: int) -> None:
    """Entropies of 0.6784 and 0, surprises of -ln 0.8 and -ln 0.05: 0.223 and 2.996."""
    choice = contest(joint(**weights))
    assert choice.index == chosen and choice.reason == "lowest score on 1 heads, joined by joint"
    assert choice.entropies_nats == pytest.approx((0.940448, 0.0), abs=1e-6)


def test_the_four_costs_add_up() -> None:
    """Surprise is 2.773 nats in favour of the left one, and 2.7 of likelihood are not enough against it, 2.8 are."""
    assert contest(joint(surprise=1.0, likelihood=1.0), (-3.7, -1.0)).index == 0
    assert contest(joint(surprise=1.0, likelihood=1.0), (-3.8, -1.0)).index == 1


def test_pointing_heads_do_where_no_entropy_tells() -> None:
    alone = joint(surprise=1.0).model_copy(update={"heads": ()})
    choice = contest(alone)
    assert choice.index == 0 and choice.reason == "lowest score on 1 heads, joined by joint"
    with pytest.raises(ValueError, match="acs_free by zscore needs heads whose entropy tells boxes apart"):
        usable_aggregate("zscore", 9, alone)
    with pytest.raises(ValueError, match="acs_free by None needs heads"):
        usable_aggregate(None, 9, alone.model_copy(update={"joint": None}))


def test_a_likelihood_nobody_tells_is_left_out() -> None:
    assert contest(joint(surprise=1.0, likelihood=1.0), (-math.inf, -math.inf)).index == 0
    assert contest(joint(entropy=1.0, likelihood=1.0), (-1.0, -math.inf)).index == 1


@pytest.mark.parametrize(("weight", "chosen"), [(0.0, 0), (0.5, 0), (20.0, 1)])
def test_agreement_is_a_cost_of_its_own(weight: float, chosen: int) -> None:
    """Two of three agree at 0.8223; of the third's surprise 0.7 nats count."""
    rows = zip((LEFT, FIRST, NEAR), ((F, (0.5, 0.25, 0.25, 0.0), F, F),) * 3, strict=True)
    members = [candidate(box, k, weights=written(*row)) for k, (box, row) in enumerate(rows)]
    assert choose_among(members, profile=joint(surprise=1.0, agreement=weight), aggregate=None).index == chosen


def test_pointing_heads_that_see_nothing_fall_back() -> None:
    rows = ((S, F, F, F), (O, F, F, F))
    members = [candidate(box, k, weights=written(*row)) for k, (box, row) in enumerate(zip((LEFT, RIGHT), rows, strict=True))]
    blind = written(*rows[0])
    blind[1] = 0
    members[0] = candidate(LEFT, 0, weights=blind)
    choice = choose_among(members, profile=joint(surprise=1.0), aggregate=None)
    assert choice.reason.startswith("fallback: no valid head left for y0")


def test_only_the_finest_view_counts() -> None:
    """Over the whole picture A looks closer, over the crops B does."""
    prints = join([grid_footprints((0, 0, WIDTH, HEIGHT), 1, 4, 0), grid_footprints((0, 0, 320, 480), 1, 4, 1)])
    a, b = (torch.cat([written(*[one] * 4), written(*[two] * 4)], -1) for one, two in ((O, F), (F, S)))
    members = [candidate(FIRST, 0, weights=a), candidate(FAR, 1, weights=b)]
    assert choose_among(members, footprints=prints).index == 1
    assert choose_among(members, footprints=prints, profile=profile(one_head_each(), "all")).index == 0


def test_heads_are_found_by_their_layer() -> None:
    a, b = written(F, F, F, F).repeat(1, 2, 3, 1), written(F, F, F, F).repeat(1, 2, 3, 1)
    a[1, 0, 2], b[1, 1, 2] = 0.2 * torch.tensor(O), 0.2 * torch.tensor(O)
    members = [candidate(FIRST, 0, weights=a), candidate(FAR, 1, weights=b)]
    assert choose_among(members, layers=(14, 21), profile=profile([head("y0", 14, 2)])).index == 0
    assert choose_among(members, layers=(14, 21), profile=profile([head("y0", 21, 2)])).index == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"profile": None}, "acs_free needs profiled heads, but there is no profile"),
        ({"profile": profile([])}, "acs_free needs profiled heads, but the profile of 0+ names none"),
        ({"profile": profile([head("x0", 3)])}, r"head 0 of layer 3, but layers \(0,\) of 1 heads were read"),
        ({"profile": profile([head("x0", 0, 5)])}, "head 5 of layer 0"),
        ({"layers": (0, 1)}, "attention of shape"),
    ],
)
def test_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_among(members_of([(F, O, O, O), (S, F, F, F)]), **more)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.sampled_from(["mean", "zscore", "rank"]), st.sampled_from([0.0, 0.5]))
def test_order_does_not_matter(seed: int, count: int, aggregate: str, agreement: float) -> None:
    random = torch.Generator().manual_seed(seed)
    weights = torch.rand(count, 4, 1, 1, 4, generator=random)
    weights[0] = weights[-1]  # a tie
    corners = 200 * torch.rand(count, 2, generator=random, dtype=torch.float64)
    members = [candidate((x, y, x + 150, y + 120), k, -1.0, weights[k]) for k, (x, y) in enumerate(corners.tolist())]
    order = torch.randperm(count, generator=random).tolist()
    rule = dict(aggregate=aggregate, agreement=agreement)
    assert choose_among([members[k] for k in order], **rule).index == choose_among(members, **rule).index
