"""The ACS profile of a packaged model: `python -m benchmarks.make_profile [--model documents] [--write] [--published]`.

Draws candidates for where-is questions of the validation split, as a run without zoom draws them (`documents`: for lines of
drawn documents, as a run by default draws them); trains the regressor, finds the heads and weighs the joint score on one
range of its seeds, chooses the number of heads on another. The evaluation split is never looked at. Prints what every choice
is worth there; `--write` puts profile.json and iou_regressor.safetensors beside the weights. `--published` also trains the
published form of the regressor, AIR-S, and prints what it is worth.
"""

import argparse
import datetime
import hashlib
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean

import torch
import transformers

from benchmarks import sought_lines
from benchmarks.packaged_models import Bench, Drawn, Pick, Where, best_of_all, draw, picker, where
from ray_pipeline.calibration.heads import Learned, found_heads, learned_from, trained
from ray_pipeline.geometry import boxes
from ray_pipeline.methods.head_discovery import HeadRules, Origin, head_auroc, layer_attribution
from ray_pipeline.methods.labelled_queries import QueryReading
from ray_pipeline.methods.pool import IouRegressor
from ray_pipeline.methods.regressor_training import CORRECT, FeatureQuery, TrainingSettings, feature_query, train_regressor
from ray_pipeline.models.line_llava import LOCATE
from ray_pipeline.models.profiles import PROFILE, REGRESSOR, weights_digest
from ray_pipeline.models.weights import PACKAGED
from ray_pipeline.synthesis.evaluation import BUCKETS, cases
from ray_pipeline.synthesis.fonts import evaluation_fonts
from schemas.methods import RefineSettings, SelectSettings
from schemas.model import ModelSettings
from schemas.profile import COORDINATES, HeadProfile

LAYERS, HEADS, GRID = (0, 1, 2, 3), 6, 12  # all there are, on the tower's own grid
MEGAPIXELS = (0.5, 1.0)  # the model sees 96 x 96 px of a picture, whatever its size
FIT, SELECTION = 100_000, 500_000  # where each range of seeds starts within the split
TASKS = {"where_text": 1.0, "where": 0.2}  # share of `count`: boxes of texts are the ones that go wrong
DOCUMENTS, EACH = 8_100_000, 3  # where the seeds of drawn documents start, and lines to find on one page
TEMPERATURES = (0.6, 0.8, 1.0)
AGGREGATES = ("mean", "zscore", "rank")
BASELINES = ("medoid", "cluster", "likeliest", "least_entropy", "random")
SEED = 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", choices=tuple(PACKAGED))
    parser.add_argument("--count", type=int, default=750, help="pictures per size to fit on")
    parser.add_argument("--selection", type=int, default=200, help="pictures per size to choose settings on")
    parser.add_argument("--published", action="store_true", help="AIR-S too")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    folder = PACKAGED[options.model]
    zoom = "rel_att" if options.model == "documents" else "none"
    bench = Bench(ModelSettings(name=options.model), RefineSettings(method=zoom))
    for temperature in TEMPERATURES:
        agreement = fmean(pairwise_iou(one) for one in drawn(bench, SELECTION, 40, temperature))
        print(f"temperature {temperature}: mean pairwise IoU {agreement:.2f}, expected 0.5 to 0.8", flush=True)
    held_out = list(drawn(bench, SELECTION, options.selection))
    fitting: list[Learned] = []
    maps: list[FeatureQuery] = []
    for one in drawn(bench, FIT, options.count):
        if known := learned_from(one.known):
            fitting.append(known)
        if options.published and (query := one.known.labelled()):
            maps.append(feature_query(query, GRID, "finest_view"))
    print(f"fitting on {len(fitting)} queries, choosing on {len(held_out)}", flush=True)
    choosing = [known for one in held_out if (known := learned_from(one.known))]
    regressor, reached = trained(fitting, choosing, LAYERS, SEED)
    print(f"regressor: {reached}")
    print_heads([one.reading for one in fitting])
    calibrated_on = f"synthesis validation {', '.join(TASKS)}: {options.count} pictures a size from seed {FIT}"
    if options.model == "documents":
        calibrated_on = f"{len(BUCKETS) * options.count} lines of drawn documents, seeds from {DOCUMENTS + FIT}"
    # Four layers are fewer than the rules keep, so none needs to be weighed against the others.
    profile = found_heads(fitting, choosing, LAYERS, torch.ones(len(LAYERS)), origin(bench, folder, calibrated_on))
    print("heads:", " ".join(f"{head.coordinate}:{head.layer}.{head.head}" for head in profile.heads))
    for aggregate in AGGREGATES if profile.heads else ():
        settings = SelectSettings.model_validate({"method": "acs_free", "aggregate": aggregate})
        pick = picker(settings, profile, None)
        print(f"  {aggregate:7s} {figures([one.where.iou(pick(one)) for one in held_out])}", flush=True)
    print(
        "pointing heads:", " ".join(f"{head.coordinate}:{head.layer}.{head.head} {head.auroc:.2f}" for head in profile.pointing)
    )
    print("joint score:", profile.joint)
    print_figures(held_out, profile, regressor)
    if options.published:
        print_published(maps, held_out)
    if options.write:
        (folder / REGRESSOR).write_bytes(regressor.to_bytes())
        (folder / PROFILE).write_text(profile.model_dump_json(indent=2) + "\n")
    return 0


