"""Train the model that answers questions about documents: `python -m jobs.train_documents --folder runs/documents`.

Pages come from the synthesis alone: documents that were never drawn, read by an imitation of the reader, and (with `--cache`)
drawn pages read by the true one, which `--read-pages N` makes in a process of its own. Continues from the folder's
checkpoint; `--export` writes the model folder (running mean of the weights, fp16 safetensors).
"""

import sys
from pathlib import Path

import torch

from jobs.options import RunParser
from ray_pipeline.models.page_reading import PageReader
from ray_pipeline.models.weights import EMBEDDED
from ray_pipeline.synthesis.fonts import training_fonts
from ray_pipeline.training.document_answering import AnsweringRecipe, AnsweringTrainer
from ray_pipeline.training.document_export import export, new_network
from ray_pipeline.training.page_reading_cache import PAGES_A_FILE, write_pages

SEEDS = 1 << 40  # of drawn pages; others are for validation


def main(argv: list[str] | None = None) -> int:
    """Read pages, train or export; returns 0."""
    parser = RunParser(prog="fovea train_documents", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="checkpoint and log; continued where it has any")
    parser.add_argument("--minutes", type=float, default=AnsweringRecipe.minutes, help="planned in all, runs before included")
    parser.add_argument("--attention-until", type=float, default=AnsweringRecipe.attention_until, help="share of time; 0 = never")
    parser.add_argument("--cache", type=Path, help="folder of pages read by the true reader")
    parser.add_argument("--read-pages", type=int, help="do not train: read so many pages into --cache")
    parser.add_argument("--first", type=int, default=0, help="number of the first page to read")
    parser.add_argument("--export", type=Path, help="do not train: write the model of --folder here")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.read_pages:
        if options.cache is None:
            parser.error("--read-pages without --cache; expected the folder to put them into")
        reader = PageReader.load(EMBEDDED)
        assert reader is not None, "the embedded model comes with its reader"
        files = options.read_pages // PAGES_A_FILE
        write_pages(options.cache, reader, training_fonts(), SEEDS + options.first, AnsweringRecipe.view_px, files)
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    recipe = AnsweringRecipe(minutes=options.minutes, attention_until=options.attention_until)
    trainer = AnsweringTrainer(new_network(), recipe, options.folder, options.cache)
    resumed = trainer.resume()
    if options.export:
        if not resumed:
            parser.error(f"--export of {options.folder}, which has no checkpoint.pt; expected the folder of a training")
        export(trainer.average, options.export)
        return 0
    trainer.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
