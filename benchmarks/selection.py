"""What FOCUS and CHOOSE are worth: `python -m benchmarks.selection [--count 100] [--split evaluation]`.

Accuracy of the embedded model, as many pictures of small, medium and large text each:
FOCUS     texts read exactly, and processor time against no zoom, one method after the other on every picture: without
          zoom, by each method, by their mixture, and by the mixture behind the model's own gate, which also leaves
          methods unread once a map is clear.
regions   counting questions with one and with three crops; what is counted was never part of this model's training.
CHOOSE    boxes of texts (median 0.4, 1.5 and 6.5 % of the picture), shown whole: the greedy answer, every selector and the
          best of all, on one pool of candidates per question. "Zoomed" is the same, always behind the crop, on 25 a size.
Pictures have 0.5 to 3 megapixels (1 for boxes and counts), to save time; `benchmarks.zoom` goes to 12.
Differences to greedy come with 95 % intervals by paired bootstrap. Ends with one line of figures; exit 1 where a bar is
missed.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

import numpy as np
import torch

from benchmarks.packaged_models import Bench, Pick, best_of_all, contained_share, draw, picker, picture_of, where
from ray_pipeline.methods.box_regressor import read_regressor
from ray_pipeline.methods.regressor_training import CORRECT
from ray_pipeline.models.profiles import find_profile, regressor_bytes
from ray_pipeline.models.weights import EMBEDDED
from ray_pipeline.perceiver import Plan
from ray_pipeline.synthesis.evaluation import BUCKETS, Case, cases
from schemas.methods import RefineSettings, SelectSettings
from schemas.model import ModelSettings

MEGAPIXELS, MEGAPIXELS_CHOOSE = (0.5, 3.0), (0.5, 1.0)
GATES = (0.7, 0.8, 0.9, 0.95)
SINGLE = ("rel_att", "grad_att", "pure_grad")
COUNTED, ZOOMED = 24, 25  # pictures per size of the two side tables
RESAMPLES = 10_000
LAYERS = (0, 1, 2, 3)
BASELINES = ("greedy", "random", "mean", "median", "medoid", "cluster", "likeliest", "least_entropy", "inside_mass")
ATTENTION = {
    "acs_free": {"method": "acs_free"},  # the default aggregate
    **{f"acs_free {name}": {"method": "acs_free", "aggregate": name} for name in ("mean", "zscore", "rank", "joint")},
    "acs_learned": {"method": "acs_learned"},
}


@dataclass(frozen=True)
class Bar:
    """A figure, what it should be, whether it is."""

    name: str
    figure: float
    bar: str
    holds: bool


@dataclass
class Read:
    """Of every picture: whether its text was read exactly, the processor time it took, whether the crop holds the text.

    `first` is the confidence of the answer before zooming and whether that answer was right, where there was one.
    """

    exact: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)
    first: list[tuple[float, bool]] = field(default_factory=list)

    def behind(self, gate: float, plain: "Read") -> tuple[float, float]:
        """Share read exactly and cost over this, had the first answer stood from this confidence on at the cost of `plain`."""
        stands = [sure >= gate for sure, _ in self.first]
        exact = [right if kept else own for kept, (_, right), own in zip(stands, self.first, self.exact, strict=True)]
        spent = [base if kept else own for kept, base, own in zip(stands, plain.seconds, self.seconds, strict=True)]
        return fmean(exact), sum(spent) / sum(self.seconds)


def focus(bench: Bench, split: str, count: int) -> tuple[dict[str, Read], list[Bar]]:
    """Every method on every picture in turn: what the machine does meanwhile falls on all alike."""
    plans = {"none": bench.plan(method="none"), **{name: bench.plan(method=name, gate=1.0) for name in (*SINGLE, "auto")}}
    plans["gated auto"] = bench.plan(method="auto")
    read = {name: Read() for name in plans}
    for bucket in BUCKETS:
        for number, case in enumerate(cases(split, bucket, count, MEGAPIXELS)):
            order = list(plans)
            for name in order[number % len(order) :] + order[: number % len(order)]:
                _read(bench, case, plans[name], read[name])
    print_focus(read, count)
    gated, auto = read["gated auto"], read["auto"]
    lost, cost = fmean(gated.exact) - fmean(auto.exact), sum(gated.seconds) / sum(auto.seconds)
    return read, [
        Bar("gated auto, exact over ungated", lost, ">= 0", lost >= 0),
        Bar("gated auto, cost over ungated", cost, "<= 0.7", cost <= 0.7),
    ]


def _read(bench: Bench, case: Case, plan: Plan, into: Read) -> None:
    picture = picture_of(case)
    started = time.process_time()
    seen = bench.seen(picture, case.question.text, plan).perception
    into.seconds.append(time.process_time() - started)
    into.exact.append(seen.answer == case.question.answer)
    if seen.baseline_confidence is not None:
        into.first.append((seen.baseline_confidence, seen.baseline_answer == case.question.answer))
    crops = seen.refinement.crops_px
    into.held.append(any(contained_share(case.question.box_px, crop) >= 0.9 for crop in crops))


def print_focus(read: dict[str, Read], count: int) -> None:
    print(f"FOCUS: read exactly ({', '.join(BUCKETS)}, all; n = {count} each), crop holds the text, time over no zoom")
    plain = read["none"].seconds
    for name, one in read.items():
        parts = [fmean(one.exact[k : k + count]) for k in range(0, len(one.exact), count)]
        ratio = median(own / base for own, base in zip(one.seconds, plain, strict=True))
        exact = "  ".join(f"{part:.2f}" for part in (*parts, fmean(one.exact)))
        print(
            f"  {name:10s} {exact}   holds {fmean(one.held):.2f}   median {ratio:.2f}, total {sum(one.seconds) / sum(plain):.2f}"
        )
    for gate in GATES:
        share, cost = read["auto"].behind(gate, read["none"])
        print(f"  auto behind a gate of {gate} on first answers alone: exact {share:.3f}, cost {cost:.2f} of ungated")
    best = max(SINGLE, key=lambda name: fmean(read[name].exact))
    difference, low, high = bootstrap(read["auto"].exact, read[best].exact)
    print(f"  auto over {best}, the best of its methods: {difference:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}", flush=True)


def counting(bench: Bench, split: str, count: int) -> None:
    """One crop holds one thing: does a count gain by three? Only if the model can count."""
    plans = {
        "no zoom": bench.plan(method="none"),
        "1 region": bench.plan(gate=1.0),
        "3 regions": bench.plan(gate=1.0, regions=3),
    }
    told: dict[str, list[tuple[str, str, int]]] = {name: [] for name in plans}
    for bucket in BUCKETS:
        for case in cases(split, bucket, count, MEGAPIXELS_CHOOSE, "count"):
            for name, plan in plans.items():
                seen = bench.seen(picture_of(case), case.question.text, plan).perception
                told[name].append((seen.answer, case.question.answer, len(seen.refinement.crops_px)))
    print(f"regions: {count * len(BUCKETS)} counting questions, a task this model was never trained on")
    for name, answers in told.items():
        exact = sum(answer == truth for answer, truth, _ in answers)
        numbers = [(int(answer), int(truth)) for answer, truth, _ in answers if answer.isascii() and answer.isdigit()]
        near = sum(abs(answer - truth) <= 1 for answer, truth in numbers)
        crops = fmean(found for *_, found in answers)
        print(f"  {name:10s} exact {exact}, within one {near}, a number at all {len(numbers)}; crops {crops:.2f}", flush=True)


def choosing(split: str, count: int) -> list[Bar]:
    """Every selector on one pool per question."""
    select = SelectSettings(method="acs_learned")
    profile, stored = find_profile(EMBEDDED, select), regressor_bytes(EMBEDDED, select)
    regressor = read_regressor(stored or b"")
    settings = {name: {"method": name} for name in BASELINES} | ATTENTION
    picks = {name: picker(SelectSettings.model_validate(one), profile, regressor) for name, one in settings.items()}
    picks["oracle"] = best_of_all
    bench = Bench(ModelSettings(name="embedded"), RefineSettings())
    whole = ious_of(bench, bench.plan(method="none"), split, count, picks)
    print_choosing("whole picture", whole)
    print_choosing("zoomed", ious_of(bench, bench.plan(gate=1.0), split, min(count, ZOOMED), picks))
    return list(bars(whole))


def ious_of(bench: Bench, plan: Plan, split: str, count: int, picks: dict[str, Pick]) -> dict[str, list[float]]:
    """Of every selector's box, question by question."""
    ious: dict[str, list[float]] = {name: [] for name in picks}
    for bucket in BUCKETS:
        some = cases(split, bucket, count, MEGAPIXELS_CHOOSE, "where_text")
        for one in draw(bench, map(where, some), plan, SelectSettings(method="medoid"), LAYERS):
            for name, pick in picks.items():
                ious[name].append(one.where.iou(pick(one)))
    return ious


