"""Training of the model that answers questions about read documents: recipe, losses, loop, checkpoints, log.

One thread. Attention is supervised for a share of the time and free afterwards, or never (`attention_until` 0).
"""

import copy
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache

from ray_pipeline.models.attention_rows import RowRequest
from ray_pipeline.models.line_llava_network import LineLlavaForConditionalGeneration
from ray_pipeline.models.line_llava_tokenizer import build_line_tokenizer
from ray_pipeline.training.asked_pages import AskedPage, imagined_page
from ray_pipeline.training.line_batches import IGNORE, LineBatch, LineBatcher
from ray_pipeline.training.losses import attention_loss
from ray_pipeline.training.page_cache import CachedPages
from ray_pipeline.training.progress import Progress
from ray_pipeline.training.run_folder import RunFolder
from ray_pipeline.training.running_mean import follow

LOCATION_SIGMA = 3.0  # bins of 1000
POOL = 24  # pages drawn and sorted by length before they are cut into batches


@dataclass(frozen=True)
class AnsweringRecipe:
    """What one run of training does. `minutes` are wall-clock, of this run and those before it."""

    minutes: float = 140.0
    peak_rate: float = 1e-3
    warmup_steps: int = 150
    decay_share: float = 0.5
    batch_tokens: int = 4500  # prefix and turns of a step
    turns: int = 12
    view_px: int = 448
    zoomed_share: float = 0.4
    attention_until: float = 0.75
    match_layer: int = 1
    look_layer: int = 2
    copy_layer: int = 3
    read_share: float = 0.5  # of steps on pages read by the true reader, where there are any, in the second half
    seed: int = 1


@dataclass
class AnsweringProgress(Progress):
    """With the pages taken so far, from which those to come follow."""

    pages: int = 0


