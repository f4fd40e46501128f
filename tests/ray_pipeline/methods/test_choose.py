"""The whole of CHOOSE as a conversation with a scripted model."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ray_pipeline.methods.acs_learned import AirS
from ray_pipeline.methods.choose import Chosen, choose, layers_read
from ray_pipeline.methods.slots import CHOOSE
from ray_pipeline.models.contract import Generation, Sample, Samples, Sampling, VisualTokens
from schemas.methods import SelectSettings
from schemas.picture import Box, Picture
from schemas.profile import COORDINATES
from tests.ray_pipeline.methods.made_pools import FAR, FIRST, HEIGHT, NEAR, SHIFTED, WIDTH, head, line, one_head_each, profile

TOKENS = VisualTokens(
    Picture(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "2" * 64), ((0.0, 0.0, float(WIDTH), float(HEIGHT)),), line(4), None
)
FLAT, SHARP = (0.25, 0.25, 0.25, 0.25), (0.97, 0.01, 0.01, 0.01)
PROFILE = profile(tuple(head(name, 3) for name in COORDINATES))


def answer(raw: str, box: Box | None, row: tuple[float, ...] | None = None, **more: Any) -> Generation:
    weights: Tensor | None = None if row is None else 0.2 * torch.tensor(row).expand(4, 1, 1, 4)
    known = dict(box_logprob=None if box is None else -0.5, box_entropy=None if box is None else 0.3) | more
    return Generation(f"text of {raw}", raw, -0.9, box, tokens=9, finished=True, weights_CLHT=weights, **known)


def settings(method: str, samples: int, **more: Any) -> SelectSettings:
    return SelectSettings(method=method, samples=samples, **more)


def talk(asked: SelectSettings, *generations: Generation, seed: int = 11, **more: Any) -> tuple[Sample, Chosen]:
    """What was asked of the model, and what came of its answers; attention is given where it was asked for."""
    flow = choose(
        TOKENS, "Where is the spoon?", asked, CHOOSE[asked.method], more.get("profile"), more.get("regressor"), 64, seed
    )
    request = next(flow)
    with pytest.raises(StopIteration) as ended:
        flow.send(Samples(tuple(one if request.layers else replace(one, weights_CLHT=None) for one in generations)))
    assert isinstance(request, Sample)
    return request, ended.value.value


FOUR = (
    answer("a", FIRST, FLAT, box_logprob=-0.4),
    answer("b", None, box_logprob=None),
    answer("c", FAR, SHARP, box_entropy=0.1),
    answer("a", FIRST, FLAT, box_logprob=-0.41),
)


def test_one_request_with_the_settings_and_the_layers_needed() -> None:
    asked = settings("acs_free", 4, temperature=0.7, top_p=0.9, greedy_first=False)
    request, _ = talk(asked, *FOUR, profile=PROFILE.model_copy(update={"regressor_layers": (8, 9)}))
    assert request == Sample(TOKENS, "Where is the spoon?", 64, Sampling(4, 0.7, 0.9, 11, False), (3,))


@pytest.mark.parametrize(
    ("method", "layers"),
    [("acs_free", (3, 6)), ("inside_mass", (3, 6)), ("acs_learned", (2, 9)), ("medoid", ()), ("mean", ()), ("random", ())],
)
def test_no_more_layers_are_read_than_needed(method: str, layers: tuple[int, ...]) -> None:
    known = profile((head("x0", 6), head("y0", 3), head("y1", 3, 1)))
    assert layers_read(settings(method, 4), known, AirS((9, 2), 1, 8)) == layers


def test_the_closer_look_wins() -> None:
    _, chosen = talk(settings("acs_free", 4), *FOUR, profile=PROFILE)
    assert chosen.choice.index == 2 and chosen.generation == FOUR[2] and not chosen.choice.fell_back
    sharp = -(0.97 * math.log(0.97) + 0.03 * math.log(0.01))
    assert chosen.choice.entropies_nats == pytest.approx((math.log(4), sharp))
    records = chosen.records
    assert [record.box_px for record in records] == [FIRST, None, FAR, FIRST]
    assert [record.chosen for record in records] == [False, False, True, False]
    assert [record.text for record in records] == ["text of a", "text of b", "text of c", "text of a"]
    assert [record.logprob for record in records] == [-0.4, -0.9, -0.5, -0.41]
    assert [record.entropy and round(record.entropy, 6) for record in records] == [1.386294, None, round(sharp, 6), 1.386294]
    assert {record.predicted_iou for record in records} == {None}


def test_predictions_are_told() -> None:
    torch.manual_seed(0)
    _, chosen = talk(settings("acs_learned", 4), *FOUR, regressor=AirS((3,), 1, 8))
    first, _, third, fourth = (record.predicted_iou for record in chosen.records)
    assert first == fourth and first != third and chosen.choice.index == (0 if first > third else 2)
    assert chosen.choice.predicted_ious == (first, third)


@pytest.mark.parametrize(
    ("method", "index"),
    [("medoid", 0), ("cluster", 0), ("likeliest", 0), ("least_entropy", 2), ("inside_mass", 0), ("acs_free", 2)],
)
def test_every_selector_by_name(method: str, index: int) -> None:
    """FIRST lies on token 0, which attention in `c` does as well; it counts twice."""
    _, chosen = talk(settings(method, 4), *FOUR, profile=PROFILE)
    assert chosen.choice.index == index and chosen.generation.raw == FOUR[index].raw


@pytest.mark.parametrize(("method", "box"), [("mean", (200, 500 / 3, 700 / 3, 220)), ("median", FIRST)])
def test_a_mean_box_has_the_first_answers_text_and_nothing_else(method: str, box: Box) -> None:
    _, chosen = talk(settings(method, 4), *FOUR)
    assert chosen.generation.box_px == pytest.approx(box) and chosen.generation.text == "text of a"
    known = chosen.generation
    assert (chosen.choice.index, known.box_logprob, known.box_entropy, known.weights_CLHT) == (None, None, None, None)
    assert not any(record.chosen for record in chosen.records)


def test_random_repeats_with_its_seed() -> None:
    drawn = [talk(settings("random", 4), *FOUR, seed=seed)[1].choice.index for seed in range(40)]
    assert drawn == [talk(settings("random", 4), *FOUR, seed=seed)[1].choice.index for seed in range(40)]
    assert set(drawn) == {0, 2}


@pytest.mark.parametrize("method", CHOOSE)
@pytest.mark.parametrize(
    ("generations", "box", "found"),
    [
        ((answer("a", None), answer("b", FIRST)), None, 1),
        ((answer("a", FIRST), answer("b", None)), FIRST, 1),
        ((answer("a", (120.0, 100, 100, 120)), answer("b", None)), None, 0),
        ((answer("a", (-20.0, 100, 100, 120)), answer("b", None)), (0, 100, 100, 120), 1),
    ],
)
def test_with_fewer_than_two_boxes_the_first_answer_stands(
    method: str, generations: tuple[Generation, ...], box: Box | None, found: int
) -> None:
    known = profile(tuple(head(name, 3) for name in COORDINATES))
    _, chosen = talk(settings(method, 2), *generations, profile=known, regressor=AirS((3,), 1, 8))
    assert chosen.choice.reason == f"fallback: {found} of 2 answers with a readable box; the first answer stands"
    assert chosen.choice.fell_back and chosen.choice.index == 0 and chosen.choice.box_px == box
    assert chosen.generation.raw == "a" and chosen.generation.box_px == box
    assert (chosen.generation.box_logprob is None) == (box is None)
    assert [record.chosen for record in chosen.records] == [True, False]


@pytest.mark.parametrize("method", CHOOSE)
def test_ten_answers_alike_are_no_fallback(method: str) -> None:
    known = profile(tuple(head(name, 3) for name in COORDINATES))
    _, chosen = talk(settings(method, 10), *[answer("a", NEAR, SHARP)] * 10, profile=known, regressor=AirS((3,), 1, 8))
    assert chosen.choice.box_px == pytest.approx(NEAR) and not chosen.choice.fell_back


def test_boxes_are_cut_to_the_picture() -> None:
    _, chosen = talk(settings("likeliest", 2), answer("a", (600.0, 400, 700, 500), box_logprob=-0.1), answer("b", FAR))
    assert chosen.generation.box_px == chosen.choice.box_px == (600, 400, 640, 480) == chosen.records[0].box_px
    assert not chosen.choice.fell_back  # two boxes are enough


def test_answers_of_no_probability_are_no_record() -> None:
    silent = Generation("", "", -math.inf, None, None, 0, True)
    _, chosen = talk(settings("medoid", 3), answer("a", FIRST), silent, answer("b", SHIFTED))
    assert len(chosen.records) == 2


@pytest.mark.parametrize(
    ("method", "more", "message"),
    [
        ("acs_free", {}, "acs_free needs a profile with heads"),
        ("inside_mass", {"profile": profile(())}, "inside_mass needs a profile with heads"),
        ("acs_learned", {"profile": PROFILE}, "acs_learned needs a regressor"),
        ("medoid", {}, "3 answers, expected 4"),
        ("acs_free", {"profile": profile((*one_head_each(), head("x0", 4)))}, "attention of shape"),
    ],
)
def test_refused(method: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flow = choose(TOKENS, "?", settings(method, 4), CHOOSE[method], more.get("profile"), more.get("regressor"), 64, 0)
        next(flow)
        flow.send(Samples(FOUR if method != "medoid" else FOUR[:3]))


def test_another_reply_is_refused() -> None:
    flow = choose(TOKENS, "?", settings("medoid", 4), CHOOSE["medoid"], None, None, 64, 0)
    next(flow)
    with pytest.raises(TypeError, match="asked for samples, got Generation"):
        flow.send(FOUR[0])


def test_every_setting_has_a_selector() -> None:
    (methods,) = (field.annotation.__args__ for name, field in SelectSettings.model_fields.items() if name == "method")
    assert {*CHOOSE, "greedy"} == set(methods)
