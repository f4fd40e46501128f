"""What probing costs: `python -m benchmarks.engine [--width 512 --width 1024] [--rounds 3]`.

A LLaVA of random weights in the published form, on CPU: refined answers by rel-att and grad-att against a plain two-image
query and against the routes as published; pure-grad's time and memory; ten ACS candidates with their attention rows
against ten returned sequences and eager teacher forcing; memory; the box search. Both sides of every ratio are timed in
turn in one process, several rounds, and the median of the per-round ratios is taken. Peak memory is measured in processes
of their own, above the loaded model. Ends with one line of figures; exit 1 where a bar is missed.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import cast

import numpy as np
import torch

from benchmarks.llava_form import GENERIC, QUESTION, Published, save_folder
from ray_pipeline.batching import converse
from ray_pipeline.methods.crop_box import select_crop
from ray_pipeline.models.contract import Encode, ReadPixelGradient, Sample, Sampling, VisualTokens
from ray_pipeline.models.decoder_family import DecoderFamily
from ray_pipeline.models.families import load_family
from ray_pipeline.perceiver import Plan, perceive
from schemas.methods import RefineSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture

LAYERS, ANSWER_TOKENS, CANDIDATES, CANDIDATE_TOKENS = 16, 20, 10, 24
LAYER = LAYERS * 14 // 32  # 14 of 32 as published
# 24 tokens: [0.40, 0.55, 0.50, 0.65] in this family's own tokens
ROWS = tuple(range(LAYERS // 2, LAYERS, 2))
WIDTH_PX, HEIGHT_PX = 1500, 1200
Figure = tuple[str, float, float, bool]  # name, figure, bar, and whether the figure shall be at most the bar
MEMORY = ("plain", "rel_att", "grad_att", "pure_grad", "published_pure_grad")


class Sides:
    """Both sides of every comparison on the same weights and picture."""

    def __init__(self, folder: Path, attention: str) -> None:
        settings = ModelSettings(name=str(folder), device="cpu")
        self.views = ViewSettings(fit="centre_crop")  # as published
        self.family = cast(DecoderFamily, load_family(settings, self.views, PromptSettings(max_new_tokens=ANSWER_TOKENS)))
        self.family.end_ids = frozenset()  # every answer as long as the published one's
        self.published = Published.load(folder, attention, LAYER)
        noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
        self.picture = Picture(np.kron(noise, np.ones((HEIGHT_PX // 30, WIDTH_PX // 40, 1), np.uint8)), "")
        self.whole: Box = (0.0, 0.0, float(WIDTH_PX), float(HEIGHT_PX))
        self.crop: Box = (300.0, 200.0, 636.0, 536.0)

    def pixels(self, *boxes: Box) -> torch.Tensor:
        views = self.family.views(Encode(self.picture, boxes), 0)
        return torch.stack([view.pixels.reshape(3, 336, 336) for view in views])

    def shown(self) -> VisualTokens:
        return self.family.encode([Encode(self.picture, (self.whole,))])[0]

    def plain(self) -> None:
        self.published.answer(self.pixels(self.whole, self.crop), QUESTION, ANSWER_TOKENS)

    def refined(self, method: str) -> None:
        refine = RefineSettings(
            method=method,
            layer=LAYER,
            base_window_px=336,
            first_answer=False,
            keep="refined",
            gate=1.0,
        )
        plan = Plan(self.views, refine, PromptSettings(max_new_tokens=ANSWER_TOKENS), self.family.defaults)
        ended = converse(self.family, {0: perceive(self.picture, QUESTION, plan)})[0]
        if isinstance(ended, Exception):
            raise ended
        if len(ended.perception.refinement.crops_px) != 1:
            raise RuntimeError(f"no crop was chosen: {ended.perception.refinement.reason}; the second view would be missing")

    def as_published(self, method: str) -> None:
        getattr(self.published, method)(self.pixels(self.whole))
        self.plain()

    def pure_grad(self) -> None:
        self.family.read_pixel_gradient([ReadPixelGradient(self.shown_once(), (QUESTION, GENERIC))])

    def shown_once(self) -> VisualTokens:
        if not hasattr(self, "_shown"):
            self._shown = self.shown()
        return self._shown

    def candidates(self) -> None:
        sampling = Sampling(CANDIDATES, 0.8, 0.95, seed=0, greedy_first=False)
        self.family.sample([Sample(self.shown(), QUESTION, CANDIDATE_TOKENS, sampling, ROWS)])

    def published_pure_grad(self) -> None:
        self.published.pure_grad(self.pixels(self.whole))

    def published_candidates(self) -> None:
        self.published.candidates(self.pixels(self.whole), CANDIDATES, CANDIDATE_TOKENS, ROWS)


def ratio(ours: Callable[[], None], theirs: Callable[[], None], rounds: int) -> tuple[float, float, float]:
    """Median of ours / theirs over interleaved rounds, and both medians in seconds."""
    times: list[tuple[float, float]] = []
    for k in range(rounds):
        pair = {}
        for side in (ours, theirs) if k % 2 else (theirs, ours):
            started = time.perf_counter()
            side()
            pair[side] = time.perf_counter() - started
        times.append((pair[ours], pair[theirs]))
    return median(a / b for a, b in times), median(a for a, _ in times), median(b for _, b in times)


def peak_bytes(folder: Path, what: str) -> int:
    """Peak resident memory above the loaded model, of a process that does one thing once."""
    command = [sys.executable, "-m", "benchmarks.engine", "--memory", what, "--folder", str(folder)]
    honest = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # freed tensors go back at once, on both sides
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=honest).stdout.split()[-1])


def measure_memory(folder: Path, what: str) -> int:
    """Do one thing twice with a loaded model and print how far resident memory rose the second time."""
    torch.set_num_threads(1)
    sides = Sides(folder, "eager" if what.startswith("published") else "sdpa")
    work: dict[str, Callable[[], object]] = {
        "plain": sides.plain,
        "rel_att": lambda: sides.refined("rel_att"),
        "grad_att": lambda: sides.refined("grad_att"),
        "pure_grad": sides.pure_grad,
        "published_pure_grad": sides.published_pure_grad,
    }
    work[what]()  # weights are read in, libraries loaded
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _status_bytes("VmRSS")
    work[what]()
    print(_status_bytes("VmHWM") - before)
    return 0


def _status_bytes(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])


def box_search_s() -> float:
    """Median seconds of the corrected search on a 96 x 96 map."""
    map_YX = torch.rand(96, 96, generator=torch.Generator().manual_seed(1)) + 0.1
    times = []
    for _ in range(50):
        started = time.perf_counter()
        select_crop(map_YX, 4000, 3000, 336)
        times.append(time.perf_counter() - started)
    return median(times)


def measure_width(width: int, rounds: int) -> list[Figure]:
    """All figures of one width."""
    with tempfile.TemporaryDirectory() as name:
        folder = save_folder(Path(name) / "model", width, LAYERS)
        return timings(folder, width, rounds) + memories(folder, width)


def timings(folder: Path, width: int, rounds: int) -> list[Figure]:
    """Every ratio of times."""
    found: list[Figure] = []
    ours, published = Sides(folder, "sdpa"), Sides(folder, "eager")
    for warm in (ours.plain, lambda: ours.refined("rel_att")):
        warm()
    for method, faster in (("rel_att", 2.0), ("grad_att", 1.7)):
        refined, as_published = partial(ours.refined, method), partial(published.as_published, method)
        over, one, other = ratio(refined, ours.plain, rounds)
        _say(f"{method}, refined / plain two-image query", over, one, other, f"{ANSWER_TOKENS} tokens")
        found.append((f"{method} over plain, {width}", over, 1.10, True))
        under, one, other = ratio(refined, as_published, max(1, rounds // 2))
        _say(f"{method}, refined / as published", under, one, other, f"{ANSWER_TOKENS} tokens")
        found.append((f"{method} times faster than published, {width}", 1 / under, faster, False))
    share, one, other = ratio(ours.pure_grad, published.published_pure_grad, rounds)
    _say("pure_grad, map / as published", share, one, other, "no answer")
    found.append((f"pure_grad of published time, {width}", share, 0.6, True))
    many, one, other = ratio(ours.candidates, published.published_candidates, 1)
    _say(f"{CANDIDATES} candidates with rows / as published", many, one, other, f"{CANDIDATE_TOKENS} tokens each")
    found.append((f"ACS times faster than published, {width}", 1 / many, 10.0, False))
    return found


def memories(folder: Path, width: int) -> list[Figure]:
    """Every ratio of peak memory above the loaded model."""
    above = {what: peak_bytes(folder, what) / 2**20 for what in MEMORY}
    print("  peak memory above the loaded model, MiB: " + ", ".join(f"{k} {v:.0f}" for k, v in above.items()), flush=True)
    probe = max(above["rel_att"], above["grad_att"]) / above["plain"]
    return [
        (f"probe memory over plain, {width}", probe, 1.25, True),
        (f"pure_grad of published memory, {width}", above["pure_grad"] / above["published_pure_grad"], 0.35, True),
    ]


def _say(what: str, figure: float, ours: float, theirs: float, answer: str) -> None:
    print(f"  {what:46s} {figure:6.3f}   {ours:7.2f} s / {theirs:7.2f} s   ({answer})", flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, action="append", help="decoder widths; 512 and 1024 by default")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds of every ratio")
    parser.add_argument("--memory", choices=MEMORY, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.memory:
        return measure_memory(options.folder, options.memory)
    torch.set_num_threads(1)
    found: list[Figure] = []
    for width in options.width or (512, 1024):
        print(f"width {width}, {LAYERS} layers, 576 image tokens, layer {LAYER}, picture {WIDTH_PX} x {HEIGHT_PX}", flush=True)
        found += measure_width(width, options.rounds)
    found.append(("box search on 96 x 96, ms", 1000 * box_search_s(), 1.0, True))
    checked = [(name, figure, bar, figure <= bar if most else figure >= bar) for name, figure, bar, most in found]
    for name, figure, bar, holds in checked:
        print(f"{'ok    ' if holds else 'MISSED'} {name:44s} {figure:7.3f}  bar {bar}")
    print(json.dumps({name: round(figure, 3) for name, figure, _, _ in checked}))
    return 0 if all(holds for *_, holds in checked) else 1


if __name__ == "__main__":
    sys.exit(main())
