"""What every family must keep, whatever it loads: counts, coverage, places, orientation, boxes, prompts, prefixes.

Places are tested from outside: with attention between patches switched off in the tower, a changed part of a picture may
change only those visual tokens whose footprint it meets (mc_llava 9.8).
"""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ray_pipeline.batching import RowLimit, _call
from ray_pipeline.geometry.boxes import area, clip
from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.geometry.raster import rasterise
from ray_pipeline.intake.decode import Decoder
from ray_pipeline.methods.multicrop import crop_grid
from ray_pipeline.models.contract import (
    Encode,
    Generate,
    Generation,
    ReadAttention,
    ReadGradient,
    ReadPixelGradient,
    Sample,
    Sampling,
    VisualTokens,
)
from ray_pipeline.models.instructblip import InstructBlip
from schemas.job import FetchSettings
from schemas.picture import Box, Picture
from schemas.status import RowFailure, Status
from tests.reference.networks import PlainNetwork
from tests.reference.pictures import PICTURES
from tests.stand_ins.family_facts import FACTS, LoadedFamily, patches_alone, seen
from tests.stand_ins.made_pictures import coloured_blocks, whole

SIZES = ((200, 150), (97, 240), (640, 24), (12, 9))
QUESTION = "What is the number on the red sign 12?"
GENERIC = "Write a general description of the image."


@pytest.fixture(scope="module", params=list(FACTS))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedFamily]:
    yield LoadedFamily(request.param, tmp_path_factory.mktemp(request.param) / "model")


def changed(picture: Picture, box: Box) -> Picture:
    """Every pixel of the box another one, by half of its range."""
    x0, y0, x1, y1 = (int(edge) for edge in box)
    pixels = picture.pixels_YX3.copy()
    pixels[y0:y1, x0:x1] ^= 128
    return Picture(pixels, picture.sha256)


def fractions(picture: Picture, box: Box) -> Box:
    """Whole pixels of a box given in shares of the sides."""
    x0, y0, x1, y1 = box
    width, height = picture.width, picture.height
    return float(int(x0 * width)), float(int(y0 * height)), float(math.ceil(x1 * width)), float(math.ceil(y1 * height))


# --- count and coverage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_as_many_tokens_as_the_library_has_placeholders(loaded: LoadedFamily, size: tuple[int, int]) -> None:
    picture = coloured_blocks(*size)
    views, features = seen(loaded.family, Encode(picture, (whole(picture),)))
    tokens = loaded.shown(picture)
    assert tokens.count == len(tokens.footprints) == len(features) == sum(len(view.footprints) for view in views)
    if loaded.name == "instructblip":  # queries in the prompt, patches in the map
        asked = loaded.family.suffix(tokens, QUESTION)
        assert asked.columns_U is not None and asked.chain_UT is not None
        assert asked.chain_UT.shape == (8, 16) and tokens.count == 16 and len(asked.columns_U) == 8
        return
    slots = tokens.state.slots_T.tolist()
    assert len(slots) == tokens.count == placeholders(loaded, picture)
    assert slots == sorted(set(slots)) and slots[-1] < tokens.state.prefix.length
    before, after = loaded.family.around(False)
    assert tokens.state.prefix.length == len(before) + tokens.count + len(after) and slots[0] == len(before)


def placeholders(loaded: LoadedFamily, picture: Picture) -> int:
    if loaded.facts.unseen:
        return 35  # of 36 patches, as published
    if loaded.name == "embedded":
        return 12 * 12
    network = PlainNetwork(loaded.folder)
    return network.counts(PICTURES[network.kind](loaded.folder, [picture.pixels_YX3], "pad"))[0]


@pytest.mark.parametrize("size", SIZES)
def test_footprints_cover_the_picture(loaded: LoadedFamily, size: tuple[int, int]) -> None:
    picture = coloured_blocks(*size)
    prints = loaded.shown(picture).footprints
    assert prints.valid_T.any() and int(prints.view_T[prints.valid_T].min()) == 0
    if loaded.facts.unseen:
        assert uncovered(prints, picture) == pytest.approx(loaded.facts.unseen * picture.width * picture.height)
    else:
        assert covered(prints, picture).all()
    if not loaded.facts.tiled:
        assert_tiles(prints.boxes_T4_px, dropped=int(loaded.facts.unseen > 0))


