"""What zooming is worth: `python -m benchmarks.zoom [--count 100] [--split evaluation]`.

Accuracy (exact match) of the embedded model by size of the text: from the whole picture, with the true crop, with
ViCrop, with a random crop of the same size, with a grid of crops; boxes of where-is questions; and what the refined
answer costs over a plain two-image query. Ends with one line of figures; exit 1 where a bar is missed.
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

import torch

from benchmarks.packaged_models import Bench, contained_share, iou, picture_of
from ray_pipeline.geometry.squares import square_around
from ray_pipeline.scoring.mcnemar import mcnemar
from ray_pipeline.studies.zooming import AROUND
from ray_pipeline.synthesis.evaluation import BUCKETS, Case, cases
from ray_pipeline.synthesis.questions import ask
from schemas.methods import RefineSettings
from schemas.model import ModelSettings
from schemas.picture import Box, Picture

CONDITIONS = ("none", "vicrop", "true_crop", "random_crop", "crops9", "crops16", "crops9_vicrop")
GRIDS = {"crops9": (9, "none"), "crops16": (16, "none"), "crops9_vicrop": (9, "rel_att")}


@dataclass
class Tally:
    """Outcomes of one bucket: per condition, whether each picture was read exactly, and the share of characters."""

    exact: dict[str, list[bool]] = field(default_factory=dict)
    characters: dict[str, list[float]] = field(default_factory=dict)
    contained: list[bool] = field(default_factory=list)
    pointed: list[bool] = field(default_factory=list)
    used: list[bool] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    text_iou: list[float] = field(default_factory=list)

    def note(self, condition: str, answer: str, truth: str) -> None:
        self.exact.setdefault(condition, []).append(answer == truth)
        self.characters.setdefault(condition, []).append(character_accuracy(answer, truth))

    def rate(self, condition: str) -> float:
        return sum(self.exact[condition]) / len(self.exact[condition])


def character_accuracy(answer: str, truth: str) -> float:
    """1 - edit distance over the truth's length, at least 0."""
    previous = list(range(len(truth) + 1))
    for i, a in enumerate(answer, 1):
        current = [i]
        for j, b in enumerate(truth, 1):
            current.append(min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (a != b)))
        previous = current
    return max(0.0, 1 - previous[-1] / max(1, len(truth)))


def measure(bench: Bench, case: Case, tally: Tally, conditions: tuple[str, ...]) -> None:
    """One picture under every condition."""
    picture, question, truth = picture_of(case), case.question.text, case.question.answer
    whole = (0.0, 0.0, float(picture.width), float(picture.height))
    seen = bench.seen(picture, question, bench.plan())
    result = seen.perception
    tally.note("none", result.baseline_answer or "", truth)
    tally.note("vicrop", result.answer, truth)
    tally.used.append(result.refinement.used)
    if result.box_px:
        tally.text_iou.append(iou(result.box_px, case.question.box_px))
    crop = _crop(bench, picture, question)
    tally.contained.append(contained_share(case.question.box_px, crop or whole) >= 0.9)
    tokens = bench.tokens(picture, (whole,))
    forced = {"true_crop": square_around(case.question.box_px, AROUND, picture.width, picture.height)}
    forced["random_crop"] = _elsewhere(crop or whole, picture, case.seed)
    for name, box in forced.items():
        if name in conditions:
            tally.note(name, bench.ask(bench.tokens(picture, (box,), tokens), question).text, truth)
    for name, (crops, method) in GRIDS.items():
        if name in conditions:
            tally.note(name, bench.seen(picture, question, bench.plan(crops, method=method)).perception.answer, truth)
    where = ask(case.rendering, 0, "where", random.Random(case.seed))
    if where is not None:
        place = bench.ask(tokens, where.text)
        tally.iou.append(iou(place.box_px, where.box_px) if place.box_px else 0.0)


def _crop(bench: Bench, picture: Picture, question: str) -> Box | None:
    """The crop FOCUS chooses, gate or no gate."""
    crops = bench.seen(picture, question, bench.plan(gate=1.0)).perception.refinement.crops_px
    return crops[0] if crops else None


def _elsewhere(box: Box, picture: Picture, seed: int) -> Box:
    rng, w, h = random.Random(seed), box[2] - box[0], box[3] - box[1]
    x, y = rng.uniform(0, picture.width - w), rng.uniform(0, picture.height - h)
    return x, y, x + w, y + h


