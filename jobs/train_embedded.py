"""Train the embedded model from the synthesis alone: `python -m jobs.train_embedded --folder runs/embedded`.

Runs one single-threaded process per core with averaged gradients, continues from the folder's checkpoint, logs one
JSON line per 50 steps to `log.jsonl`, and exports with `--export` (running mean of the weights, fp16 safetensors).
"""

import argparse
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from transformers import PreTrainedTokenizerFast

from ray_pipeline.models.embedded_tokenizer import build_tokenizer
from ray_pipeline.models.mc_llava_network import McLlavaConfig, McLlavaForConditionalGeneration
from ray_pipeline.synthesis.fonts import training_fonts
from ray_pipeline.training.loop import Recipe, Trainer


def new_model(tokenizer: PreTrainedTokenizerFast) -> McLlavaForConditionalGeneration:
    """The embedded model with fresh weights: about 3.9 million parameters."""
    vision = dict(model_type="conv_stem_siglip", hidden_size=192, intermediate_size=512, num_hidden_layers=3,
                  num_attention_heads=6, image_size=96, patch_size=8)  # fmt: skip
    text = dict(model_type="llama", hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6,
                num_key_value_heads=6, vocab_size=len(tokenizer), tie_word_embeddings=True, initializer_range=0.07,
                max_position_embeddings=8192, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id)  # fmt: skip
    config = McLlavaConfig(
        vision_config=vision, text_config=text, coordinate_size=4, drop_first_feature=False,
        image_token_index=tokenizer.get_vocab()["<image>"], tie_word_embeddings=True, num_tokens=None,
        prompt={"before": "<bos>", "zoom": "<zoom>", "after": "{question}<answer>", "end": "<eos>"},
        focus={"layer": Recipe.thing_layer, "base_window_share": 0.3, "gate": 0.9},
    )  # fmt: skip
    model = McLlavaForConditionalGeneration(config)
    _ordinal_locations(model, tokenizer)
    for parameter in model.coord_embed[2].parameters():
        torch.nn.init.zeros_(parameter)
    model.use_row_attention()
    return model


def _ordinal_locations(model: McLlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    """Neighbouring locations start with similar embeddings: random mixtures of low-frequency waves."""
    weight = model.language_model.get_input_embeddings().weight
    place = torch.linspace(0, torch.pi, 1000)[:, None] * torch.arange(1, 25)[None] / 1.0
    waves = torch.cat([place.cos(), place.sin()], 1) / torch.arange(1, 25).repeat(2).sqrt()
    mixed = waves @ torch.randn(48, weight.shape[1])
    start = tokenizer.get_vocab()["<loc000>"]
    with torch.no_grad():
        weight[start : start + 1000] = 0.07 * mixed / mixed.std()


def _train(rank: int, world: int, folder: str, recipe: Recipe, threads: int, most_steps: int | None) -> None:
    torch.set_num_threads(threads)
    os.nice(5)
    if world > 1:
        dist.init_process_group(
            "gloo", store=dist.FileStore(f"{folder}/rendezvous.{os.getppid()}", world), rank=rank, world_size=world
        )
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer()
    trainer = Trainer(new_model(tokenizer), tokenizer, training_fonts(), recipe, Path(folder))
    trainer.resume()
    trainer.run(most_steps)
    trainer.save()


def export(folder: Path, target: Path) -> None:
    """Write config, fp16 safetensors of the running mean, and the tokenizer to `target`."""
    tokenizer = build_tokenizer()
    model = new_model(tokenizer)
    model.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True)["average"])
    model.half().save_pretrained(target)
    tokenizer.save_pretrained(target)


def main(argv: list[str] | None = None) -> int:
    """Train or export; returns 0."""
    parser = argparse.ArgumentParser(
        prog="fovea train_embedded", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="checkpoints and log; continued where it has any")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--read-hours", type=float, default=Recipe.read_hours)
    parser.add_argument("--joint-hours", type=float, default=Recipe.joint_hours)
    parser.add_argument("--lr", type=float, default=Recipe.lr)
    parser.add_argument("--steps", type=int, help="stop after so many steps (a smoke test)")
    parser.add_argument("--export", type=Path, help="do not train: write the model of --folder here")
    options = parser.parse_args(argv)
    if options.export:
        export(options.folder, options.export)
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(read_hours=options.read_hours, joint_hours=options.joint_hours, lr=options.lr)
    arguments = (options.processes, str(options.folder), recipe, 1, options.steps)
    processes.start_processes(_train, arguments, nprocs=options.processes, start_method="spawn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