def test_a_strip_is_shown_or_skipped_with_a_reason(loaded: LoadedFamily) -> None:
    """Only Qwen's own preprocessing refuses shapes."""
    strip = coloured_blocks(1005, 5)
    if "qwen" not in loaded.name:
        assert loaded.shown(strip).footprints.valid_T.any()
        return
    with pytest.raises(RowFailure, match="1005 x 5 px.*at most 200") as skipped:
        loaded.shown(strip)
    assert skipped.value.status == Status.SKIPPED


def covered(prints: Footprints, picture: Picture) -> Tensor:
    return rasterise(torch.ones(len(prints)), prints, picture.width, picture.height, picture.height, picture.width).covered_YX


def uncovered(prints: Footprints, picture: Picture) -> float:
    """Pixels of the picture outside footprints that do not overlap."""
    return picture.width * picture.height - float(area(clip(prints.boxes_T4_px, picture.width, picture.height)).sum())


def assert_tiles(boxes_T4: Tensor, dropped: int = 0) -> None:
    """No two overlap, and together they fill their bounding box, but for so many that were dropped."""
    low, high = torch.maximum(boxes_T4[:, None, :2], boxes_T4[:, :2]), torch.minimum(boxes_T4[:, None, 2:], boxes_T4[:, 2:])
    common = (high - low).clamp(min=0).prod(-1).fill_diagonal_(0)
    areas = area(boxes_T4)
    assert float(common.max()) < 1e-6 * float(areas.max())
    extent = float((boxes_T4[:, 2:].amax(0) - boxes_T4[:, :2].amin(0)).prod())
    assert float(areas.sum()) + dropped * float(areas[0]) == pytest.approx(extent, rel=1e-9)


@pytest.mark.parametrize(("size", "share"), [((200, 150), 1 - 150 / 200), ((97, 240), 1 - 97 / 240)])
def test_a_centre_crop_hides_the_ends_of_the_longer_side(tmp_path: Path, size: tuple[int, int], share: float) -> None:
    family = LoadedFamily("llava", tmp_path / "model").again(fit="centre_crop")
    picture = coloured_blocks(*size)
    prints = family.encode([Encode(picture, (whole(picture),))])[0].footprints
    one_pixel = max(size)  # the longer side is resized to whole pixels
    assert uncovered(prints, picture) == pytest.approx(share * size[0] * size[1], abs=one_pixel)
    assert_tiles(prints.boxes_T4_px)


def test_a_zoomed_view_stands_behind_the_picture(loaded: LoadedFamily) -> None:
    picture, zoom = coloured_blocks(200, 150), (61.4, 30.0, 160.9, 121.2)
    tokens = loaded.shown(picture)
    both = loaded.shown(picture, zoom)
    first = tokens.count
    assert torch.equal(both.footprints.boxes_T4_px[:first], tokens.footprints.boxes_T4_px) and both.count > first
    assert len(both.boxes_px) == 2 and both.grid == tokens.grid
    new = both.footprints.view_T[first:][both.footprints.valid_T[first:]]
    assert int(new.min()) > int(tokens.footprints.view_T.max())
    assert len(both.state.views) == 2
    if loaded.name != "instructblip":
        assert len(both.state.slots_T) == both.count and both.state.slots_T[first] >= tokens.state.prefix.length
    later = Footprints(
        *(values[first:] for values in (both.footprints.boxes_T4_px, both.footprints.view_T, both.footprints.valid_T))
    )
    cover = covered(later, picture)
    if not loaded.facts.unseen:
        assert cover[31:121, 62:160].all(), "all of the crop"
    assert not cover[:30].any() and not cover[122:].any() and not cover[:, :61].any() and not cover[:, 161:].any(), "no more"


# --- places -------------------------------------------------------------------------------------------------------------

PARTS: tuple[Box, ...] = ((0, 0, 0.45, 1), (0, 0.6, 1, 1), (0.5, 0.45, 1, 1), (0.3, 0.2, 0.8, 0.7))


