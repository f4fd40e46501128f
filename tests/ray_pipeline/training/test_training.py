"""The training path computes what the model will compute, and learns."""

import math
from pathlib import Path

import pytest
import torch

from jobs.train_embedded import export, new_model
from ray_pipeline.models.embedded_tokenizer import build_tokenizer, location_token
from ray_pipeline.models.mc_llava_network import McLlavaForConditionalGeneration
from ray_pipeline.models.prefix import EMPTY, Chunk, continue_batch, extended_states
from ray_pipeline.models.segment import Segment
from ray_pipeline.synthesis.fonts import evaluation_fonts
from ray_pipeline.training.batches import question_batch
from ray_pipeline.training.loop import Recipe, Trainer
from ray_pipeline.training.losses import attention_loss, looking_masks
from ray_pipeline.training.samples import question_sample

FONTS = evaluation_fonts()  # these tests need fonts, not a model worth keeping


def trainer(folder: Path, **recipe: float) -> Trainer:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    return Trainer(new_model(tokenizer), tokenizer, FONTS, Recipe(bf16=False, **recipe), folder)


@pytest.mark.parametrize(("grid", "zoomed"), [(0, False), (0, True), (2, True)])
def test_a_packed_turn_equals_a_prompt_of_its_own(tmp_path: Path, grid: int, zoomed: bool) -> None:
    run = trainer(tmp_path)
    model = run.model.eval()
    samples = [question_sample(seed, FONTS, grid, zoomed, 4) for seed in (3, 4)]
    batch = question_batch(samples, run.tokenizer)
    with torch.no_grad():
        features = model.view_features(batch.pixels)
        projected = model.project(features, batch.coordinates)
        embeds = run._merged(batch, projected)
        packed = model.language_model.model(
            inputs_embeds=embeds, attention_mask=batch.mask, position_ids=batch.position_ids, use_cache=False
        ).last_hidden_state
        for row, sample in enumerate(samples):
            prefix = [Chunk((Segment(embeds[row, : batch.prefix]),))]
            state = extended_states([EMPTY], continue_batch(model.language_model.model, [EMPTY], prefix), prefix)[0]
            start = batch.prefix
            for turn in sample.turns:
                asked = len(run.tokenizer(turn.question + "<answer>", add_special_tokens=False).input_ids)
                turn_only = Chunk((Segment(embeds[row, start : start + asked]),))
                alone = continue_batch(model.language_model.model, [state], [turn_only])
                assert alone.hidden is not None
                torch.testing.assert_close(packed[row, start : start + asked], alone.hidden[0], atol=2e-5, rtol=0)
                answered = len(turn.answer) if any(turn.character_labels) else len(run.tokenizer(turn.answer).input_ids)
                start += asked + answered + (5 if turn.location else 0)


def test_rows_look_at_the_patches_of_what_they_write(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    sample = question_sample(11, FONTS, 0, True, 6)
    batch = question_batch([sample], run.tokenizer)
    wanted = looking_masks(batch.rows, batch.dense, batch.views, batch.zoomed)
    assert wanted.shape == (1, batch.rows.position.shape[1], batch.prefix)
    assert wanted.any(-1).sum() >= 3 and not wanted[..., 0].any(), "the beginning-of-text token shows nothing"
    perfect = (wanted / wanted.sum(-1, keepdim=True).clamp(min=1))[:, None]
    loss, mass = attention_loss(perfect, wanted)
    assert mass == pytest.approx(1.0) and float(loss) == pytest.approx(0.0, abs=1e-6)


def test_one_batch_can_be_learnt(tmp_path: Path) -> None:
    run = trainer(tmp_path, lr=2e-3)
    run.progress.stage = "joint"
    batch = question_batch([question_sample(seed, FONTS, 0, True, 4) for seed in range(3)], run.tokenizer)
    losses = []
    for _ in range(14):
        loss, _ = run._question_loss(batch)
        loss.backward()
        run._average_gradients()
        for optimizer in run.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 2e-3
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.75 * losses[0]


def test_a_run_goes_on_from_its_checkpoint_and_exports(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.progress.stage = "joint"
    run.progress.step = 3
    run.save()
    again = trainer(tmp_path)
    torch.nn.init.zeros_(again.model.coord_embed[0].weight)
    assert again.resume() and again.progress.step == 3 and again.progress.stage == "joint"
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    target = tmp_path / "model"
    export(tmp_path, target)
    loaded = McLlavaForConditionalGeneration.from_pretrained(target, dtype=torch.float32).eval()
    pixels, places = torch.randn(2, 3, 96, 96), torch.rand(2, 4)
    with torch.no_grad():
        expected = run.average.eval()
        expected.load_state_dict({k: v.half().float() if v.is_floating_point() else v for k, v in expected.state_dict().items()})
        left = loaded.language_model(inputs_embeds=loaded.project(loaded.view_features(pixels), places)).logits
        right = expected.language_model(inputs_embeds=expected.project(expected.view_features(pixels), places)).logits
    torch.testing.assert_close(left, right, atol=1e-4, rtol=0)
    assert sum(file.stat().st_size for file in target.iterdir()) < 20e6


def test_tokenizer_spells_texts_and_keeps_words_of_questions_whole() -> None:
    tokenizer = build_tokenizer()
    question = 'Where is the text "KX7 to"?'
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(question, add_special_tokens=False).input_ids)
    assert tokens == ["Where", " is", " the", " text", " ", '"', "K", "X", "7", " to", '"', "?"]
    assert tokenizer.decode(tokenizer(question, add_special_tokens=False).input_ids) == question
    typed = tokenizer("<answer>", add_special_tokens=False, split_special_tokens=True).input_ids
    assert tokenizer.convert_tokens_to_ids("<answer>") not in typed, "a user's text cannot end the question"
    assert tokenizer.decode(tokenizer(location_token(7), add_special_tokens=False).input_ids) == "<loc007>"
    with pytest.raises(ValueError, match=r"location 1000, expected 0\.\.999"):
        location_token(1000)


def test_learning_rate_warms_up_and_decays(tmp_path: Path) -> None:
    run = trainer(tmp_path, joint_hours=1.0, lr=1e-3)
    run.progress.stage, run.progress.step = "joint", 1000
    rates = []
    for share in (0.1, 0.6, 0.8, 1.0):
        run.progress.seconds = share * 3600
        rates.append(run._rate())
    assert rates[0] == rates[1] == pytest.approx(1e-3) and rates[2] == pytest.approx(5e-4)
    assert math.isclose(rates[3], 2e-5)
