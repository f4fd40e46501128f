"""Lines of receipts found by their own text: `python -m benchmarks.receipt_labels --data DIR [--count 200]`.

DIR holds `ocr.parquet` (id, image_uri relative to DIR, reference_boxes labelled with their text) and the pictures; `--synthetic`
draws documents instead, in fonts that no model was trained on. So many lines, drawn at random, are the phrases of `label`. The
`documents` model is asked where each one is, as a run asks that finds by `locate`: its greedy box, the box that each selector
keeps of one pool of candidates, and the best of the pool; then the boxes of `label` as it runs by default, which reads first.
A box is right from an IoU of 0.5 with any place where the line stands. One phrase a page is not there and should get no box.
Bar: acs_learned is at least a tenth better than greedy. Ends with one line of figures; exit 1 on a miss.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch

from benchmarks import sought_lines
from benchmarks.packaged_models import Bench, Pick, best_of_all, draw, picker
from benchmarks.selection import bootstrap, right
from benchmarks.sought_lines import Sought
from ray_pipeline.actor import planned
from ray_pipeline.batching import converse
from ray_pipeline.methods.box_regressor import read_regressor
from ray_pipeline.models.profiles import find_profile, regressor_bytes
from ray_pipeline.models.weights import PACKAGED
from ray_pipeline.page_labeller import label_picture
from ray_pipeline.perceiver import Seen
from ray_pipeline.synthesis.fonts import evaluation_fonts
from schemas.job import JobSettings
from schemas.labelling import LabelSettings
from schemas.methods import RefineSettings, SelectSettings
from schemas.model import ModelSettings
from schemas.picture import Box, Picture

LEAST_GAIN = 0.10
FIRST_SYNTHETIC = 8_300_000  # seeds from here on are this benchmark's; the profile was fitted on others
EACH = 5  # lines of a drawn page
LAYERS = (0, 1, 2, 3)
SELECTORS = ("medoid", "cluster", "likeliest", "least_entropy", "acs_free", "acs_learned")


def main(argv: list[str] | None = None) -> int:
    """Look for every line; 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder with ocr.parquet and its pictures")
    source.add_argument("--synthetic", action="store_true", help="drawn documents instead")
    parser.add_argument("--count", type=int, default=200, help="lines to look for")
    parser.add_argument("--model", default="documents", choices=tuple(PACKAGED))
    parser.add_argument("--seed", type=int, default=0, help="of the choice of lines")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.data:
        pages = sought_lines.scanned(options.data, options.count, options.seed)
    else:
        pages = list(sought_lines.drawn(FIRST_SYNTHETIC, options.count, EACH, evaluation_fonts()))
    found = measure(options.model, pages)
    print(json.dumps(found))
    return int(missed(found))


def missed(found: dict[str, float]) -> bool:
    """Whether the bar is."""
    return found["acs_learned over greedy"] < LEAST_GAIN


def measure(model: str, pages: Sequence[Sought]) -> dict[str, float]:
    """Share of lines found by each way of choosing, and what a line takes. Prints the table."""
    bench = Bench(ModelSettings(name=model), RefineSettings())
    picks = _picks(model)
    asked = [one for page in pages for one in page.asked(bench.family.defaults.locate)]
    ious: dict[str, list[float]] = {name: [] for name in picks}
    started = time.perf_counter()
    for one in draw(bench, asked, bench.plan(), SelectSettings(method="medoid"), LAYERS):
        for name, pick in picks.items():
            ious[name].append(one.where.iou(pick(one)))
    drawn_s = (time.perf_counter() - started) / len(asked)
    started = time.perf_counter()
    ious["label"] = [value for page in pages for value in _labelled(bench, model, page)]
    label_s = (time.perf_counter() - started) / len(asked)
    _print_table(ious)
    found = {name: round(fmean(right(own)), 4) for name, own in ious.items()}
    gain = found["acs_learned"] / found["greedy"] - 1 if found["greedy"] else 0.0
    return {
        "lines": len(asked), **found, "acs_learned over greedy": round(gain, 4), "s a line drawn": round(drawn_s, 3),
        "s a line of label": round(label_s, 3),
        **{f"absent, {find} gives a box": round(_imagined(bench, model, find, pages), 4) for find in ("auto", "locate")},
    }  # fmt: skip


def _picks(model: str) -> dict[str, Pick]:
    select = SelectSettings(method="acs_learned")
    profile, stored = find_profile(PACKAGED[model], select), regressor_bytes(PACKAGED[model], select)
    regressor = read_regressor(stored or b"")
    picks: dict[str, Pick] = {"greedy": picker(SelectSettings())}
    for name in SELECTORS:
        picks[name] = picker(SelectSettings.model_validate({"method": name}), profile, regressor)
    return picks | {"oracle": best_of_all}


def _found(bench: Bench, model: str, find: str, picture: Picture, phrases: Sequence[str]) -> dict[str, list[Box]]:
    """The boxes that a run of `label` gives each phrase under its defaults."""
    label = LabelSettings.model_validate({"find": find})
    settings = JobSettings(manifest="", output="", model=ModelSettings(name=model), task="label", label=label)
    seen = converse(bench.family, {0: label_picture(picture, phrases, planned(settings, bench.family))})[0]
    if not isinstance(seen, Seen):
        raise seen
    found: dict[str, list[Box]] = {}
    for region in seen.perception.regions:
        found.setdefault(region.label or "", []).append(region.box_px)
    return found


def _labelled(bench: Bench, model: str, page: Sought) -> list[float]:
    """The best box of each phrase; 0 where it has none."""
    found = _found(bench, model, "auto", page.page.picture, page.phrases)
    return [
        max((one.iou(box) for box in found.get(phrase, ())), default=0.0)
        for phrase, one in zip(page.phrases, page.asked("{question}"), strict=True)
    ]


def _imagined(bench: Bench, model: str, find: str, pages: Sequence[Sought]) -> float:
    """Share of phrases that get a box though they are not on the page: one a page, a line of the pages before it."""
    absent = [(page, page.absent(pages[k - 1 :: -1])) for k, page in enumerate(pages) if k]
    asked = [(page, phrase) for page, phrase in absent if phrase is not None]
    return fmean([bool(_found(bench, model, find, page.page.picture, [phrase])) for page, phrase in asked] or [0.0])


def _print_table(ious: dict[str, list[float]]) -> None:
    print(f"IoU >= 0.5 and mean IoU on {len(ious['greedy'])} lines, both over greedy with 95 % intervals")
    for name, own in ious.items():
        gains = [bootstrap(right(own), right(ious["greedy"])), bootstrap(own, ious["greedy"])]
        told = "   ".join(f"{gain:+.3f} ({low:+.3f} to {high:+.3f})" for gain, low, high in gains)
        print(f"  {name:14s} {fmean(right(own)):.3f}  {fmean(own):.3f}   {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
