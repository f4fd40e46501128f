"""Pairs of drivers on one output, stopped and woken at random, with clocks an hour apart."""

from pathlib import Path

from benchmarks.faults.figures import Figure, Figures
from tests.faults.delivery_runs import PARTS, ROWS, DeliveryRuns, findings, recomputed, scratch_folder

PAIRS = 120
RETRY_PAIRS = 40


def measure() -> Figures:
    """Drivers that failed, double or overwritten commits and anything else that is wrong, rows computed twice."""
    failed = wrong = wasted = 0
    with DeliveryRuns() as runs, scratch_folder() as name:
        for pair in range(PAIRS):
            folder = Path(name) / str(pair)
            codes = runs.run(folder, "", "", seed=pair, pause_s=0.001, clocks=(0, (-3600, 3600)[pair % 2]))
            failed += codes != [0, 0]
            wrong += len(findings(folder))
            wasted += recomputed(folder)
        unsound = sum(_tried_again(runs, Path(name) / f"again-{pair}", pair) for pair in range(RETRY_PAIRS))
    return [
        Figure("pairs in which a driver failed", failed, 0, PAIRS),
        Figure("double, overwritten or missing commits, leftovers", wrong, 0, PAIRS * len(PARTS)),
        Figure("rows computed twice, without a word between them", 100 * wasted / (PAIRS * ROWS), 100, PAIRS * ROWS, unit="%"),
        Figure("findings after pairs that tried failed rows again", unsound, 0, RETRY_PAIRS),
    ]


def _tried_again(runs: DeliveryRuns, folder: Path, pair: int) -> int:
    """What is wrong after two drivers at once have computed the failed rows of a finished output again.

    One may refuse to go on, as the other has completed the folder meanwhile; the same command is then run once more.
    """
    runs.run(folder)
    runs.run(folder, "", "", seed=pair, pause_s=0.001, again=True)
    return len(findings(folder, again=True)) if runs.run(folder, again=True) == [0] else 1