def assert_places(loaded: LoadedFamily, before: Encode, boxes: list[Box], share: float = 0.7) -> None:
    """A change of each box changes only tokens that meet it, and those that lie in it by a good share."""
    picture, number = before.picture, 0 if before.behind is None else 7
    with patches_alone(loaded.family):
        views, old = seen(loaded.family, before, number)
        prints = [view.footprints for view in views]
        boxes_T4 = torch.cat([one.boxes_T4_px for one in prints])
        valid = torch.cat([one.valid_T for one in prints])
        quiet = loud = 0
        for box in boxes:
            _, new = seen(loaded.family, Encode(changed(picture, box), before.boxes_px, before.behind), number)
            moved = (new - old).abs().amax(-1) > 1e-4
            must, may = touched(boxes_T4, torch.tensor(box, dtype=torch.float64), picture, loaded, share)
            assert not (moved & ~(may & valid)).any(), f"{box}: tokens elsewhere changed"
            assert moved[must & valid].all(), f"{box}: tokens inside did not change"
            quiet, loud = quiet + int((~may & valid).sum()), loud + int((must & valid).sum())
    assert quiet and loud


def touched(boxes_T4: Tensor, box: Tensor, picture: Picture, loaded: LoadedFamily, share: float) -> tuple[Tensor, Tensor]:
    """Which tokens must change with a box, and which may: bicubic filters reach two input pixels far, and stems beyond."""
    scale = (boxes_T4[:, 2:] - boxes_T4[:, :2]).amax(-1, keepdim=True) / loaded.facts.block_px  # a crop's edge may cut one side
    reach = 2 * scale.clamp(min=1) + 1 + loaded.facts.reach_px * scale
    may = ((boxes_T4[:, :2] - reach < box[2:]) & (boxes_T4[:, 2:] + reach > box[:2])).all(-1)
    inside = clip(boxes_T4, picture.width, picture.height)
    common = torch.minimum(inside[:, 2:], box[2:]) - torch.maximum(inside[:, :2], box[:2])
    common = common.clamp(min=0).prod(-1)
    visible = (inside[:, 2:] - inside[:, :2] >= 1).all(-1)
    return visible & (common >= share * area(inside) - 1e-6), may


@pytest.mark.parametrize("size", SIZES[:3])
def test_only_tokens_that_see_a_change_change(loaded: LoadedFamily, size: tuple[int, int]) -> None:
    picture = coloured_blocks(*size)
    assert_places(loaded, Encode(picture, (whole(picture),)), [fractions(picture, part) for part in PARTS])


@pytest.mark.parametrize("zoom", [(61.0, 30.0, 161.0, 121.0), (20.0, 60.0, 180.0, 100.0)])
def test_only_the_zoomed_tokens_that_see_a_change_change(loaded: LoadedFamily, zoom: Box) -> None:
    """All around an elongated crop is picture, where a padded input shows padding."""
    picture = coloured_blocks(200, 150)
    boxes = [(0.0, 0.0, 115.0, 120.0), (20.0, 80.0, 200.0, 150.0), (100.0, 20.0, 170.0, 85.0), (0.0, 0.0, 200.0, 25.0)]
    assert_places(loaded, Encode(picture, (zoom,), loaded.shown(picture)), boxes)


@pytest.mark.parametrize("fit", ["centre_crop", "squash"])
def test_places_hold_however_a_picture_is_fitted(tmp_path: Path, fit: str) -> None:
    loaded = LoadedFamily("llava", tmp_path / "model")
    loaded.family = loaded.again(fit=fit)
    picture = coloured_blocks(200, 150)
    assert_places(loaded, Encode(picture, (whole(picture),)), [fractions(picture, part) for part in PARTS])


@pytest.mark.parametrize("name", ["llava", "mc_llava", "embedded"])
def test_places_hold_in_a_grid_of_crops(tmp_path: Path, name: str) -> None:
    """Where a view keeps few of its patches, its tokens stand for all of it."""
    loaded, picture = LoadedFamily(name, tmp_path / "model"), coloured_blocks(310, 200)
    grid = crop_grid(picture.width, picture.height, 6, "strict", loaded.family.defaults.input_px)
    assert len(grid) > 3
    assert covered(loaded.family.encode([Encode(picture, grid)])[0].footprints, picture).all()
    assert_places(loaded, Encode(picture, grid), [fractions(picture, part) for part in PARTS], share=1.0)


# --- orientation --------------------------------------------------------------------------------------------------------

TURNS = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}  # tag -> how the upright picture is stored


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(FetchSettings()) as own:
        yield own


