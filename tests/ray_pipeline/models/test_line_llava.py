"""The family of read lines, with random weights: tokens where print stands, rows and answers as a plain decoder gives them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ray_pipeline.models.contract import Encode, Generate, ReadAttention, ReadLines, ReadPixelGradient, VisualTokens
from ray_pipeline.models.families import check_family, load_family
from ray_pipeline.models.line_llava import LineLlava, read_view
from ray_pipeline.models.weights import EMBEDDED, LINE_FINDER, LINE_READER, ModelRefused
from ray_pipeline.synthesis.fonts import evaluation_fonts, font_at
from ray_pipeline.training.document_export import export, new_network
from schemas.job import JobSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
QUESTIONS = ("What is the total amount?", "total", "Where is 'Coffee'?")
TEXTS = [(40, 60, "Coffee and cake"), (420, 60, "12.50"), (40, 120, "Total amount"), (420, 120, "88.20")]


def printed(width: int = 560, height: int = 220, size: int = 24) -> Picture:
    """Texts black on white."""
    image = Image.new("RGB", (width, height), (250, 250, 250))
    for x, y, text in TEXTS:
        ImageDraw.Draw(image).text((x, y), text, (20, 20, 20), font_at(evaluation_fonts()[1], size))
    return Picture(np.asarray(image), "0" * 64)


def whole(picture: Picture) -> Box:
    return 0.0, 0.0, float(picture.width), float(picture.height)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lines") / "model"
    export(new_network(**SIZES), made)
    for name in (LINE_FINDER, LINE_READER):
        shutil.copy(EMBEDDED / name, made / name)
    return made


@pytest.fixture(scope="module")
def family(folder: Path) -> LineLlava:
    loaded = load_family(ModelSettings(name=str(folder), device="cpu"), ViewSettings(), PromptSettings())
    assert isinstance(loaded, LineLlava)
    return loaded


@pytest.fixture(scope="module")
def shown(family: LineLlava) -> VisualTokens:
    picture = printed()
    return family.encode([Encode(picture, (whole(picture),))])[0]


@pytest.fixture(scope="module")
def zoomed(family: LineLlava, shown: VisualTokens) -> VisualTokens:
    return family.encode([Encode(shown.picture, ((300.0, 100.0, 560.0, 170.0),), behind=shown)])[0]


def test_every_character_is_a_token_where_it_is_printed(family: LineLlava, shown: VisualTokens) -> None:
    tokens = read_view(family.pages, shown.picture, whole(shown.picture), family.view_px)
    assert tokens.characters == "\nCoffee and cake\t12.50\nTotal amount\t88.20"
    assert shown.count == len(tokens)
    boxes = shown.footprints.boxes_T4_px
    amount = boxes[tokens.characters.index("88.20") :][:5]
    assert (amount[:, 0] > 400).all() and (amount[:, 2] < 520).all() and (amount[:, 1] > 110).all() and (amount[:, 3] < 160).all()
    assert boxes[0].tolist() == list(whole(shown.picture))


def test_what_is_too_small_is_read_in_a_zoomed_view_only(family: LineLlava) -> None:
    picture = printed()
    small = read_view(family.pages, picture, whole(picture), 72)
    closer = read_view(family.pages, picture, (380.0, 100.0, 560.0, 170.0), 112)
    assert "88.20" not in small.characters and closer.characters.strip() == "88.20"
    assert closer.boxes_unit[1, 0] * picture.width > 400


def test_a_zoomed_view_stands_behind_the_picture_and_leaves_it(
    family: LineLlava, shown: VisualTokens, zoomed: VisualTokens
) -> None:
    again = family.encode([Encode(shown.picture, (whole(shown.picture),))])[0]
    assert zoomed.count > shown.count and zoomed.footprints.view_T.tolist()[-1] == 1
    before, after = (family.read_attention([ReadAttention(one, QUESTIONS, 2)])[0].weights_QHT for one in (shown, again))
    assert torch.equal(before, after)


@pytest.mark.parametrize("behind", [False, True])
def test_rows_are_those_of_plain_attention(family: LineLlava, shown: VisualTokens, zoomed: VisualTokens, behind: bool) -> None:
    tokens = zoomed if behind else shown
    got = family.read_attention([ReadAttention(tokens, QUESTIONS, 2)])[0].weights_QHT
    for question, row_HT in zip(QUESTIONS, got, strict=True):
        embeds, slots = _sequence(family, tokens, question)
        family.decoder.set_attn_implementation("eager")
        try:
            with torch.no_grad():
                maps = family.decoder(inputs_embeds=embeds[None], output_attentions=True).attentions
        finally:
            family.decoder.set_attn_implementation("fovea_rows")
        assert torch.allclose(row_HT, maps[2][0, :, -1][:, slots], atol=1e-5)


@pytest.mark.parametrize("behind", [False, True])
def test_answers_are_those_of_a_plain_decoder(family: LineLlava, shown: VisualTokens, zoomed: VisualTokens, behind: bool) -> None:
    tokens = zoomed if behind else shown
    answer = family.generate([Generate(tokens, QUESTIONS[0], 6)])[0]
    embeds, _ = _sequence(family, tokens, QUESTIONS[0])
    written: list[int] = []
    with torch.no_grad():
        while len(written) < 6 and not (written and written[-1] in family.end_ids):
            logits = family.head(family.decoder(inputs_embeds=embeds[None]).last_hidden_state[0, -1])
            written.append(int(logits.argmax()))
            embeds = torch.cat([embeds, family.token_segment(written[-1:]).embeds_QW])
    assert list(answer.ids) == [token for token in written if token not in family.end_ids]


def _sequence(family: LineLlava, tokens: VisualTokens, question: str) -> tuple[torch.Tensor, list[int]]:
    """All embeddings of picture, zoomed view and question in a row, and where the visual ones stand."""
    parts, slots, at = [], [], 0
    for number, view in enumerate(tokens.state.views):
        marker = family.token_segment(family.around(zoomed=number > 0)[0]).embeds_QW
        seen = family.embed([view])[0].embeds_QW
        slots += range(at + len(marker), at + len(marker) + len(seen))
        at += len(marker) + len(seen)
        parts += [marker, seen]
    ids = torch.tensor(family.question_ids(question))
    plain = family.model.language_model.get_input_embeddings()(ids)
    around = family.model.line_context(plain[None], torch.ones(1, len(ids), dtype=torch.bool))[0]
    return torch.cat([*parts, plain + family.model.question_gain * around]), slots


def test_rows_of_a_batch_do_not_know_each_other(family: LineLlava, shown: VisualTokens, zoomed: VisualTokens) -> None:
    requests = [Generate(shown, QUESTIONS[0], 5, 2), Generate(zoomed, QUESTIONS[1], 5, 2)]
    together, alone = family.generate(requests), [family.generate([one])[0] for one in requests]
    for a, b in zip(together, alone, strict=True):
        assert a.ids == b.ids and a.attention_HT is not None and b.attention_HT is not None
        assert torch.allclose(a.attention_HT, b.attention_HT, atol=1e-6)


def test_boxes_are_of_the_whole_picture_also_behind_a_zoomed_view(
    family: LineLlava, shown: VisualTokens, zoomed: VisualTokens
) -> None:
    for tokens in (shown, zoomed):
        box = family.box_px((0, 499, 999, 999), tokens)
        assert box == pytest.approx((0.28, 109.89, 559.72, 219.89), abs=1e-6)


def test_a_page_without_print_is_one_token(family: LineLlava) -> None:
    blank = Picture(np.full((60, 80, 3), 255, np.uint8), "1" * 64)
    tokens = family.encode([Encode(blank, (whole(blank),))])[0]
    assert tokens.count == 1 and family.generate([Generate(tokens, "total", 3)])[0].tokens


def test_all_text_is_read_from_all_pixels(family: LineLlava) -> None:
    picture = printed()
    lines = family.read_lines([ReadLines(picture, whole(picture))])[0].lines
    assert [line.text for line in lines] == ["Coffee and cake", "12.50", "Total amount", "88.20"]


def test_pixels_have_no_gradient(family: LineLlava, shown: VisualTokens, folder: Path) -> None:
    settings = JobSettings.model_validate(
        {"manifest": "m", "output": "o", "model": {"name": str(folder)}, "refine": {"method": "pure_grad"}}
    )
    with pytest.raises(ModelRefused, match="pure_grad"):
        check_family(settings)
    with pytest.raises(ValueError, match="rel_att or grad_att"):
        family.read_pixel_gradient([ReadPixelGradient(shown, QUESTIONS[:1])])


def test_without_its_readers_it_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "bare")
    for name in (LINE_FINDER, LINE_READER):
        (tmp_path / "bare" / name).unlink()
    with pytest.raises(ModelRefused, match="expected both"):
        load_family(ModelSettings(name=str(tmp_path / "bare")), ViewSettings(), PromptSettings())
