"""Train the line finder of the embedded model: `python -m jobs.train_finder --folder runs/finder --minutes 50`.

One process on one thread, rendered documents only. Continues from the folder's checkpoint, logs one JSON line per 50 steps
to `log.jsonl`, and with `--export FILE` writes the running mean of the weights as fp16 safetensors.
"""

import os
import sys
from pathlib import Path

import torch

from jobs.options import RunParser
from ray_pipeline.models.line_finder import LineFinderNetwork, save
from ray_pipeline.synthesis.fonts import training_fonts
from ray_pipeline.training.line_finding import FinderRecipe, FinderTrainer


def export(folder: Path, target: Path) -> None:
    """Write the running mean of a run's weights."""
    network = LineFinderNetwork()
    network.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True)["average"])
    save(network, target)


def main(argv: list[str] | None = None) -> int:
    """Train or export; returns 0."""
    parser = RunParser(prog="fovea train_finder", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="checkpoint and log; continued where it has any")
    parser.add_argument("--minutes", type=float, default=FinderRecipe.minutes, help="of training in all, earlier runs included")
    parser.add_argument("--lr", type=float, default=FinderRecipe.lr)
    parser.add_argument("--steps", type=int, help="stop after so many steps (a smoke test)")
    parser.add_argument("--export", type=Path, help="do not train: write the weights of --folder to this file")
    options = parser.parse_args(argv)
    if options.export and not (options.folder / "checkpoint.pt").is_file():
        parser.error(f"--export of {options.folder}, which has no checkpoint.pt; expected the folder of a training")
    if options.export:
        export(options.folder, options.export)
        return 0
    torch.set_num_threads(1)
    os.nice(5)
    options.folder.mkdir(parents=True, exist_ok=True)
    recipe = FinderRecipe(minutes=options.minutes, lr=options.lr)
    FinderTrainer(training_fonts(), recipe, options.folder).run(options.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
