"""The training loop of the embedded model: stages, optimisers, checkpoints, log.

Two stages on measured accuracy: `read` (tower alone, dense losses) until characters are read, then `joint` (questions
on one view, picture and zoom, grids of crops). Several single-threaded processes average their gradients.
"""

import copy
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from ray_pipeline.models.attention_rows import RowRequest
from ray_pipeline.models.mc_llava_network import McLlavaForConditionalGeneration
from ray_pipeline.synthesis.texts import TEXT_CHARACTERS
from ray_pipeline.training.batches import Batch, question_batch, view_tensors
from ray_pipeline.training.losses import (
    DenseHeads,
    alignment_loss,
    answer_loss,
    attention_loss,
    looking_masks,
    thing_masks,
)
from ray_pipeline.training.progress import Progress
from ray_pipeline.training.run_folder import RunFolder
from ray_pipeline.training.running_mean import follow
from ray_pipeline.training.samples import question_sample, reading_views

READ_TARGET = 0.80  # character accuracy on legible patches that ends the reading stage


@dataclass(frozen=True)
class Recipe:
    """How long and how: hours are wall-clock budgets; the learning rate decays over the last part of `joint_hours`."""

    read_hours: float = 0.5
    joint_hours: float = 2.0
    lr: float = 2e-3
    decay_share: float = 0.4
    attention_until: float = 0.9  # share of joint_hours after which attention is no longer supervised
    thing_layer: int = 2
    character_layer: int = 3
    seed: int = 1
    bf16: bool = True


# (share, grid, zoomed, samples): drawn per step, equal on all processes; later stages see more crops
MIX_EARLY = ((0.45, 0, False, 12), (0.55, 0, True, 8))
MIX_LATE = ((0.48, 0, False, 12), (0.34, 0, True, 8), (0.08, 2, False, 4), (0.04, 2, True, 3), (0.06, 3, False, 2))


@dataclass
class StagedProgress(Progress):
    """With the stage: read, joint or done."""

    stage: str = "read"