def print_choosing(shown: str, ious: dict[str, list[float]]) -> None:
    first, count = right(ious["greedy"]), len(ious["greedy"]) // len(BUCKETS)
    print(f"CHOOSE, {shown}: IoU >= 0.5 ({', '.join(BUCKETS)}, all; n = {count} each), mean IoU, both over greedy")
    for name, own in ious.items():
        parts = [fmean(right(own[k : k + count])) for k in range(0, len(own), count)]
        exact = "  ".join(f"{part:.2f}" for part in (*parts, fmean(right(own))))
        gains = [bootstrap(right(own), first), bootstrap(own, ious["greedy"])]
        told = "   ".join(f"{gain:+.3f} ({low:+.3f} to {high:+.3f})" for gain, low, high in gains)
        print(f"  {name:16s} {exact}   {fmean(own):.3f}   {told}", flush=True)


def bars(ious: dict[str, list[float]]) -> Iterator[Bar]:
    """Relative gains over greedy, and neither selector below the best that needs no attention model."""
    accuracy = {name: fmean(right(own)) for name, own in ious.items()}
    greedy, best = accuracy["greedy"], max(accuracy[name] for name in BASELINES)
    learned, free = accuracy["acs_learned"] / greedy - 1, accuracy["acs_free"] / greedy - 1
    near = accuracy["acs_learned"] >= 0.9 * accuracy["oracle"]
    yield Bar("oracle, relative gain over greedy", accuracy["oracle"] / greedy - 1, "the head-room", True)
    yield Bar("acs_learned, relative gain over greedy", learned, ">= 0.2, or 0.9 oracle", learned >= 0.2 or near)
    yield Bar("acs_free, relative gain over greedy", free, ">= 0.08", free >= 0.08)
    for name in ("acs_learned", "acs_free"):
        difference = accuracy[name] - best
        yield Bar(f"{name} over the best baseline", difference, ">= 0", difference >= 0)