class AnsweringTrainer:
    """One process of training; `run` goes on from the folder's checkpoint where there is one."""

    def __init__(
        self, network: LineLlavaForConditionalGeneration, recipe: AnsweringRecipe, folder: Path, cache: Path | None = None
    ) -> None:
        self.network, self.recipe = network, recipe
        self.cache = CachedPages(cache) if cache else None
        self.average = copy.deepcopy(network)
        self.batcher = LineBatcher(build_line_tokenizer())
        self.progress = AnsweringProgress()
        self.first_location = self.batcher.vocabulary["<loc000>"]
        self.optimizers = self._optimizers()
        self.folder = RunFolder(folder, {"network": network, "average": self.average, "optimizers": self.optimizers})

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            (matrices if ".layers." in name and parameter.ndim == 2 else others).append(parameter)
        muon = torch.optim.Muon(matrices, lr=1.0, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        adam = torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.98), weight_decay=0.01)
        return [muon, adam]

    @property
    def share(self) -> float:
        """Of the planned time that is spent."""
        return self.progress.seconds / (60 * self.recipe.minutes)

    def run(self, most_steps: int | None = None) -> None:
        """Train until the minutes are spent, or `most_steps` more steps are done."""
        last = saved = time.monotonic()
        for steps, pages in enumerate(self._batches()):
            if self.share >= 1 or steps == most_steps:
                break
            self.step(pages)
            now = time.monotonic()
            self.progress.seconds += now - last
            last = now
            if self.progress.step % 50 == 0:
                self.folder.log(self.progress.line())
            if now - saved > 240:
                self.save()
                saved = now
        self.save()

    def _batches(self) -> Iterator[list[AskedPage]]:
        recipe = self.recipe
        while True:
            rng = random.Random(recipe.seed * 1_000_003 + self.progress.pages)
            zoomed = rng.random() < recipe.zoomed_share
            read = self.cache is not None and self.share > 0.35 and rng.random() < recipe.read_share
            if read and self.cache and self.cache.ready:
                pool = [self.cache.page(rng, zoomed, recipe.turns) for _ in range(POOL)]
            else:
                first = (recipe.seed << 40) + self.progress.pages
                pool = [imagined_page(first + k, zoomed, recipe.turns) for k in range(POOL)]
            self.progress.pages += POOL
            pool.sort(key=_length)
            parts: list[list[AskedPage]] = []
            while pool:
                count = max(1, min(len(pool), recipe.batch_tokens // _length(pool[-1])))
                parts.append(pool[-count:])
                pool = pool[:-count]
            rng.shuffle(parts)
            yield from parts

    def step(self, pages: Sequence[AskedPage]) -> None:
        """One step of both optimisers on these pages."""
        with torch.autocast("cpu", torch.bfloat16):
            loss, metrics = self.loss(self.batcher.batch(pages))
        loss.backward()
        parameters = list(self.network.parameters())
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
        rate = self._rate()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        follow(self.average, self.network, self.progress.step)
        self.progress.note({**metrics, "gradient": float(norm), "loss": float(loss.detach())})

    def _rate(self) -> float:
        warm = min(1.0, (self.progress.step + 1) / self.recipe.warmup_steps)
        return self.recipe.peak_rate * warm * max(0.01, min(1.0, (1 - self.share) / self.recipe.decay_share))

    def loss(self, batch: LineBatch) -> tuple[Tensor, dict[str, float]]:
        """Answers, locations and, for a while, attention; metrics beside it."""
        seen_VTD = self.network.visual(batch.view_ids_VT, batch.view_features_VTF, batch.view_valid_VT)
        prefix = self._prefix(batch, seen_VTD)
        recipe = self.recipe
        supervised = self.share < recipe.attention_until
        layers = recipe.match_layer, recipe.look_layer, recipe.copy_layer
        request = RowRequest(layers, batch.position_BR) if supervised else None
        length = batch.prefix_ids.shape[1]
        decoder, seen = self.network.language_model.model, DynamicCache()
        decoder(inputs_embeds=prefix, position_ids=batch.position_ids[:, :length], past_key_values=seen, use_cache=True)
        hidden = decoder(
            inputs_embeds=self._turns(batch), attention_mask=batch.mask, position_ids=batch.position_ids[:, length:],
            past_key_values=seen, use_cache=True, **({"row_request": request} if request else {}),
        ).last_hidden_state  # fmt: skip
        picked = hidden.gather(1, batch.position_BR[..., None].expand(-1, -1, hidden.shape[-1]))
        log_p = self.network.language_model.lm_head(picked).float().log_softmax(-1)
        loss, metrics = self._answers(log_p, batch)
        aligned = self._aligned(batch, seen_VTD)
        loss, metrics = loss + 0.3 * aligned, metrics | {"aligned": float(aligned.detach())}
        if request is not None:
            look, looked = attention_loss(request.rows_BHRS[recipe.look_layer], batch.look_BRP)
            copied, spelled = attention_loss(request.rows_BHRS[recipe.copy_layer][:, :3], batch.copy_BRP)
            matched, found = attention_loss(request.rows_BHRS[recipe.match_layer][:, :3], batch.match_BRP)
            fade = min(1.0, 4 * (1 - self.share / recipe.attention_until))
            loss = loss + fade * (0.5 * look + 0.5 * copied + 0.25 * matched)
            metrics |= {"mass_look": looked, "mass_copy": spelled, "mass_match": found}
        return loss, metrics

    def _prefix(self, batch: LineBatch, seen_VTD: Tensor) -> Tensor:
        """Markers, read characters and padding of every page, embedded: (B, P, D)."""
        prefix: Tensor = self.network.language_model.get_input_embeddings()(batch.prefix_ids).to(seen_VTD.dtype)
        for own, (page, first, count) in zip(seen_VTD, batch.slot_of_view, strict=True):
            prefix[page, first : first + count] = own[:count]
        return prefix

    def _turns(self, batch: LineBatch) -> Tensor:
        """Questions as the model is asked them, answers as plain tokens: (B, S - P, D)."""
        slots = batch.slot_of_question
        ids = torch.zeros(len(slots), max(count for _, _, count in slots), dtype=torch.long)
        valid = torch.zeros_like(ids, dtype=torch.bool)
        for k, (page, first, count) in enumerate(slots):
            ids[k, :count], valid[k, :count] = batch.turn_ids[page, first : first + count], True
        asked = self.network.asked(ids, valid)
        plain: Tensor = self.network.language_model.get_input_embeddings()(batch.turn_ids)
        turns = plain.to(asked.dtype, copy=True)
        for own, (page, first, count) in zip(asked, slots, strict=True):
            turns[page, first : first + count] = own[:count]
        return turns

    def _aligned(self, batch: LineBatch, seen_VTD: Tensor) -> Tensor:
        """Logit lens: a visual token, normalised, must name its character in the decoder's embedding, or none can be copied."""
        shown = functional.rms_norm(seen_VTD[batch.view_valid_VT].float(), seen_VTD.shape[-1:])
        table: Tensor = self.network.language_model.get_input_embeddings().weight
        return functional.cross_entropy(shown @ table.float().T, batch.view_ids_VT[batch.view_valid_VT])

    def _answers(self, log_p: Tensor, batch: LineBatch) -> tuple[Tensor, dict[str, float]]:
        text = (batch.target_BR != IGNORE) & batch.location_BR.isnan()
        place = ~batch.location_BR.isnan()
        own = log_p.gather(2, batch.target_BR.clamp(min=0)[..., None])[..., 0]
        loss = -(own * text).sum() / text.sum().clamp(min=1)
        right = log_p.argmax(-1) == batch.target_BR
        metrics = {
            "token": float((right & text).sum() / text.sum()),
            "first": float((right & batch.first_BR).sum() / batch.first_BR.sum()),
        }
        if place.any():
            bins = torch.arange(1000) + 0.5
            value = batch.location_BR[place] * 1000
            soft = functional.softmax(-0.5 * ((bins - value[:, None]) / LOCATION_SIGMA) ** 2, -1)
            locations = log_p[place][:, self.first_location : self.first_location + 1000]
            error = ((locations.softmax(-1) * bins).sum(-1) - value).abs() / 1000
            loss = loss + 0.2 * -(soft * locations).sum(-1).mean() + 1.0 * error.mean()
            metrics["location_error"] = float(error.mean().detach())
        return loss, metrics | _whole_answers(right | ~text, batch)

    def save(self) -> None:
        """Write weights, running mean, optimisers and progress; a killed save leaves the previous one."""
        self.folder.save(progress=self.progress.__dict__)

    def resume(self) -> bool:
        """Continue from this folder's checkpoint; False where there is none."""
        rest = self.folder.resume()
        if rest:
            self.progress = AnsweringProgress(**rest["progress"])
        return bool(rest)


def _length(page: AskedPage) -> int:
    """About how many tokens a page and its turns take."""
    turns = sum(12 + len(turn.question) // 3 + len(turn.answer) for turn in page.turns)
    return len(page.base) + (len(page.zoom) if page.zoom else 0) + turns


def _whole_answers(right_BR: Tensor, batch: LineBatch) -> dict[str, float]:
    """Share of answers of which every token is right given those before it, by role."""
    counts: dict[str, list[float]] = {}
    for k, roles in enumerate(batch.roles):
        for number, role in enumerate(roles):
            rows = batch.turn_BR[k] == number
            name = role if role in ("total", "date", "company", "not_shown") else "other"
            counts.setdefault(name, []).append(float(right_BR[k][rows].all()))
    return {f"whole_{name}": sum(values) / len(values) for name, values in counts.items()}
