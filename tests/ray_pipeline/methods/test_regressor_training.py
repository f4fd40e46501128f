"""A planted relation between attention and IoU is learned, the same way each time; its measures by hand."""

import math
from dataclasses import replace

import pytest
import torch

from ray_pipeline.methods.head_discovery import layer_attribution
from ray_pipeline.methods.regressor_training import (
    FeatureQuery,
    Quality,
    TrainingSettings,
    bin_weights,
    feature_query,
    pearson,
    quality,
    rate_share,
    spearman,
    train_regressor,
)
from tests.ray_pipeline.methods.made_pools import HEADS, LAYERS, planted_queries

GRID = 8
SETTINGS = TrainingSettings(epochs=8, batch=64, rate=3e-3)


@pytest.fixture(scope="module")
def queries() -> list[FeatureQuery]:
    return [feature_query(query, GRID, "finest_view") for query in planted_queries(120)]


def test_the_planted_relation_is_learned(queries: list[FeatureQuery]) -> None:
    trained = train_regressor(queries, LAYERS, HEADS, seed=1, settings=SETTINGS)
    assert trained.validation.within_query > 0.65 and 1 <= trained.epoch <= 8
    unseen = planted_queries(20, seed=9)
    predicted = [trained.regressor.predict(list(q.weights_KCLHT), q.footprints, q.width, q.height) for q in unseen]
    reached = quality(predicted, [query.iou_K for query in unseen])
    by_chance = sum(float((query.iou_K >= 0.5).double().mean()) for query in unseen) / len(unseen)
    assert reached.within_query > 0.65 and reached.pearson > 0.67 and reached.correct > 0.7 > by_chance + 0.4
    attribution = layer_attribution(trained.regressor, unseen)
    assert attribution.argmin().item() == 0  # the one layer without planted heads


def test_the_same_seed_gives_the_same_weights(queries: list[FeatureQuery]) -> None:
    short = replace(SETTINGS, epochs=2)
    before = torch.random.get_rng_state()
    first, again, other = (train_regressor(queries[:30], LAYERS, HEADS, seed, settings=short) for seed in (1, 1, 2))
    assert first.regressor.to_bytes() == again.regressor.to_bytes() and first.validation == again.validation
    assert first.regressor.to_bytes() != other.regressor.to_bytes()
    assert torch.equal(before, torch.random.get_rng_state())  # nobody else's randomness is touched


def test_training_stops_when_selection_no_longer_improves(queries: list[FeatureQuery], monkeypatch: pytest.MonkeyPatch) -> None:
    """The second epoch is best; after two worse ones nothing more is computed, and its weights are the ones kept."""
    said: list[list[list[float]]] = []
    reached, nothing = iter([0.1, 0.6, 0.3, 0.2, 0.9]), quality([], [])

    def told(predicted: list[torch.Tensor], iou: list[torch.Tensor]) -> Quality:
        if not predicted:
            return nothing
        said.append([one.tolist() for one in predicted])
        return replace(nothing, within_query=next(reached))

    monkeypatch.setattr("ray_pipeline.methods.regressor_training.quality", told)
    trained = train_regressor(queries[:20], LAYERS, HEADS, 1, settings=replace(SETTINGS, patience=2))
    assert (len(said), trained.epoch, trained.validation.within_query) == (4, 2, 0.6)
    kept = [trained.regressor(query.maps_KCNYX.float(), query.scalars_KCN2).tolist() for query in queries[:20]]
    assert all(one in kept for one in said[1]) and not any(one in kept for one in said[3])


@pytest.mark.parametrize(
    ("images", "message"),
    [(["a", "a", "a"], "1 images of which 1 are held out"), (["a", "b", "c"], "in none of 1 held-out queries")],
)
def test_sets_that_cannot_be_split_are_refused(queries: list[FeatureQuery], images: list[str], message: str) -> None:
    alike = [replace(query, image=image, iou_K=torch.full((8,), 0.5)) for query, image in zip(queries, images, strict=False)]
    with pytest.raises(ValueError, match=message):
        train_regressor(alike, LAYERS, HEADS, 1)


def test_an_image_is_on_one_side_only(queries: list[FeatureQuery], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    monkeypatch.setattr(
        "ray_pipeline.methods.regressor_training._standardise",
        lambda regressor, training: seen.append({query.image for query in training}),
    )
    train_regressor(queries[:40], LAYERS, HEADS, 1, settings=replace(SETTINGS, epochs=1))
    assert len(seen[0]) == 16  # of 20 images with two queries each


def test_bins_weigh_by_the_root_of_their_size() -> None:
    iou = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.3, 0.6, 0.9])
    weights = bin_weights(iou)
    assert weights.mean().item() == pytest.approx(1.0)
    assert (weights / weights[-1]).tolist() == pytest.approx([0.5] * 4 + [1.0] * 3)


def test_candidates_count_by_their_weight(queries: list[FeatureQuery], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of no weight they teach nothing, however long they are looked at."""
    monkeypatch.setattr("ray_pipeline.methods.regressor_training.bin_weights", torch.zeros_like)
    short, long = (replace(SETTINGS, epochs=epochs, decay=0.0) for epochs in (1, 3))
    first, second = (train_regressor(queries[:20], LAYERS, HEADS, 1, settings=one).regressor for one in (short, long))
    assert first.to_bytes() == second.to_bytes()


@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.25), (2, 0.75), (3, 1.0), (4, 1.0), (8, 0.75), (10, 0.5), (12, 0.25), (16, 0.0)]
)
def test_the_rate_warms_up_and_ends_at_nothing(step: int, share: float) -> None:
    """Four steps up, twelve down along a cosine: a third of the way it has lost a quarter."""
    assert rate_share(step, 4, 16) == pytest.approx(share)


@pytest.mark.parametrize(
    ("first", "second", "linear", "ranked"),
    [
        ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 1.0, 1.0),
        ([1.0, 2.0, 3.0], [1.0, 8.0, 27.0], 0.966282, 1.0),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -1.0, -1.0),
        ([1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], 0.943880, 0.948683),  # mid-ranks 1.5, 1.5, 3, 4
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], 0.0, 0.0),
    ],
)
def test_correlations(first: list[float], second: list[float], linear: float, ranked: float) -> None:
    assert pearson(torch.tensor(first), torch.tensor(second)) == pytest.approx(linear, abs=1e-5)
    assert spearman(torch.tensor(first), torch.tensor(second)) == pytest.approx(ranked, abs=1e-5)


def test_quality_is_that_of_selection() -> None:
    """Easy pictures correlate everywhere and help nobody choose: within queries the order is wrong."""
    iou = [torch.tensor([0.9, 0.7]), torch.tensor([0.2, 0.0]), torch.tensor([0.4, 0.4])]
    predicted = [torch.tensor([0.8, 0.85]), torch.tensor([0.05, 0.1]), torch.tensor([0.4, 0.3])]
    reached = quality(predicted, iou)
    assert reached.pearson > 0.9 and reached.within_query == pytest.approx(-1.0)
    assert reached.correct == pytest.approx(1 / 3) and reached.mean_iou == pytest.approx((0.7 + 0.0 + 0.4) / 3)
    assert math.isnan(quality([], []).within_query)
