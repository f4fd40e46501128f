"""The report page in a real browser: every control, thousands of rows, naughty texts, keys, dark and narrow windows."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ray_pipeline.delivery.escapes import visible
from ray_pipeline.delivery.report.images import Images
from ray_pipeline.delivery.report.page import Report, report_page
from ray_pipeline.delivery.report.shown_row import ShownRow
from tests.faults.naughty_strings import NAUGHTY
from tests.faults.page_elements import FAILED, FULL, box, columns_with, rows_with

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH"),
]
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"
TAGS = "(place) => [...document.querySelectorAll(place)].map((one) => `${one.tagName} ${one.getAttributeNames()}`)"


@dataclass
class Opened:
    """A page in the browser and everything it said, asked for or opened."""

    page: Any
    troubles: list[str] = field(default_factory=list)

    def ids(self) -> list[str]:
        """Of the rows in the list, in their order."""
        self.settle()
        labels: list[str] = self.page.eval_on_selector_all("article", "all => all.map((one) => one.getAttribute('aria-label'))")
        return [label.removeprefix("row ") for label in labels]

    def settle(self) -> None:
        self.page.evaluate(SETTLED)

    def matching(self) -> str:
        self.settle()
        return str(self.page.text_content("#matching"))

    def slide(self, control: str, value: int) -> None:
        self.page.eval_on_selector(
            control, "(one, value) => { one.value = value; one.dispatchEvent(new Event('input', { bubbles: true })); }", value
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER)
        yield started
        started.close()


@contextmanager
def opened(browser: Any, file: Path, html: str, **window: Any) -> Iterator[Opened]:
    file.write_text(html, encoding="utf-8")
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | window))
    seen = Opened(context.new_page())
    seen.page.on("console", lambda said: seen.troubles.append(f"console: {said.text}"))
    seen.page.on("pageerror", lambda error: seen.troubles.append(f"error: {error}"))
    seen.page.on("dialog", lambda dialog: (seen.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    seen.page.on("popup", lambda popup: seen.troubles.append(f"popup: {popup.url}"))
    seen.page.on("request", lambda one: _note(seen.troubles, one.url, file))
    seen.page.goto(file.as_uri())
    seen.settle()
    yield seen
    context.close()


def _note(troubles: list[str], url: str, file: Path) -> None:
    if not url.startswith(("data:image/", file.as_uri())):
        troubles.append(f"request: {url}")


def row(number: int, **columns: Any) -> ShownRow:
    """A row whose texts tell its number; every field can be another."""
    plain = columns_with(f"row-{number}") | {"question": f"question {number}", "answer": f"answer {number}", "page": None}
    return replace(FULL, number=number, columns=plain | columns, right=None, truth=None, images=None, scores={})


def zoomed(method: str) -> dict[str, Any]:
    return {"method": method, "crops": [box(12, 16, 60, 60)], "used": True, "reason": "surer"}


ROWS = [
    replace(row(0, answer_confidence=0.2, refinement=zoomed("rel_att")), right=True),
    replace(row(1, answer_confidence=0.9, refinement=zoomed("grad_att")), right=False),
    row(2, answer_confidence=None, refinement=zoomed("rel_att"), baseline_answer="answer 2"),
    row(10, answer_confidence=0.5, refinement=zoomed("rel_att"), baseline_answer=None, question="Was heißt STRASSE?"),
    replace(FAILED, number=11),
]


def test_every_control(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "r.html", report_page(Report("Run", ROWS))) as seen:
        page = seen.page
        assert seen.ids() == ["row-0", "row-1", "row-2", "row-10", "row-2"] and seen.matching() == "5 of 5 rows"
        chips = {
            chip.strip()
            for chip in page.eval_on_selector_all("#statuses label, #methods label", "all => all.map((a) => a.innerText)")
        }
        assert chips == {"ok 4", "fetch_timeout 1", "rel_att 3", "grad_att 1", "none reached 1"}
        for order, ids in [("least", "row-0 row-10 row-1 row-2 row-2"), ("most", "row-1 row-10 row-0 row-2 row-2"),
                           ("id", "row-0 row-1 row-2 row-2 row-10"), ("manifest", "row-0 row-1 row-2 row-10 row-2")]:  # fmt: skip
            page.select_option("#order", order)
            assert seen.ids() == ids.split()
        page.get_by_label("fetch_timeout").uncheck()
        assert seen.ids() == ["row-0", "row-1", "row-2", "row-10"] and "none reached 0" in page.inner_text("#methods")
        page.get_by_label("rel_att").uncheck()
        assert (
            seen.ids() == ["row-1"]
            and page.inner_text("#statuses").split()[-1] == "1"
            and "rel_att 3" in page.inner_text("#methods")
        )
        page.click("text=Reset")
        assert seen.matching() == "5 of 5 rows"
        page.check("#changed")
        assert seen.ids() == ["row-0", "row-1"] and page.text_content("#changed-count") == "2"
        page.uncheck("#changed")
        page.select_option("#verdict", "wrong")
        assert seen.ids() == ["row-1"]
        page.select_option("#verdict", "right")
        assert seen.ids() == ["row-0"]
        page.select_option("#verdict", "any")
        seen.slide("#least-sure", 40)
        assert seen.ids() == ["row-1", "row-10"] and page.text_content("#unsure-count") == "2 without"
        seen.slide("#most-sure", 60)
        assert seen.ids() == ["row-10"] and page.text_content("#most-shown") == "60%"
        seen.slide("#least-sure", 95)
        assert seen.ids() == ["row-1"], "the two ends change places"
        page.click("text=Reset")
        page.fill("#search", "strasse  WAS")
        assert seen.ids() == ["row-10"]
        page.fill("#search", "took 60")
        assert seen.matching() == "1 of 5 rows"
        page.fill("#search", "no such words")
        assert seen.matching() == "0 of 5 rows" and page.is_visible("#nothing")
        page.fill("#search", "")
        assert seen.matching() == "5 of 5 rows" and not page.is_visible("#nothing")
        page.press("#search", "Enter")
        assert seen.matching() == "5 of 5 rows" and seen.troubles == [], "the form is sent nowhere"


def test_layers_details_and_what_lights_up(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "r.html", report_page(Report("Run", [FULL]))) as seen:
        page = seen.page
        for layer in ("answer", "crops", "regions", "truth", "map", "candidates"):
            drawn = ".map" if layer == "map" else f".box-{layer}"
            assert page.is_visible(drawn) is (layer != "candidates")
            page.click(f"#layers input[value={layer}]")
            seen.settle()
            assert page.is_visible(drawn) is (layer == "candidates")
        page.click("summary:has-text('candidate')")
        cells = page.eval_on_selector_all("tr.chosen td", "all => all.map((one) => one.innerText)")
        assert cells == ["✓ chosen", "row-1", "-1.500", "0.750", "0.500"]
        page.hover("tr.chosen")
        assert page.eval_on_selector_all(".lit", "all => all.map((one) => one.dataset.key)") == ["candidate-0", "candidate-0"]
        page.focus("li[data-key=region-0]")
        assert page.eval_on_selector_all(".lit", "all => all.map((one) => one.tagName)") == ["rect", "LI", "LI"]
        attribute = page.locator("li.attribute")
        assert (attribute.inner_text().split(), page.locator(".box-regions").count()) == (["row-1:", "row-1", "?", "25%"], 1)
        page.click("summary:has-text('Provenance')")
        assert "s3://bucket/a.png" in page.inner_text("details dl") and "120 × 80 px" in page.inner_text("details dl")
        page.fill("#search", "no such words")
        seen.settle()
        page.fill("#search", "")
        seen.settle()
        assert page.locator("article details[open]").count() == 2, "what was unfolded stays so"
        assert page.eval_on_selector(".stack img", "one => one.complete && one.naturalWidth") == 12
        assert seen.troubles == []


PRESSED = [
    ("PageDown", 1),
    ("PageDown", 2),
    ("PageUp", 1),
    ("Control+End", 39),
    ("PageDown", 39),
    ("PageUp", 38),
    ("Control+Home", 0),
]


def test_keys(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "r.html", report_page(Report("Run", [row(k) for k in range(40)]))) as seen:
        page = seen.page
        here = "document.activeElement.closest('article')?.getAttribute('aria-label')"
        page.focus("#layers input[value=map]")
        page.keyboard.press("Space")
        seen.settle()
        assert not page.is_checked("#layers input[value=map]")
        page.keyboard.press("Tab")
        assert page.evaluate(here) == "row row-0"
        for key, expected in PRESSED:
            page.keyboard.press(key)
            assert page.evaluate(here) == f"row row-{expected}"
            assert page.evaluate("document.activeElement.getBoundingClientRect().top < innerHeight")
            assert (
                page.evaluate(
                    "document.activeElement.childElementCount > 0 && document.activeElement.getAttribute('aria-setsize')"
                )
                == "40"
            )
        page.keyboard.press("Shift+Tab")
        assert page.evaluate("document.activeElement.tagName") == "INPUT", "the list is one stop of the tab key"
        assert seen.troubles == []


def jpeg(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (120, 80), (number % 256, number // 256 % 256, 90)).save(file, "JPEG")
    return file.getvalue()


IN_THE_WINDOW = """all => all.map((one) => [one, one.getBoundingClientRect()])
    .filter(([, at]) => at.top < innerHeight && at.bottom > 0).map(([one]) => [one.childElementCount, one.innerText])"""


def test_five_thousand_rows_are_scrolled_through(browser: Any, tmp_path: Path) -> None:
    rows = [
        replace(row(k, answer_confidence=k / 5000, refinement=zoomed("rel_att")), images=Images(jpeg(k))) for k in range(5000)
    ]
    html = report_page(Report("Run", rows))
    assert len(html) / len(rows) < 4000, "bytes per row, with a picture of 700"
    with opened(browser, tmp_path / "r.html", html) as seen:
        page, filled, reached = seen.page, [], set()
        height = page.evaluate("document.documentElement.scrollHeight")
        assert seen.matching() == "5000 of 5000 rows" and height > 5000 * 200
        for step in [*range(21), 20]:  # the end twice: rows that come into sight are higher or lower than was thought
            page.evaluate("share => scrollTo(0, share * document.documentElement.scrollHeight)", step / 20)
            seen.settle()
            filled.append(page.locator("article:not(:empty)").count())
            near = page.eval_on_selector_all("article", IN_THE_WINDOW)
            assert near and all(count > 0 for count, _ in near), f"step {step}: a row in the window is empty"
            reached |= {text.split("\n")[0] for _, text in near}
        assert max(filled) < 40 and len(reached) > 40 and {"question 0", "question 4999"} <= reached
        page.fill("#search", "answer 4321")
        assert seen.ids() == ["row-4321"]
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        seen.settle()
        assert page.eval_on_selector(".stack img", "one => one.complete && one.naturalWidth") == 120
        page.fill("#search", "")
        page.select_option("#order", "most")
        assert seen.ids()[:2] == ["row-4999", "row-4998"] and seen.troubles == []


CARDS = """async () => {
  const found = [];
  for (const card of document.querySelectorAll("article")) {
    card.scrollIntoView();
    while (card.childElementCount === 0) await new Promise(requestAnimationFrame);
    const tags = [...card.querySelectorAll("*")].map((one) => `${one.tagName} ${one.getAttributeNames()}`);
    found.push([tags.join("; "), card.textContent]);
  }
  return found;
}"""


def test_no_text_acts(browser: Any, tmp_path: Path) -> None:
    def census(name: str, texts: list[str]) -> tuple[list[str], list[str], str]:
        rows = [one for text in texts for one in rows_with(text)]
        facts = [(text, text) for text in texts]
        html = report_page(Report(texts[0], rows, facts, dict.fromkeys(texts, 1)))
        with opened(browser, tmp_path / name, html) as seen:
            frame = seen.page.evaluate(TAGS, "body > *:not(main, script), body > header *, #filters *")
            cards = seen.page.evaluate(CARDS)
            for unfolded in seen.page.query_selector_all("summary"):
                unfolded.evaluate("one => one.click()")
            seen.settle()
            assert seen.troubles == [] and seen.page.title() != "acted"
            return frame, [tags for tags, _ in cards], "".join(text for _, text in cards)

    texts = [*NAUGHTY[::9], "<img src=x onerror=\"document.title='acted'\">", "</script><script>document.title='acted'</script>"]
    frame, cards, said = census("naughty.html", texts)
    plain_frame, plain_cards, _ = census("plain.html", [f"word {number:04}" for number in range(len(texts))])
    assert frame == plain_frame and cards == plain_cards
    assert [text for text in texts if visible(text, keep="\n") not in said] == []


@pytest.mark.parametrize(
    "planted",
    [
        "<script>document.title = 'acted'</script>",
        "<img src=x onerror=\"document.title = 'acted'\">",
        "<style>body { visibility: hidden }</style>",
        '<link rel="stylesheet" href="file:///x.css">',
        '<img src="https://images.example/a.png">',
        "<p style='position: fixed'>x</p>",
    ],
)
def test_even_what_got_into_the_page_could_not_act(browser: Any, tmp_path: Path, planted: str) -> None:
    html = report_page(Report("Run", [FULL])).replace("<main", f"{planted}<main")
    with opened(browser, tmp_path / "r.html", html) as seen:
        assert seen.page.title() == "Run" and seen.page.is_visible("article header")
        assert any("Content Security Policy" in trouble for trouble in seen.troubles)
        assert not any(trouble.startswith(("dialog", "popup")) for trouble in seen.troubles)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1600, 900, 360])
def test_it_fits_and_can_be_read_in_any_window(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    long = replace(FULL, columns=columns_with("unbroken" * 40), address="s3://bucket/" + "x" * 200)
    html = report_page(Report("unbroken" * 40, [FULL, long, FAILED], [("manifest", "m" * 200)], {"ok": 2}))
    with opened(browser, tmp_path / "r.html", html, viewport={"width": width, "height": 800}, color_scheme=scheme) as seen:
        for summary in seen.page.query_selector_all("article summary"):
            summary.click()
        seen.settle()
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing stands out at the side"
        paper, ink = (
            seen.page.eval_on_selector("body", f"one => getComputedStyle(one).{name}") for name in ("backgroundColor", "color")
        )
        assert (_light(paper) > 200 > 60 > _light(ink)) if scheme == "light" else (_light(paper) < 60 < 200 < _light(ink))
        assert seen.troubles == []


def _light(colour: str) -> float:
    return sum(int(one) for one in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 3
