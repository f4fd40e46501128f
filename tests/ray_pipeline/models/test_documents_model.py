"""The packaged model for documents answers questions about pages it has never seen, read by its own networks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from ray_pipeline.actor import Actor, Asked
from ray_pipeline.geometry.boxes import iou
from ray_pipeline.models.embedded_tokenizer import build_tokenizer
from ray_pipeline.models.line_llava_tokenizer import build_line_tokenizer
from ray_pipeline.models.weights import DOCUMENTS, EMBEDDED, LINE_FINDER, LINE_READER
from ray_pipeline.perceiver import Seen
from ray_pipeline.scoring.anls import anls
from ray_pipeline.synthesis.document_pages import DocumentPage, sample_asked_document
from ray_pipeline.synthesis.fonts import evaluation_fonts
from schemas.job import JobSettings
from schemas.picture import Box, Picture

PAGES = range(8_500_000, 8_500_004)
MAIN = ("total", "date", "company")


def asked() -> Iterator[tuple[Picture, str, str]]:
    """Picture, question and answer: total, date and company of a few pages in fonts that no model was trained on."""
    for seed in PAGES:
        page, questions = sample_asked_document(seed, evaluation_fonts(), (18.0, 24.0))
        for one in questions:
            if one.role in MAIN:
                yield Picture(page.rgb, str(seed)), one.question, one.answer


@pytest.mark.parametrize("name", [LINE_FINDER, LINE_READER])
def test_it_reads_with_the_same_networks_as_the_embedded_model(name: str) -> None:
    assert (DOCUMENTS / name).read_bytes() == (EMBEDDED / name).read_bytes()


@pytest.mark.parametrize(("folder", "build"), [(EMBEDDED, build_tokenizer), (DOCUMENTS, build_line_tokenizer)])
def test_tokenizers_are_those_that_the_code_builds(
    folder: Path, build: Callable[[], PreTrainedTokenizerFast], tmp_path: Path
) -> None:
    build().save_pretrained(tmp_path)
    assert (folder / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_it_answers_questions_about_pages_it_has_never_seen() -> None:
    settings = JobSettings.model_validate({"manifest": "m", "output": "o", "model": {"name": "documents"}})
    actor, rows = Actor(settings), list(asked())
    seen = actor.answer({k: Asked(picture, question) for k, (picture, question, _) in enumerate(rows)})
    scores = []
    for k, (_, _, answer) in enumerate(rows):
        one = seen[k]
        assert isinstance(one, Seen), one
        scores.append(anls(one.perception.answer or "", [answer]))
    assert len(scores) >= 9 and fmean(scores) > 0.5


def test_it_points_at_lines_of_pages_it_has_never_seen() -> None:
    label = {"find": "locate"}
    settings = {"manifest": "m", "output": "o", "model": {"name": "documents"}, "task": "label", "label": label}
    actor = Actor(JobSettings.model_validate(settings))
    pages = [sample_asked_document(seed, evaluation_fonts(), (18.0, 24.0))[0] for seed in PAGES]
    wanted = [
        {line.text: line.box_px for line in page.lines if len(line.text) > 8 and "".join(page_texts(page)).count(line.text) == 1}
        for page in pages
    ]
    chosen = [dict(list(own.items())[:3]) for own in wanted]
    asked = {
        k: Asked(Picture(page.rgb, str(k)), phrases=tuple(own)) for k, (page, own) in enumerate(zip(pages, chosen, strict=True))
    }
    seen, right, count = actor.answer(asked), 0, 0
    for k, own in enumerate(chosen):
        one = seen[k]
        assert isinstance(one, Seen), one
        found = {region.label: region.box_px for region in one.perception.regions}
        count += len(own)
        right += sum(text in found and overlap(found[text], box) >= 0.5 for text, box in own.items())
    assert count >= 9 and right >= count / 2


def page_texts(page: DocumentPage) -> list[str]:
    return [line.text for line in page.lines]


def overlap(a: Box, b: Box) -> float:
    return float(iou(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)))
