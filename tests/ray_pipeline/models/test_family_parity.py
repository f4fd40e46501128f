"""Every family and method against the slow reference: plain eager passes over whole sequences, nothing shared.

Bars: rows 1e-5, rel-att maps 1e-4 relative, grad-att and pure-grad 1e-4 of their maximum, equal boxes, equal greedy tokens,
candidates' rows 1e-5, all in single precision; in bf16 no worse than the eager route in bf16.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ray_pipeline.geometry.footprints import grid_footprints
from ray_pipeline.methods.crop_box import select_crop
from ray_pipeline.methods.multicrop import crop_grid
from ray_pipeline.models.contract import (
    Encode,
    Generate,
    ReadAttention,
    ReadGradient,
    ReadPixelGradient,
    Sample,
    Sampling,
    VisualTokens,
)
from ray_pipeline.models.decoder_family import DecoderFamily
from ray_pipeline.models.families import load_family
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.status import RowFailure
from tests.reference.model import ReferenceModel
from tests.stand_ins.made_pictures import coloured_blocks, whole
from tests.stand_ins.tiny_models import TINY

QUESTIONS = ("What is the number on the red sign 12?", "How many?", "Where is the small blue plate beside the door of the shop?")
GENERIC = "Write a general description of the image."
SIZES = ((150, 100), (90, 190), (131, 131))
LAYER = 2
FAMILIES = ("llava", "llava_even", "llava_next", "qwen2_5_vl", "qwen3_vl", "internvl", "instructblip", "mc_llava")
BY_TWO = {"mc_llava": 1}  # two decoder layers only


class Pair:
    """One family by the product and by the reference, on three pictures of different sizes."""

    def __init__(self, name: str, folder: Path, dtype: str = "float32") -> None:
        self.name, self.layer = name, BY_TWO.get(name, LAYER)
        views = ViewSettings(zoom_px=0) if "qwen" in name else ViewSettings()  # the reference never enlarges a crop
        family = load_family(ModelSettings(name=str(folder), device="cpu", dtype=dtype), views, PromptSettings())
        assert isinstance(family, DecoderFamily)
        self.family = family
        self.pictures = [coloured_blocks(*size, seed) for seed, size in enumerate(SIZES)]
        self.folder, self.references = folder, [ReferenceModel.load(folder, own.pixels_YX3) for own in self.pictures]

    def shown(self) -> list[VisualTokens]:
        return self.family.encode([Encode(picture, (whole(picture),)) for picture in self.pictures])


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[Pair]:
    yield Pair(request.param, folders[request.param])


def worst(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    return float((got - expected).abs().max())


def test_rows_maps_and_boxes_equal_the_reference(pair: Pair) -> None:
    """All pictures and both prompts in one call: unequal prompts, grids and tile counts."""
    tokens = pair.shown()
    replies = pair.family.read_attention(
        [ReadAttention(own, (question, GENERIC), pair.layer) for own, question in zip(tokens, QUESTIONS, strict=True)]
    )
    peak = 0.0
    for own, reply, reference, question in zip(tokens, replies, pair.references, QUESTIONS, strict=True):
        rows = [reference.rows(text, pair.layer) for text in (question, GENERIC)]
        assert own.count == rows[0].shape[1], "one footprint per visual token"
        for got, expected in zip(reply.weights_QHT, rows, strict=True):
            assert worst(got, expected) <= 1e-5
            peak = max(peak, float(expected.max() / expected.sum(-1).max()) * expected.shape[1])
        got_map, map_T = (pair_.mean(1) for pair_ in (reply.weights_QHT, torch.stack(rows)))
        got_ratio, ratio = got_map[0] / got_map[1], map_T[0] / map_T[1]
        usable = map_T[1] > 1e-3 * map_T[1].max()  # below, the quotient is rounding over rounding
        assert float(((got_ratio - ratio) / ratio)[usable].abs().max()) <= 1e-4
        if own.grid is not None:
            boxes = [select_crop(map_T.view(own.grid), 900, 700, 150).box_px for map_T in (got_ratio, ratio)]
            assert boxes[0] == boxes[1]
    assert peak > 2, "attention near uniform would pass vacuously"


def test_gradient_maps_equal_the_reference(pair: Pair) -> None:
    tokens = pair.shown()
    replies = pair.family.read_gradient(
        [ReadGradient(own, question, pair.layer) for own, question in zip(tokens, QUESTIONS, strict=True)]
    )
    for reply, reference, question in zip(replies, pair.references, QUESTIONS, strict=True):
        expected = reference.grad_att(question, pair.layer)
        assert reply.token == expected.token and reply.margin == pytest.approx(expected.margin, abs=1e-3)
        peak = float(expected.map_T.max())
        assert peak > 0 and worst(reply.weights_HT.mean(0), expected.map_T) <= 1e-4 * peak


def test_pixel_gradients_equal_the_reference(pair: Pair) -> None:
    for own, reference, question in zip(pair.shown(), pair.references, QUESTIONS, strict=True):
        (reply,) = pair.family.read_pixel_gradient([ReadPixelGradient(own, (question, GENERIC))])
        expected = [reference.pixel_gradient(text) for text in (question, GENERIC)]
        assert reply.tokens_Q == tuple(one.token for one in expected)
        for q, one in enumerate(expected):
            got = torch.stack([view.norms_QYX[q] for view in reply.views])
            assert worst(got, one.norms_KYX) <= 1e-4 * float(one.norms_KYX.max())
        for view in reply.views:
            assert float(view.pixels_YX3.min()) >= -1e-3 and float(view.pixels_YX3.max()) <= 1 + 1e-3
            rows, columns = (side // view.block_px for side in view.norms_QYX.shape[1:])
            assert len(grid_footprints(view.box_px, rows, columns, 0)) > 1


@pytest.mark.parametrize("zoomed", [False, True], ids=["one picture", "picture and crop"])
def test_greedy_answers_equal_the_reference(pair: Pair, zoomed: bool) -> None:
    tokens, crops = pair.shown(), []
    for own in tokens:
        w, h = own.picture.width, own.picture.height
        crops.append((w // 4, h // 3, w // 4 + 50, h // 3 + 40))
    if zoomed:
        boxes = [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in crops]
        tokens = pair.family.encode([Encode(own.picture, (box,), own) for own, box in zip(tokens, boxes, strict=True)])
    requests = [Generate(own, question, 6) for own, question in zip(tokens, QUESTIONS, strict=True)]
    for answer, reference, question, crop in zip(pair.family.generate(requests), pair.references, QUESTIONS, crops, strict=True):
        x0, y0, x1, y1 = crop
        shown = reference.picture[y0:y1, x0:x1] if zoomed else None
        if zoomed and pair.name == "mc_llava":  # it is told where the crop lies
            reference, shown = ReferenceModel.load(pair.folder, reference.picture, zoom_px=crop), None
        expected = reference.greedy(question, 6, shown)
        assert answer.ids == expected.ids and answer.finished == expected.finished


def test_rows_behind_sampled_tokens_equal_teacher_forcing(pair: Pair) -> None:
    if pair.name == "instructblip":
        pytest.skip("writes no boxes and is refused candidates by attention")
    tokens, config = pair.shown()[0], json.loads((pair.folder / "config.json").read_text())
    image = config.get("image_token_id", config.get("image_token_index"))
    layers = (0, pair.layer)
    sampling = Sampling(4, 1.0, 0.95, seed=5)
    asked = Sample(tokens, QUESTIONS[0], 6, sampling, layers)
    family = pair.family
    written = family._candidates([asked], [family.suffix(tokens, QUESTIONS[0])], sampling, layers)[0]
    written = [one for one in written if image not in one.ids]  # the reference would take it for one more picture
    assert len({tuple(one.ids) for one in written}) > 1
    for one in written:
        rows = pair.references[0].taught_rows(QUESTIONS[0], one.ids, layers)
        assert worst(torch.stack(one.rows_LHT), rows) <= 1e-5


def test_a_batch_answers_as_each_row_alone(pair: Pair) -> None:
    together = pair.shown()
    alone = [pair.family.encode([Encode(picture, (whole(picture),))])[0] for picture in pair.pictures]
    requests = [Generate(own, question, 5, pair.layer) for own, question in zip(together, QUESTIONS, strict=True)]
    answers = pair.family.generate(requests)
    for k, answer in enumerate(answers):
        (single,) = pair.family.generate([Generate(alone[k], QUESTIONS[k], 5, pair.layer)])
        assert single.raw == answer.raw and single.attention_HT is not None and answer.attention_HT is not None
        assert worst(answer.attention_HT, single.attention_HT) <= 1e-5


def test_a_prefix_cut_off_behind_the_layer_gives_the_same_rows(pair: Pair) -> None:
    if pair.name == "instructblip":
        pytest.skip("has no decoder prefix: its visual tokens depend on the question")
    picture = pair.pictures[0]
    (full,), (short,) = (
        pair.family.encode([Encode(picture, (whole(picture),), until_layer=stop)]) for stop in (None, pair.layer)
    )
    assert short.state.prefix.depth == pair.layer + 1
    rows = [pair.family.read_attention([ReadAttention(own, QUESTIONS[:2], pair.layer)])[0].weights_QHT for own in (full, short)]
    assert worst(rows[0], rows[1]) <= 1e-6


@pytest.mark.parametrize("most", [2, 6])
def test_a_grid_of_crops_equals_the_reference(most: int, tmp_path: Path) -> None:
    """MC-LLaVA's own way: overlapping crops with coordinates; unequal numbers of views in one call."""
    pair = Pair("mc_llava", TINY["mc_llava"](tmp_path / "model", 0))
    side = pair.family.defaults.input_px
    grids = [crop_grid(own.width, own.height, most, "strict", side, 10) for own in pair.pictures]
    assert len({len(grid) for grid in grids}) > 1
    tokens = pair.family.encode([Encode(own, grid) for own, grid in zip(pair.pictures, grids, strict=True)])
    layer = pair.layer
    replies = pair.family.read_attention([ReadAttention(own, (QUESTIONS[0],), layer) for own in tokens])
    answers = pair.family.generate([Generate(own, QUESTIONS[0], 5) for own in tokens])
    for picture, reply, answer in zip(pair.pictures, replies, answers, strict=True):
        knobs = dict(max_crops=most, base_px=side, step_px=max(1, round(10 * side / 384)))
        reference = ReferenceModel.load(pair.folder, picture.pixels_YX3, **knobs)
        assert worst(reply.weights_QHT[0], reference.rows(QUESTIONS[0], layer)) <= 1e-5
        assert answer.ids == reference.greedy(QUESTIONS[0], 5).ids


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "internvl"])
def test_half_precision_is_no_worse_than_the_eager_route(name: str, tmp_path: Path) -> None:
    """Median error of rel-att maps to single precision, over pictures and questions, against the eager route's in bf16."""
    folder = TINY[name](tmp_path / name, 0)
    exact, half = Pair(name, folder), Pair(name, folder, "bfloat16")
    eager = [ReferenceModel.load(folder, picture.pixels_YX3, dtype=torch.bfloat16) for picture in exact.pictures]
    errors: dict[str, list[Tensor]] = {"ours": [], "eager": []}
    for k, own in enumerate(half.shown()):
        for question in QUESTIONS:
            expected = exact.references[k].rel_att(question, LAYER)
            rows = half.family.read_attention([ReadAttention(own, (question, GENERIC), LAYER)])[0].weights_QHT.mean(1)
            errors["ours"].append((rows[0] / rows[1] / expected - 1).abs())
            errors["eager"].append((eager[k].rel_att(question, LAYER).float() / expected - 1).abs())
    ours, theirs = (float(torch.cat(found).median()) for found in errors.values())
    assert 0 < ours <= 1.1 * theirs, f"median error {ours:.4f} against {theirs:.4f}"


def test_a_prompt_beyond_the_positions_is_the_rows_own_failure(pair: Pair) -> None:
    (tokens, *_) = pair.shown()
    with pytest.raises(RowFailure, match="positions of the model's"):
        pair.family.generate([Generate(tokens, "long " * 4000, 5)])
