"""The bars of the size study: what of the gap is recovered on small texts, and what is lost on large ones."""

import pytest

from benchmarks.sizes import SIZES, bars
from ray_pipeline.scoring.conditions import LAYOUTS, Outcome, study_tables, study_text


def outcomes(size: str, whole: int, zoomed: int, best: int) -> list[Outcome]:
    names = {"whole": whole, "zoomed": zoomed, "true_crop": best}
    return [Outcome(f"{size}{k}", size, {name: k < count for name, count in names.items()}) for k in range(100)]


@pytest.mark.parametrize(
    ("small", "large", "recovered", "lost", "held"),
    [
        ((10, 82, 100), (90, 89, 95), 0.8, 0.01, (True, True)),
        ((10, 81, 100), (90, 88, 95), 71 / 90, 0.02, (False, False)),
        ((50, 60, 50), (90, 95, 95), 0.0, -0.05, (False, True)),  # no gap: nothing to recover
    ],
)
def test_bars(
    small: tuple[int, int, int], large: tuple[int, int, int], recovered: float, lost: float, held: tuple[bool, bool]
) -> None:
    found = study_tables(outcomes("small", *small) + outcomes("large", *large), LAYOUTS["zooming"], 100, 0)
    checked = list(bars(found))
    assert [figure for _, figure, _, _ in checked] == pytest.approx([recovered, lost], abs=1e-6)
    assert tuple(holds for *_, holds in checked) == held
    assert "small (capitals 2-4 of 96 px)" in study_text(found, SIZES)