def drawn(bench: Bench, first: int, count: int, temperature: float = 0.8) -> Iterator[Drawn]:
    """Of every size, and of the tasks by their shares; shown whole, for a crop at a thing's edge would cut its box."""
    select = SelectSettings(method="medoid", temperature=temperature)
    return draw(bench, asked(bench, first, count), bench.plan(), select, LAYERS)


def asked(bench: Bench, first: int, count: int) -> Iterator[Where]:
    """What is to be found, the model's own kind of thing."""
    if bench.family.defaults.locate == LOCATE:
        for page in sought_lines.drawn(DOCUMENTS + first, len(BUCKETS) * count, EACH, evaluation_fonts()):
            yield from page.asked(LOCATE)
        return
    for task, share in TASKS.items():
        for bucket in BUCKETS:
            yield from map(where, cases("validation", bucket, round(share * count), MEGAPIXELS, task, first))


def print_published(maps: Sequence[FeatureQuery], held_out: Sequence[Drawn]) -> None:
    """AIR-S: its quality, its layers' weight, and what it selects."""
    trained = train_regressor(maps, LAYERS, HEADS, SEED, settings=TrainingSettings(batch=64, rate=3e-3))
    print(f"AIR-S: epoch {trained.epoch}, {trained.validation}")
    attribution = layer_attribution(trained.regressor, [query for one in islice(held_out, 60) if (query := one.known.labelled())])
    print("attribution of layers:", ", ".join(f"{value:.4f}" for value in attribution.tolist()))
    print_row("AIR-S", picker(SelectSettings(method="acs_learned"), None, trained.regressor), held_out)


def pairwise_iou(one: Drawn) -> float:
    """Mean over all pairs of answers with a box; 1 where there is no pair."""
    found = [answer.box_px for answer in one.generations if answer.box_px is not None]
    corners = torch.tensor(found, dtype=torch.float64).reshape(-1, 4)
    count = len(found)
    return float((boxes.iou(corners, corners).sum() - count) / (count * count - count)) if count > 1 else 1.0


def origin(bench: Bench, folder: Path, calibrated_on: str) -> Origin:
    """The template around a question is the prompt: the question itself differs from row to row."""
    prompt = str(bench.plan().prompt.question or "{question}")
    return Origin(
        model=weights_digest(folder), transformers=transformers.__version__, dtype="float32",
        prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest(), calibrated_on=calibrated_on,
        date=datetime.date.today().isoformat(),
    )  # fmt: skip


def print_heads(readings: Sequence[QueryReading]) -> None:
    auroc_CLH = head_auroc(readings, HeadRules().least_pairs)
    for name, auroc_LH in zip(COORDINATES, auroc_CLH, strict=True):
        layers = " | ".join(" ".join(f"{value:.2f}" for value in row) for row in auroc_LH.tolist())
        print(f"AUROC of {name}, layer by layer: {layers}")


def print_figures(held_out: Sequence[Drawn], profile: HeadProfile, regressor: IouRegressor) -> None:
    rows: dict[str, Pick] = {"greedy": picker(SelectSettings())}
    for method in (*BASELINES, "inside_mass", "acs_free", "acs_learned"):
        rows[method] = picker(SelectSettings.model_validate({"method": method}), profile, regressor)
    rows["oracle"] = best_of_all
    for name, pick in rows.items():
        print_row(name, pick, held_out)


def print_row(name: str, pick: Pick, held_out: Sequence[Drawn]) -> None:
    told = []
    for task in dict.fromkeys(one.where.task for one in held_out):
        for bucket in (*BUCKETS, "all"):
            own = [one for one in held_out if one.where.task == task and bucket in (one.where.size, "all")]
            told.append(figures([one.where.iou(pick(one)) for one in own]))
    print(f"{name:14s} {'  '.join(told)}", flush=True)


def figures(ious: Sequence[float]) -> str:
    """Acc@0.5 and mean IoU."""
    return f"{fmean(value >= CORRECT for value in ious):.3f} {fmean(ious):.3f}" if ious else "-"


if __name__ == "__main__":
    sys.exit(main())