def right(ious: Sequence[float]) -> list[bool]:
    """Whether each box counts as right."""
    return [value >= CORRECT for value in ious]


def bootstrap(own: Sequence[float], base: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean difference, paired, with its 95 % interval over questions drawn again."""
    difference = np.asarray(own, float) - np.asarray(base, float)
    places = np.random.default_rng(seed).integers(0, len(difference), (RESAMPLES, len(difference)))
    low, high = np.quantile(difference[places].mean(1), (0.025, 0.975))
    return float(difference.mean()), float(low), float(high)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="pictures per size")
    parser.add_argument("--split", default="evaluation", choices=("evaluation", "validation"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    bench = Bench(ModelSettings(name="embedded"), RefineSettings())
    read, checked = focus(bench, options.split, options.count)
    counting(bench, options.split, min(options.count, COUNTED))
    checked += choosing(options.split, options.count)
    for one in checked:
        print(f"{'ok    ' if one.holds else 'MISSED'} {one.name:40s} {one.figure:+6.3f}  {one.bar}")
    figures = {f"exact {name}": round(fmean(own.exact), 3) for name, own in read.items()}
    print(json.dumps(figures | {one.name: round(one.figure, 3) for one in checked}))
    return 0 if all(one.holds for one in checked) else 1


if __name__ == "__main__":
    sys.exit(main())