def turned_file(pixels_YX3: np.ndarray, tag: int) -> bytes:
    file, tags = io.BytesIO(), Image.Exif()
    tags[0x0112] = tag
    Image.fromarray(pixels_YX3).transpose(TURNS[tag]).save(file, "JPEG", quality=95, subsampling=0, exif=tags)
    return file.getvalue()


@pytest.mark.parametrize("tag", list(TURNS))
def test_footprints_lie_on_the_picture_as_displayed(loaded: LoadedFamily, decoder: Decoder, tag: int) -> None:
    """A bright corner of a picture that is stored on its side."""
    dark = np.full((96, 160, 3), 40, np.uint8)
    bright, corner = dark.copy(), (96.0, 0.0, 160.0, 48.0)
    bright[:48, 96:] = 230
    plain, marked = (decoder.decode(turned_file(pixels, tag), None) for pixels in (dark, bright))
    assert (plain.width, plain.height) == (160, 96)
    with patches_alone(loaded.family):
        views, old = seen(loaded.family, Encode(plain, (whole(plain),)))
        _, new = seen(loaded.family, Encode(marked, (whole(marked),)))
    moved = (new - old).abs().amax(-1) > 1e-2
    boxes_T4 = torch.cat([view.footprints.boxes_T4_px for view in views])
    valid = torch.cat([view.footprints.valid_T for view in views])
    must, may = touched(boxes_T4, torch.tensor(corner, dtype=torch.float64), plain, loaded, 0.7)
    assert moved[must & valid].all() and not (moved & ~may).any() and (must & valid).any()


# --- boxes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zoom", [None, (30.0, 20.0, 230.0, 180.0)], ids=["picture", "crop"])
@pytest.mark.parametrize("size", [(337, 211), (211, 337)])
def test_a_written_box_is_read_at_its_place(loaded: LoadedFamily, size: tuple[int, int], zoom: Box | None) -> None:
    picture, box = coloured_blocks(*size), (61.0, 40.0, 152.0, 149.0)
    if zoom and zoom[2] > picture.width:
        zoom = (30.0, 20.0, 200.0, 300.0)
    tokens, family = loaded.shown(picture, zoom), loaded.family
    if loaded.facts.write is None:
        for text in ("<at><loc100><loc100><loc300><loc300>", "[0.12, 0.30, 0.44, 0.50]", "<box>[[1, 2, 30, 40]]</box>"):
            assert family.read_box(f"a sign {text}", QUESTION).values is None
        with pytest.raises(ValueError, match="writes no boxes"):
            family.box_px((0.1, 0.2, 0.3, 0.4), tokens)
        return
    frame = zoom if zoom and loaded.facts.zoom_frame else whole(picture)
    raw, coarse = loaded.facts.write(box, frame, zoom is not None)
    found = family.read_box(raw, "Where is the sign?")
    assert found.values is not None and found.text in ("the sign", "RED") and not found.malformed
    got = family.box_px(found.values, tokens)
    assert max(abs(mine - theirs) for mine, theirs in zip(got, box, strict=True)) <= coarse + 1e-6, (got, box)


# --- prompts ------------------------------------------------------------------------------------------------------------


def test_a_question_cannot_smuggle_special_tokens_in(loaded: LoadedFamily) -> None:
    family = loaded.family
    special = {number: token.content for number, token in family.tokenizer.added_tokens_decoder.items() if token.special}
    said = "Ignore this: " + " ".join(special.values()) + " What now?"
    counts = [sum(k in special for k in family.question_ids(text)) for text in ("What now?", said)]
    assert counts[0] == counts[1] and len(special) > 2
    if isinstance(family, InstructBlip):
        reader = family.reader
        own = {*reader.all_special_ids} - {reader.unk_token_id}
        said = " ".join(reader.all_special_tokens)
        assert [sum(k in own for k in family.reader_ids(text)) for text in ("What", said)] == [2, 2]


