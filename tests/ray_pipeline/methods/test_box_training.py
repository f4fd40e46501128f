"""Training AIR-B: a planted place is learned, the same way each time; the loss on the choice by hand."""

import math

import pytest
import torch

from ray_pipeline.methods.acs_learned import acs_learned
from ray_pipeline.methods.box_training import BoxQuery, BoxTraining, choice_loss, train_box_regressor
from tests.ray_pipeline.methods.made_boxes import HEADS, LAYERS, PRINTS, box_queries, planted, trained_on_boxes
from tests.ray_pipeline.methods.made_pools import pool


def test_the_planted_place_is_learned() -> None:
    chosen, first, best = [], [], []
    for seed in range(1000, 1060):
        members, ious = planted(seed)
        choice = acs_learned(pool(members, PRINTS, "acs_learned", layers=LAYERS, regressor=trained_on_boxes()))
        assert choice.index is not None and all(value is not None for value in choice.predicted_ious)
        chosen.append(float(ious[choice.index]))
        first.append(float(ious[0]))
        best.append(float(ious.max()))
    gain, room = sum(chosen) - sum(first), sum(best) - sum(first)
    assert gain > 0.6 * room


def test_the_same_seed_gives_the_same_weights() -> None:
    before, short = torch.random.get_rng_state(), BoxTraining(epochs=1)
    first, again, other = (train_box_regressor(box_queries()[:40], LAYERS, HEADS, seed, settings=short) for seed in (1, 1, 2))
    assert first.to_bytes() == again.to_bytes() != other.to_bytes()
    assert torch.equal(before, torch.random.get_rng_state()) and not first.training


def test_inputs_are_measured_by_the_training_set() -> None:
    seen = trained_on_boxes().standardised(torch.cat([query.features_KF for query in box_queries()]).float())
    varied = trained_on_boxes().spread_F > 0.01
    assert seen[:, varied].mean(0).abs().max() < 0.05
    assert (seen[:, varied].std(0) - 1).abs().median() < 0.05 and seen.abs().max() <= 5


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="0 queries with candidates"):
        train_box_regressor([BoxQuery("a", torch.zeros(0, 5), torch.zeros(0))], LAYERS, HEADS, 1)


def test_the_lottery_counts_question_by_question() -> None:
    """Even odds between 0.8 and 0.2, of which one is right; then a sure 0.4, which is not."""
    logits, ious, questions = torch.tensor([0.0, 0.0, 9.0]), torch.tensor([0.8, 0.2, 0.4]), torch.tensor([0, 0, 1])
    assert choice_loss(logits, ious, questions, 3.0).item() == pytest.approx(-((0.9 + 0.1) / 2 + 0.2) / 2)
    sharper = choice_loss(torch.tensor([1.0, 0.0, 9.0]), ious, questions, 3.0).item()
    chance = 1 / (1 + math.exp(-3))
    assert sharper == pytest.approx(-(0.9 * chance + 0.1 * (1 - chance) + 0.2) / 2)