class Trainer:
    """One process of a training run."""

    def __init__(
        self,
        model: McLlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        fonts: list[str],
        recipe: Recipe,
        folder: Path,
    ) -> None:
        self.model, self.tokenizer, self.fonts, self.recipe = model, tokenizer, fonts, recipe
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.heads = DenseHeads(model.config.vision_config.hidden_size)
        self.average = copy.deepcopy(model)
        self.progress = StagedProgress()
        self.class_to_token = torch.tensor([0, *(tokenizer.get_vocab()[c] for c in TEXT_CHARACTERS)])
        self.optimizers = self._optimizers()
        self.folder = RunFolder(
            folder, {"model": model, "heads": self.heads, "average": self.average, "optimizers": self.optimizers}
        )

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            inside = ".layers." in name or "projector" in name
            (matrices if inside and parameter.ndim == 2 else others).append(parameter)
        muon = torch.optim.Muon(matrices, lr=1.0, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
        adam = torch.optim.AdamW([*others, *self.heads.parameters()], lr=1.0, betas=(0.9, 0.98), weight_decay=0.01)
        return [muon, adam]

    def run(self, most_steps: int | None = None) -> None:
        """Train until the recipe's hours are spent, or `most_steps` more steps are done."""
        last, steps = time.monotonic(), 0
        while self.progress.stage != "done" and (most_steps is None or steps < most_steps):
            self._step()
            steps += 1
            self.progress.step += 1
            now = time.monotonic()
            self.progress.seconds += now - last
            last = now
            if self.progress.step % 50 == 0:
                self._agree()
                if self.rank == 0:
                    self.folder.log(self.progress.line())
                if self.progress.step % 500 == 0 or self.progress.stage == "done":
                    self.save()

    def _agree(self) -> None:
        """Processes share one clock and one verdict on stages, so that they always run the same kind of step."""
        p, r = self.progress, self.recipe
        shared = torch.tensor([p.seconds, p.averages.get("char", 0.0)], dtype=torch.float64)
        if self.world > 1:
            dist.broadcast(shared, 0)
        p.seconds = float(shared[0])
        if p.stage == "read" and (float(shared[1]) > READ_TARGET or p.seconds > r.read_hours * 3600):
            p.stage, p.seconds, p.averages = "joint", 0.0, {}
        elif p.stage == "joint" and p.seconds > r.joint_hours * 3600:
            p.stage = "done"

    def _step(self) -> None:
        rng = random.Random(self.recipe.seed * 1_000_003 + self.progress.step)
        seed = (self.recipe.seed << 40) + (self.progress.step * self.world + self.rank) * 64
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bf16):
            loss, metrics = self._read(seed) if self.progress.stage == "read" else self._joint(seed, rng)
        loss.backward()
        self._average_gradients()
        lr = self._rate()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        follow(self.average, self.model, self.progress.step + 1)
        self.progress.note(metrics)

    def _rate(self) -> float:
        warm = min(1.0, (self.progress.step + 1) / 100)
        if self.progress.stage == "read":
            return self.recipe.lr * warm
        share = self.progress.seconds / (self.recipe.joint_hours * 3600)
        left = min(1.0, max(0.0, 1 - share) / self.recipe.decay_share)
        return self.recipe.lr * warm * max(0.02, left)

    def _read(self, seed: int) -> tuple[Tensor, dict[str, float]]:
        self.model.train()
        views = [view for k in range(8) for view in reading_views(seed + k, self.fonts, 0.6, 6)]
        pixels, _, dense = view_tensors(views)
        stem, features = self.model.vision_tower(pixel_values=pixels).hidden_states
        return self.heads.loss(stem, features, dense)

    def _joint(self, seed: int, rng: random.Random) -> tuple[Tensor, dict[str, float]]:
        late = self.progress.seconds > 0.3 * self.recipe.joint_hours * 3600
        mix = MIX_LATE if late else MIX_EARLY
        _, grid, zoomed, count = rng.choices(mix, [row[0] for row in mix])[0]
        samples = [question_sample(seed + k, self.fonts, grid, zoomed, 8) for k in range(count)]
        loss, metrics = self._question_loss(question_batch(samples, self.tokenizer))
        kind = f"{'zoom' if zoomed else 'one'}{grid or ''}"
        return loss, {**metrics, f"token_{kind}": metrics["token"]}

    def _question_loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        self.model.train()
        for module in self.model.vision_tower.stem:
            if isinstance(module, nn.BatchNorm2d):  # statistics stay those of the reading stage's mixture
                module.eval()
        stem, features = self.model.vision_tower(pixel_values=batch.pixels).hidden_states
        dense, metrics = self.heads.loss(stem, features, batch.dense)
        projected = self.model.project(features, batch.coordinates)
        embedding = self.model.language_model.get_input_embeddings()
        aligned = alignment_loss(projected, embedding.weight, batch.dense, self.class_to_token)
        rows, recipe = batch.rows, self.recipe
        request = RowRequest((recipe.thing_layer, recipe.character_layer), rows.position)
        decoded = self.model.language_model.model(
            inputs_embeds=self._merged(batch, projected),
            attention_mask=batch.mask, position_ids=batch.position_ids, use_cache=False, row_request=request,
            output_hidden_states=True,
        )  # fmt: skip
        hidden = decoded.last_hidden_state
        picked = hidden.gather(1, rows.position[..., None].expand(-1, -1, hidden.shape[-1]))
        first_location = self.tokenizer.get_vocab()["<loc000>"]
        answers, answered = answer_loss(self.model.language_model.lm_head(picked), rows, first_location)
        look, looked = self._looking(batch, request)
        supervised = self.progress.seconds < recipe.attention_until * recipe.joint_hours * 3600
        below = decoded.hidden_states[recipe.thing_layer]
        asking = below.gather(1, rows.position[..., None].expand(-1, -1, below.shape[-1]))[rows.first]
        asked, knew = self.heads.asked_loss(asking, rows.named_colour[rows.first], rows.named_kind[rows.first])
        total = answers + 0.4 * dense + 0.5 * aligned + 0.3 * asked + (0.3 * look if supervised else 0.0)
        return total, {**metrics, **answered, **looked, **knew, "aligned": float(aligned.detach())}

    def _looking(self, batch: Batch, request: RowRequest) -> tuple[Tensor, dict[str, float]]:
        rows, recipe = batch.rows, self.recipe
        characters = looking_masks(rows, batch.dense, batch.views, batch.zoomed)
        look, mass = attention_loss(request.rows_BHRS[recipe.character_layer][:, :3], characters)
        label = torch.where(rows.first, rows.thing, 0)
        things = thing_masks(rows, label, batch.dense, batch.views, batch.zoomed) & (label > 0)[..., None]
        first, first_mass = attention_loss(request.rows_BHRS[recipe.thing_layer], things)
        return look + 2.5 * first, {"mass_char": mass, "mass_thing": first_mass}

    def _merged(self, batch: Batch, projected: Tensor) -> Tensor:
        embed = self.model.language_model.get_input_embeddings()
        vocabulary, count = self.tokenizer.get_vocab(), batch.turn_ids.shape[0]
        tokens = projected.view(count, batch.views, -1, projected.shape[-1])
        bos, zoom = (embed(torch.full((count, 1), vocabulary[name])).to(tokens.dtype) for name in ("<bos>", "<zoom>"))
        parts = [bos, tokens[:, : batch.views - batch.zoomed].flatten(1, 2)]
        if batch.zoomed:
            parts += [zoom, tokens[:, -1]]
        return torch.cat([*parts, embed(batch.turn_ids).to(tokens.dtype)], 1)

    def _average_gradients(self) -> None:
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        if self.world > 1:
            dist.all_reduce(flat)
            flat /= self.world
        norm = flat.norm()
        if not torch.isfinite(norm):
            raise FloatingPointError(f"gradient norm {norm} at step {self.progress.step}, expected a finite number")
        flat *= min(1.0, 2.0 / float(norm + 1e-6))
        for parameter, part in zip(parameters, flat.split([g.numel() for g in gradients]), strict=True):
            parameter.grad = part.view_as(parameter)
        self.progress.note({"gradient": float(norm)})

    def save(self) -> None:
        """Write weights, running mean, optimisers and progress; a killed save leaves the previous one."""
        if self.rank == 0:
            self.folder.save(progress=self.progress.__dict__)

    def resume(self) -> bool:
        """Continue from this folder's checkpoint; False where there is none."""
        rest = self.folder.resume()
        if rest:
            self.progress = StagedProgress(**rest["progress"])
        return bool(rest)