def cost_ratio(bench: Bench, sample: list[Case]) -> tuple[float, float]:
    """Median of refined / plain two-image query over interleaved pairs: without and with the first answer's decoding."""
    lean, full = [], []
    for case in sample:
        picture, question = picture_of(case), case.question.text
        whole = (0.0, 0.0, float(picture.width), float(picture.height))
        crop = _crop(bench, picture, question)
        if crop is None:
            continue
        always = bench.plan(gate=1.0, keep="refined")
        silent = bench.plan(gate=1.0, keep="refined", first_answer=False)
        times: dict[str, list[float]] = {"plain": [], "lean": [], "full": []}
        for _ in range(3):
            for name in times:
                started = time.perf_counter()
                if name == "plain":
                    bench.ask(bench.tokens(picture, (crop,), bench.tokens(picture, (whole,))), question)
                else:
                    bench.seen(picture, question, silent if name == "lean" else always)
                times[name].append(time.perf_counter() - started)
        plain = median(times["plain"])
        lean.append(median(times["lean"]) / plain)
        full.append(median(times["full"]) / plain)
    return median(lean), median(full)


def against(a: list[bool], b: list[bool]) -> float:
    """Two-sided exact p of the hypothesis that a and b are equally often right (paired)."""
    return mcnemar(sum(x and not y for x, y in zip(a, b, strict=True)), sum(y and not x for x, y in zip(a, b, strict=True)))


def bars(tallies: dict[str, Tally], lean: float) -> Iterator[tuple[str, float, float, bool]]:
    """Name, figure, bar, whether it holds."""
    small, large = tallies["small"], tallies["large"]
    gap = small.rate("true_crop") - small.rate("none")
    recovered = (small.rate("vicrop") - small.rate("none")) / gap if gap > 0 else 0.0
    grid = max(small.rate("crops9"), small.rate("crops16"))
    located = sum(value >= 0.5 for value in large.iou) / len(large.iou)
    contained = sum(small.contained) / len(small.contained)
    for name, figure, bar, at_least in (
        ("true crop, small", small.rate("true_crop"), 0.70, True),
        ("share of the gap recovered, small", recovered, 0.50, True),
        ("ViCrop over random crop, small", small.rate("vicrop") - small.rate("random_crop"), 0.15, True),
        ("lost by ViCrop, large", large.rate("none") - large.rate("vicrop"), 0.02, False),
        ("crop holds 90 % of the target, small", contained, 0.75, True),
        ("best grid, small", grid, 0.30, True),
        ("where-is IoU >= 0.5, large", located, 0.50, True),
        ("cost over a two-image query", lean, 1.15, False),
    ):
        yield name, figure, bar, figure >= bar if at_least else figure <= bar


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="pictures per size")
    parser.add_argument("--split", default="evaluation", choices=("evaluation", "validation"))
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--megapixels", type=float, nargs=2, default=(0.5, 12.0))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    bench = Bench(ModelSettings(name=options.model), RefineSettings())
    tallies = {bucket: Tally() for bucket in BUCKETS}
    sample: list[Case] = []
    for bucket, tally in tallies.items():
        for case in cases(options.split, bucket, options.count, tuple(options.megapixels)):
            measure(bench, case, tally, CONDITIONS)
            if len(sample) < 20 and bucket == "small" and case.rendering.image.width * case.rendering.image.height < 4e6:
                sample.append(case)
        _print_bucket(bucket, tally)
    lean, full = cost_ratio(bench, sample)
    print(f"cost over a plain two-image query, median of {len(sample)}: {lean:.2f} without, {full:.2f} with the first answer")
    small = tallies["small"].exact
    print(f"ViCrop against random crop, small: p = {against(small['vicrop'], small['random_crop']):.2g}")
    checked = list(bars(tallies, lean))
    for name, figure, bar, holds in checked:
        print(f"{'ok    ' if holds else 'MISSED'} {name:40s} {figure:6.3f}  bar {bar}")
    print(json.dumps({name: round(figure, 3) for name, figure, _, _ in checked}))
    return 0 if all(holds for *_, holds in checked) else 1


def _print_bucket(bucket: str, tally: Tally) -> None:
    n = len(tally.exact["none"])
    print(f"{bucket} (n = {n}; 95 % interval at most +-{98 / math.sqrt(n):.0f} points)")
    for condition in (name for name in CONDITIONS if name in tally.exact):
        characters = sum(tally.characters[condition]) / n
        print(f"  {condition:14s} exact {tally.rate(condition):5.2f}   characters {characters:5.2f}")
    print(f"  crop holds the target {sum(tally.contained) / n:.2f}, zoomed answer kept {sum(tally.used) / n:.2f}")
    own = sum(value >= 0.5 for value in tally.text_iou) / max(1, len(tally.text_iou))
    where = sum(value >= 0.5 for value in tally.iou) / n
    print(f"  where-is IoU >= 0.5 {where:.2f}; box of the answer {own:.2f} of {len(tally.text_iou)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
