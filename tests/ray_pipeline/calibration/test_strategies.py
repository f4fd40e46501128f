"""The grid keeps to what a model can do and to what was given; the best within its cost is chosen."""

from dataclasses import replace

import pytest

from ray_pipeline.calibration.strategies import CROPS, Knowledge, Measured, best, grid, pareto
from ray_pipeline.models.contract import Abilities
from ray_pipeline.models.profiles import given_keys
from schemas.job import JobSettings
from schemas.profile import HeadProfile, ProfiledHead

ABLE = Abilities(
    layers=4, focus=frozenset({"rel_att", "auto"}), boxes=True, crops=True, budget=False, fits=frozenset(), resolution=False,
    official=False, boost=False, profiled_layer=2,
)  # fmt: skip
HEADS = HeadProfile(
    model="1" * 64, transformers="5", dtype="float32", prompt_sha256="2" * 64, calibrated_on="", date="",
    heads=(ProfiledHead(coordinate="x1", layer=1, head=0, mu=0.5, sigma=0.1, auroc=0.7),),
)  # fmt: skip


def tried(
    able: Abilities = ABLE, layer_known: bool = True, boxes: bool = True, heads: HeadProfile | None = None, **given: object
) -> list[dict[str, object]]:
    settings = JobSettings.model_validate({"manifest": "", "output": "", **given})
    return grid(settings, given_keys(settings), able, layer_known, boxes, Knowledge(heads))


def values(found: list[dict[str, object]], key: str) -> set[object]:
    return {keys[key] for keys in found if key in keys}


def test_the_grid_asks_for_what_the_model_can_do() -> None:
    found = tried(heads=HEADS)
    assert found[0] == {}
    assert values(found, "refine.method") == {"none", "rel_att", "auto"}
    assert values(found, "views.max_crops") == {CROPS}
    assert values(found, "select.method") == {"medoid", "acs_free"}
    assert {"refine.method": "rel_att"} not in found, "the default, tried already"
    assert values(tried(heads=HEADS.model_copy(update={"heads": ()})), "select.method") == {"medoid"}
    assert values(tried(boxes=False), "select.method") == set()
    assert values(tried(replace(ABLE, boxes=False)), "select.method") == set()
    assert values(tried(replace(ABLE, crops=False)), "views.max_crops") == set()
    assert values(tried(layer_known=False), "refine.method") == {"none"}


def test_what_is_given_stays() -> None:
    found = tried(refine={"method": "none"}, views={"max_crops": 0})
    assert values(found, "refine.method") | values(found, "views.max_crops") == set()
    assert len(found) == len({str(sorted(keys.items())) for keys in found})
    official = tried(refine={"mode": "official"})
    assert "auto" not in values(official, "refine.method"), "contradicts the mode given"


def measured(right: int, of: int, seconds: float, **keys: object) -> Measured:
    return Measured(keys, [1.0] * right + [0.0] * (of - right), [str(k) for k in range(of)], seconds * of)


FOUND = [
    measured(5, 10, 0.1, name="cheap"),
    measured(9, 10, 1.0, name="best"),
    measured(7, 10, 0.3, name="middle"),
    measured(7, 10, 0.4, name="slower"),
    measured(4, 10, 2.0, name="worst"),
    measured(8, 10, 0.9, name="near"),  # one row behind the best: 0.1 on average, standard error 0.1
]


def test_who_is_beaten_by_nobody() -> None:
    assert pareto(FOUND) == [True, True, True, False, False, True]


@pytest.mark.parametrize(("cost", "name"), [(None, "near"), (1.5, "near"), (0.5, "middle"), (0.35, "middle"), (0.2, "cheap")])
def test_the_fastest_that_is_as_good_as_the_best_within_its_cost(cost: float | None, name: str) -> None:
    found = best(FOUND, cost, 0)
    assert found.settings == {"name": name}
    assert found.low <= found.accuracy <= found.high
    assert found.cost_per_row_s == cost


def test_nothing_is_cheap_enough() -> None:
    with pytest.raises(ValueError, match=r"the fastest of 6 takes 0.1 s a row, expected at most 0.05 s"):
        best(FOUND, 0.05, 0)
    with pytest.raises(ValueError, match="no row could be judged"):
        best([Measured({})], None, 0)
