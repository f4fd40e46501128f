"""Train the line reader from the synthesis alone: `python -m jobs.train_reader --folder runs/reader`.

Continues from the folder's checkpoint; the learning rate falls over the planned `--minutes` in all. Logs one JSON line
every four minutes to `log.jsonl` and exports with `--export` (running mean of the weights, fp16 safetensors).

Fonts come from the system (`ray_pipeline.synthesis.fonts.training_fonts`): Debian's fonts-adf-*, -agave, -anonymous-pro,
-b612, -bebas-neue, -cabin, -cantarell, -cmu, -comfortaa, -courier-prime, -crosextra-*, -croscore, -dosis, -ebgaramond,
-firacode, -freefont-ttf, -go, -inconsolata, -inter, -jetbrains-mono, -karla, -lato, -league-mono, -liberation, -lmodern,
-manrope, -monofur, -monoid, -mononoki, -noto-core, -noto-mono, -ocr-a, -ocr-b, -opendin, -paratype, -play, -quicksand,
-routed-gothic, -sora, -spleen, -stix, -texgyre, -tuffy, -unifont, -urw-base35, -vollkorn, -yanone-kaffeesatz and more.
"""

import sys
from pathlib import Path

import torch

from jobs.options import RunParser
from ray_pipeline.synthesis.fonts import training_fonts
from ray_pipeline.training.line_reading import ReaderTrainer, ReadingRecipe


def main(argv: list[str] | None = None) -> int:
    """Train or export; returns 0."""
    parser = RunParser(prog="fovea train_reader", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="checkpoint and log; continued where it has any")
    parser.add_argument("--minutes", type=float, default=ReadingRecipe.minutes, help="planned in all, runs before included")
    parser.add_argument("--peak-rate", type=float, default=ReadingRecipe.peak_rate)
    parser.add_argument("--start-from", type=Path, help="weights of an exported reader, for a folder without checkpoint")
    parser.add_argument("--export", type=Path, help="do not train: write the reader of --folder here")
    options = parser.parse_args(argv)
    if options.export and not (options.folder / "checkpoint.pt").is_file():
        parser.error(f"--export of {options.folder}, which has no checkpoint.pt; expected the folder of a training")
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    plain = 0 if options.start_from else ReadingRecipe.plain_lines
    recipe = ReadingRecipe(minutes=options.minutes, peak_rate=options.peak_rate, plain_lines=plain)
    trainer = ReaderTrainer([] if options.export else training_fonts(), recipe, options.folder)
    if options.start_from:
        trainer.start_from(options.start_from)
    trainer.resume()
    if options.export:
        trainer.export(options.export)
        return 0
    trainer.run()
    trainer.save()
    return 0


if __name__ == "__main__":
    sys.exit(main())
