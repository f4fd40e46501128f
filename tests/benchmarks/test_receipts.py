"""Words are counted as the benchmark says, and a missed bar is a failure."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import receipts
from benchmarks.receipts import Page, Score, figures, pages_of, scored, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Total: RM 12.50", ["TOTAL", "RM", "12.50"]),
        ("a/B-c,3.0.1", ["A", "B", "C", "3.0.1"]),
        ("Tea tea\nTEA", ["TEA", "TEA", "TEA"]),
        ("Café ñ €!", ["CAF"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == Counter(expected)


def test_a_word_counts_as_often_as_it_is_there() -> None:
    score = scored("TEA TEA 2.00 CAKE", Page("1", Path("1.jpg"), "tea 2.00 2.00 milk"), 1.0, 2.0)
    assert (score.right, score.said, score.there) == (2, 4, 4)
    assert score.f1 == pytest.approx(0.5)
    assert scored("", Page("2", Path("2.jpg"), ""), 0.0, 0.0).f1 == 1.0


def test_pooled_words_weigh_long_pages_more() -> None:
    found = figures("x", [Score(90, 100, 100, 0.2, 0.3), Score(0, 10, 10, 0.4, 0.5)])
    assert found == {"x word-F1": 0.45, "x pooled": 0.8182, "x processor s": 0.3, "x median s": 0.3, "x wall s": 0.4}


def test_pages_come_from_the_parquet_file(tmp_path: Path) -> None:
    rows = [{"id": k, "image_uri": f"images/{k}.jpg", "references": [f"text {k}", "other"]} for k in "ab"]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ocr.parquet")
    assert pages_of(tmp_path, 1) == [Page("a", tmp_path / "images/a.jpg", "text a")]


class Exact:
    """Reads without error, at a price."""

    def __init__(self, processor_s: float) -> None:
        self.processor_s = processor_s

    def read(self, page: Page) -> Score:
        return scored(page.reference, page, self.processor_s, 9.0)


@pytest.mark.parametrize(
    ("installed", "ours_s", "ours_says", "missed"),
    [(True, 1.0, "a b c", False), (True, 2.1, "a b c", True), (False, 0.1, "a b c", True), (True, 1.0, "x", True)],
)
def test_bars(monkeypatch: pytest.MonkeyPatch, installed: bool, ours_s: float, ours_says: str, missed: bool) -> None:
    pages = [Page("1", Path("1.jpg"), "a b c")]
    monkeypatch.setattr(receipts.shutil, "which", lambda _: "/usr/bin/tesseract" if installed else None)
    monkeypatch.setattr(receipts, "tesseract", lambda page: scored("a", page, 1.0, 1.0))
    ours = Exact(ours_s)
    monkeypatch.setattr(ours, "read", lambda page: scored(ours_says, page, ours_s, 9.0))
    found, verdict = receipts.compare(ours, pages)
    assert verdict is missed
    assert ("times tesseract" in found) is installed