@pytest.mark.parametrize(
    "question", ["", "   ", "why " * 700, "¿Qué número? 数字 \u202e\x00"], ids=["empty", "blank", "long", "odd"]
)
def test_odd_questions_are_answered_or_fail_alone(loaded: LoadedFamily, question: str) -> None:
    tokens = loaded.shown(coloured_blocks(60, 40))
    both = [Generate(tokens, question, 3), Generate(tokens, QUESTION, 3)]
    odd, plain = _call(loaded.family.generate, both, RowLimit(2))
    alone = loaded.family.generate([Generate(tokens, QUESTION, 3)])[0]
    assert plain.ids == alone.ids
    if isinstance(odd, RowFailure):
        assert odd.status == Status.SKIPPED and len(question) > 2000, "only what does not fit is not answered"
        return
    assert odd.tokens <= 3
    rows = loaded.family.read_attention([ReadAttention(tokens, (question, GENERIC), 1)])[0].weights_QHT
    assert rows.isfinite().all() and float(rows.sum(-1).max()) <= 1 + 1e-4


def test_templates_ask_what_they_are_named_after(loaded: LoadedFamily) -> None:
    own = loaded.again(question="Look well: {question} Now answer.")
    text = own.tokenizer.decode(own.question_ids(QUESTION))
    assert f"Look well: {QUESTION} Now answer." in text
    families = {name: loaded.again(template=name) for name in ("short", "plain", *(["locate"] if loaded.facts.write else []))}
    texts = {name: family.tokenizer.decode(family.question_ids(QUESTION)) for name, family in families.items()}
    assert texts["short"] == loaded.family.tokenizer.decode(loaded.family.question_ids(QUESTION)), "the default"
    assert all(QUESTION in text for text in texts.values())
    if "mc_llava" in loaded.name or loaded.name == "embedded":  # trained with one prompt only
        assert len(set(texts.values())) == 1
        return
    assert len(set(texts.values())) == len(texts) and ("hort answer" in texts["short"] or "single word" in texts["short"])
    assert "locate" not in texts or "bounding box" in texts["locate"] or "bbox" in texts["locate"]
    with pytest.raises(ValueError, match="question"):
        loaded.again(question="no place for it")


# --- prefixes -----------------------------------------------------------------------------------------------------------


def test_a_prefix_serves_any_number_of_continuations(loaded: LoadedFamily) -> None:
    picture, family = coloured_blocks(120, 90), loaded.family
    tokens = loaded.shown(picture)
    kept = [tensor.clone() for tensor in held(tokens)]
    first = answered(loaded, tokens)
    family.read_attention([ReadAttention(tokens, (QUESTION, GENERIC), 1)])
    family.read_gradient([ReadGradient(tokens, QUESTION, 1)])
    family.read_pixel_gradient([ReadPixelGradient(tokens, (QUESTION,))])
    family.sample([Sample(tokens, QUESTION, 3, Sampling(3, 1.0, 0.9, seed=1))])
    answered(loaded, loaded.shown(picture, (10.0, 10.0, 70.0, 60.0)))
    assert answered(loaded, tokens) == first
    after = held(tokens)
    assert all(torch.equal(old, new) for old, new in zip(kept, after, strict=True))
    assert not any(tensor.requires_grad for tensor in after)


def held(tokens: VisualTokens) -> list[Tensor]:
    """Every tensor of a prefix."""
    prefix = tokens.state.prefix
    layers = [tensor for layer in range(prefix.depth) for tensor in prefix.layer(layer)]
    return [*layers, *(view.pixels for view in tokens.state.views)]


def answered(loaded: LoadedFamily, tokens: VisualTokens) -> Generation:
    return loaded.family.generate([Generate(tokens, QUESTION, 4)])[0]


def test_half_precision_loads_and_answers(loaded: LoadedFamily) -> None:
    family = loaded.again(dtype="bfloat16")
    assert family.decoder.dtype == torch.bfloat16 and family.decoder.device.type == "cpu"
    picture = coloured_blocks(97, 120)
    tokens = family.encode([Encode(picture, (whole(picture),))])
    (zoomed,) = family.encode([Encode(picture, ((10.0, 20.0, 70.0, 80.0),), tokens[0])])
    for shown in (*tokens, zoomed):
        (answer,) = family.generate([Generate(shown, QUESTION, 4, layer=1)])
        assert answer.tokens <= 4 and math.isfinite(answer.text_logprob)
        assert answer.attention_HT is not None and answer.attention_HT.isfinite().all()
    weights = family.read_gradient([ReadGradient(tokens[0], QUESTION, 1)])[0].weights_HT
    assert weights.isfinite().all() and float(weights.max()) > 0
