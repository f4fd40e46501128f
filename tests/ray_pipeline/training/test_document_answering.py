"""Asked pages, their batches, and a tiny model of read lines that learns to answer and goes on where it stopped."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import train_documents
from ray_pipeline.models.contract import TextLine
from ray_pipeline.models.line_llava_tokenizer import build_line_tokenizer
from ray_pipeline.models.line_tokens import line_tokens
from ray_pipeline.synthesis.document_questions import DocumentQuestion
from ray_pipeline.synthesis.document_sheets import SheetLine
from ray_pipeline.training.asked_pages import AskedPage, PageTurn, imagined_page, places, region_around, where_turns
from ray_pipeline.training.document_answering import AnsweringRecipe, AnsweringTrainer
from ray_pipeline.training.document_export import new_network
from ray_pipeline.training.line_batches import IGNORE, LineBatcher
from ray_pipeline.training.page_cache import CachedPages, stored_lines
from ray_pipeline.training.reading_noise import misread, misspelt, seen_in

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
RECIPE = AnsweringRecipe(minutes=1e6, peak_rate=1e-2, warmup_steps=10)
SHEET = [
    SheetLine("ACME SDN BHD", (0, 0, 120, 10)),
    SheetLine("DATE: 1/2/2018 10:00", (0, 20, 200, 30)),
    SheetLine("9.90", (160, 40, 200, 50)),
]


@pytest.fixture(scope="module")
def batcher() -> LineBatcher:
    return LineBatcher(build_line_tokenizer())


@pytest.mark.parametrize(
    ("answer", "piece", "whole", "parts"),
    [
        ("1/2/2018", "DATE: 1/2/2018 10:00", [(60, 20, 140, 30)], []),
        ("9.90", "9.90", [(160, 40, 200, 50)], []),
        ("ACME SDN BHD OF IPOH", "ACME SDN BHD\nOF IPOH", [], [(0, 0, 120, 10)]),
        ("not shown", None, [], []),
        ("7.70", "7.70", [], []),
    ],
)
def test_places_of_an_answer(answer: str, piece: str | None, whole: list[object], parts: list[object]) -> None:
    assert places(SHEET, DocumentQuestion("?", answer, piece, "total")) == (whole, parts)


def test_noise_spares_a_clear_page_and_spoils_a_bad_one() -> None:
    rng = random.Random(3)
    assert misspelt(rng, "TOTAL 51.42", 0.0) == "TOTAL 51.42"
    spoilt = [misspelt(rng, "TOTAL 51.42", 0.5) for _ in range(50)]
    assert sum(one == "TOTAL 51.42" for one in spoilt) < 5
    read = [misread(random.Random(k), SHEET, 0.001) for k in range(100)]
    assert sum(line.text == "ACME SDN BHD" for lines in read for line in lines) > 85
    assert all(line.logprob <= 0 for lines in read for line in lines)


def test_a_region_shows_what_lies_in_it_cut_between_characters() -> None:
    seen = seen_in(SHEET, (60.0, 15.0, 141.0, 35.0))
    assert seen == [SheetLine("1/2/2018", (60, 20, 140, 30))]


@pytest.mark.parametrize("seed", range(20))
def test_a_zoomed_region_holds_what_it_was_made_for(seed: int) -> None:
    left, top, right, bottom = region_around(random.Random(seed), (150.0, 80.0, 180.0, 90.0), (200.0, 100.0))
    assert 0 <= left <= 150 and 180 <= right <= 200 and 0 <= top <= 80 and 90 <= bottom <= 100


def test_what_is_copied_is_what_is_written(batcher: LineBatcher) -> None:
    """On a page read without a mistake, every supervised character of an answer is among those it shall look at."""
    base = line_tokens([TextLine(line.box, line.text, -0.01) for line in SHEET], (0, 0, 200, 100), (200, 100))
    turn = PageTurn("What is the date?", "1/2/2018", ((60, 20, 140, 30),), "date", spelt=True)
    where = PageTurn("Where is '9.90'?", "", ((160, 40, 200, 50),), "where", box_px=(160, 40, 200, 50))
    batch = batcher.batch([AskedPage((200, 100), base, None, (turn, where))])
    names = {token: text for text, token in batcher.vocabulary.items()}
    ids = batch.prefix_ids[0]
    rows = [k for k in range(batch.target_BR.shape[1]) if int(batch.turn_BR[0, k]) == 0]
    assert [names[int(batch.target_BR[0, k])] for k in rows] == [*"1/2/2018", "<eos>"]
    for k in rows[:-1]:
        assert names[int(batch.target_BR[0, k])] in {names[int(token)] for token in ids[batch.copy_BRP[0, k]]}
    assert "".join(names[int(token)] for token in ids[batch.look_BRP[0, rows[0]]]).strip() == "1/2/2018"
    located = batch.location_BR[0][~batch.location_BR[0].isnan()]
    assert located.tolist() == pytest.approx([0.8, 0.4, 0.9999, 0.5])


def test_a_phrase_meets_itself_and_its_edges_are_told_from_its_ends(batcher: LineBatcher) -> None:
    """Read without a mistake, each character of the phrase is among those it looks for; x0 is taken from the first ones, x1 from
    the last ones, y0 and y1 from the whole line."""
    base = line_tokens([TextLine(line.box, line.text, -0.01) for line in SHEET], (0, 0, 200, 100), (200, 100))
    asked = "Find 'ACME SDN BHD'."
    turn = PageTurn(asked, "", ((0, 0, 120, 10),), "where", box_px=(0, 0, 120, 10), phrase=(6, 18))
    batch = batcher.batch([AskedPage((200, 100), base, None, (turn,))])
    names = {token: text for text, token in batcher.vocabulary.items()}

    def shown(mask_P: torch.Tensor) -> str:
        return "".join(names[int(token)] for token in batch.prefix_ids[0][mask_P]).replace("\n", "")

    matching = [k for k in range(batch.match_BRP.shape[1]) if batch.match_BRP[0, k].any()]
    letters = [names[int(batch.turn_ids[0, batch.position_BR[0, k]])] for k in matching]
    assert "".join(letters) == asked[6:18] and all(
        sign in shown(batch.match_BRP[0, k]) for sign, k in zip(letters, matching, strict=True)
    )
    assert all(int(batch.target_BR[0, k]) == IGNORE for k in matching)
    told = [shown(batch.copy_BRP[0, k]) for k in range(batch.location_BR.shape[1]) if not batch.location_BR[0, k].isnan()]
    assert told == ["AC", "ACME SDN BHD", "HD", "ACME SDN BHD"]


def test_what_is_asked_for_stands_there_once_or_not_at_all() -> None:
    """Of a thousand imagined where-questions: boxes are those of the phrase, and absent phrases are absent."""
    rng, told = random.Random(0), {"where": 0, "not_shown": 0}
    for _ in range(400):
        for turn in where_turns(rng, SHEET, 3):
            told[turn.role] += 1
            if turn.role == "not_shown":
                assert turn.answer == "not shown" and not turn.places_px and turn.phrase is None
                continue
            assert turn.phrase is not None and turn.box_px is not None
            text = turn.question[slice(*turn.phrase)]
            (line,) = [one for one in SHEET if text.casefold() in one.text.casefold()]
            start, wide = line.text.casefold().index(text.casefold()), (line.box[2] - line.box[0]) / len(line.text)
            assert turn.box_px == pytest.approx(
                (line.box[0] + wide * start, line.box[1], line.box[0] + wide * (start + len(text)), line.box[3])
            )
    assert told["where"] > 10 * told["not_shown"] / 2 > 100


def test_a_question_is_embedded_in_training_as_in_a_run(batcher: LineBatcher, tmp_path: Path) -> None:
    network = new_network(**SIZES)
    trainer = AnsweringTrainer(network, RECIPE, tmp_path)
    batch = batcher.batch([imagined_page(seed, zoomed=False, most_turns=3) for seed in (5, 6)])
    turns = trainer._turns(batch)
    for page, first, count in batch.slot_of_question:
        ids = batch.turn_ids[page, first : first + count][None]
        alone = network.asked(ids, torch.ones_like(ids, dtype=torch.bool))[0]
        assert torch.allclose(turns[page, first : first + count], alone, atol=1e-5)
    plain = network.language_model.get_input_embeddings()(batch.turn_ids)
    page, first, count = batch.slot_of_question[0]
    behind = first + count  # the first token of the answer
    assert torch.equal(turns[page, behind], plain[page, behind]) and not torch.equal(turns[page, first], plain[page, first])


def test_locations_begin_like_their_neighbours() -> None:
    table = new_network(**SIZES).language_model.get_input_embeddings().weight.detach()
    first = LineBatcher(build_line_tokenizer()).vocabulary["<loc000>"]
    locations = torch.nn.functional.normalize(table[first : first + 1000], dim=-1)
    alike = locations @ locations.T
    assert alike.diagonal(1).mean() > 0.8 > alike.diagonal(3).mean() > abs(float(alike.diagonal(40).mean()))


def test_turns_see_the_page_and_themselves_alone(batcher: LineBatcher) -> None:
    page = imagined_page(5, zoomed=True, most_turns=4)
    other = imagined_page(6, zoomed=True, most_turns=3)
    batch = batcher.batch([page, other])
    length = batch.prefix_ids.shape[1]
    for k, own in enumerate((page, other)):
        prefix = 2 + len(own.base) + len(own.zoom or ())
        asked = batch.target_BR[k] != IGNORE
        rows, turns = batch.position_BR[k][asked], batch.turn_BR[k][asked]
        seen = batch.mask[k, 0][rows]
        assert seen[:, :prefix].all() and not seen[:, prefix:length].any()
        assert torch.equal(seen[:, length + rows], (turns[:, None] == turns) & (rows[:, None] >= rows))


def test_a_tiny_model_learns_and_continues_where_it_stopped(tmp_path: Path) -> None:
    """The same two pages again and again, with attention supervised; then the same from the folder."""
    trainer = AnsweringTrainer(new_network(**SIZES), RECIPE, tmp_path)
    pages = [imagined_page(seed, zoomed=False, most_turns=2) for seed in (1, 4)]
    losses = []
    for _ in range(24):
        trainer.step(pages)
        losses.append(trainer.progress.averages.pop("loss"))
    assert losses[-1] < 0.8 * losses[0] and trainer.progress.step == 24
    trainer.save()
    again = AnsweringTrainer(new_network(seed=2, **SIZES), RECIPE, tmp_path)
    assert again.resume() and again.progress.step == 24
    for one in (trainer, again):
        one.step(pages)
    for old, new in zip(trainer.network.state_dict().values(), again.network.state_dict().values(), strict=True):
        assert torch.equal(old, new)


def test_pages_that_were_read_come_back_as_stored(tmp_path: Path) -> None:
    lines = stored_lines([TextLine(line.box, line.text, -0.02) for line in SHEET])
    turn = PageTurn("date", "1/2/2018", ((60, 20, 140, 30),), "date", True).__dict__
    stored = {
        "size_px": [200.0, 100.0],
        "turns": [turn],
        "bases": [lines],
        "zooms": [{"region_px": [0, 0, 200, 35], "lines": lines[:2]}],
    }
    (tmp_path / "000.jsonl").write_text("\n".join([json.dumps(stored)] * 100) + "\n")
    cache = CachedPages(tmp_path)
    page = cache.page(random.Random(0), zoomed=True, most_turns=5)
    assert cache.ready and page.base.characters == "\nACME SDN BHD\nDATE: 1/2/2018 10:00\n9.90"
    assert page.zoom is not None and page.zoom.characters == "\nACME SDN BHD\nDATE: 1/2/2018 10:00"
    assert np.allclose(page.zoom.boxes_unit[0], (0, 0, 1, 0.35)) and page.turns == (PageTurn(**turn),)


@pytest.mark.parametrize(
    ("options", "wrong"), [(["--export", "out"], "no checkpoint.pt"), (["--read-pages", "20"], "--read-pages without --cache")]
)
def test_the_recipe_refuses_what_it_cannot_do(
    options: list[str], wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        train_documents.main(["--folder", str(tmp_path), *options])
    assert refused.value.code == 2 and wrong in capsys.readouterr().err
