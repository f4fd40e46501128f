"""The report page: text from data never becomes markup, style, an address or an invisible character."""

import base64
import hashlib
import io
import re
from dataclasses import replace

import pytest
from PIL import Image

from ray_pipeline.delivery.escapes import visible
from ray_pipeline.delivery.formats.html import ReportEntry, report_page
from tests.faults.page_elements import CROP, FAILED, FULL, PICTURE, VOID, Elements, page_with

BENIGN = Elements(page_with("a plain word"))
VECTORS = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//x.test></sCrIpT>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</STYLE ><img src=x onerror=alert(1)>",
    "<style>*{background:url(//x.test)}</style>",
    "<img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "' onmouseover='alert(1)",
    '" autofocus onfocus=alert(1) x="',
    "` onerror=alert(1)",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='data:text/html;base64,PHNjcmlwdD4='>x</a>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x>",
    "</svg><script>alert(1)</script>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<iframe src=//x.test>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=//x.test>",
    "<embed src=//x.test>",
    "<base href=//x.test>",
    "<link rel=stylesheet href=//x.test>",
    "<meta http-equiv=refresh content='0;url=//x.test'>",
    "<form action=//x.test><button>",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)>",
    "<audio src onerror=alert(1)>",
    "<body onload=alert(1)>",
    "<html onclick=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<table background=javascript:alert(1)>",
    "<div style=background:url(//x.test)>",
    "<div style='width:expression(alert(1))'>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<textarea></textarea><script>alert(1)</script>",
    "<!--<img src='--><img src=x onerror=alert(1)//'>",
    "<!-- -->",
    "--><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "]]><script>alert(1)</script>",
    "<?xml version='1.0'?><script>alert(1)</script>",
    "<!DOCTYPE html><script>",
    "<%00script>alert(1)</script>",
    "<\x00script>alert(1)</script>",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;",
    "&quot;&gt;&lt;img src=x&gt;",
    "&NewLine;<b>",
    "&",
    "&amp;lt;b&amp;gt;",
    '\\"><b>',
    "\\x3cscript\\x3e",
    "\uff1cscript\uff1e",
    "\u2039script\u203a",
    "+ADw-script+AD4-",
    "\ufeff<b>",
    "\u202e<b>gnp.exe\u202c",
    "a\u2066b\u2069c",
    "\u061c\u200e\u200f",
    "\u200b\u2060\ufeff",
    "\U000e0041\U000e0042",
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;https://x.test\x07link\x1b]8;;\x07",
    "\x9b31m",
    "\x07\x08\x7f",
    "\r\n<b>\r",
    "\u2028<b>\u2029",
    "\ud800<b>\udfff",
    "{{7*7}}",
    "${alert(1)}",
    "{%raw%}",
    "<x",
    "<",
    ">",
    '"',
    "'",
    "=cmd|' /C calc'!A0",
    "https://x.test/a.png",
    "<p " + "a" * 5000,
    "\n" * 50 + "</main></body></html>",
]


def test_there_are_enough_vectors() -> None:
    assert len(set(VECTORS)) >= 60


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_no_text_becomes_markup(vector: str) -> None:
    page = page_with(vector)
    elements = Elements(page)
    assert elements.found == BENIGN.found
    assert visible(vector, keep="\n") in elements.text
    page.encode("utf-8")
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]", page
    )


def test_a_tag_that_opens_is_seen_by_this_test() -> None:
    planted = page_with("plain").replace("plain", "<b>plain</b>")
    assert Elements(planted).found != BENIGN.found
    planted = page_with("plain").replace('alt="picture of row plain"', 'alt="x" onerror="alert(1)"')
    assert Elements(planted).found != BENIGN.found


def test_every_element_is_closed_and_none_can_act() -> None:
    open_tags: list[str] = []
    for tag, attributes in BENIGN.found:
        names = {name for name, _ in attributes}
        assert not any(name.startswith("on") or name in {"style", "href", "action", "srcdoc", "srcset"} for name in names)
        assert tag not in {"script", "iframe", "object", "embed", "link", "base", "form", "a"}
        if tag.startswith("/"):
            assert open_tags.pop() == tag[1:]
        elif tag not in VOID and not tag.startswith("DOCTYPE"):
            open_tags.append(tag)
    assert open_tags == []


def test_the_policy_admits_this_style_and_data_pictures_only() -> None:
    page = page_with("x")
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)
    policy = re.search('Content-Security-Policy" content="([^"]*)"', page)
    assert style and policy
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy[1].split("; ") == [
        "default-src 'none'", f"style-src 'sha256-{digest}'", "img-src data:", "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip
    assert page.index("Content-Security-Policy") < page.index("<style>")
    assert "url(" not in style[1] and "@import" not in style[1]
    assert not re.search(r"(?i)https?://|src=\"(?!data:image/)", page)


def test_pictures_are_inside_and_intact() -> None:
    page = report_page("t", [], [FULL])
    found = [base64.b64decode(code) for code in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert found == [PICTURE, PICTURE, CROP]
    for data, size in zip(found, [(12, 8), (12, 8), (5, 3)], strict=True):
        assert Image.open(io.BytesIO(data)).size == size
    assert page.count("<img") == page.count("alt=")
    assert 'width="12" height="8"' in page


def test_boxes_are_rectangles_in_fractions_of_the_picture() -> None:
    page = report_page("t", [], [replace(FULL, answer_box=(-0.5, 0.25, 1.5, 0.5))])
    assert '<rect class="crop-box" x="0.10000" y="0.20000" width="0.40000" height="0.55000">' in page
    assert '<rect class="answer-box" x="0.00000" y="0.25000" width="1.00000" height="0.25000">' in page
    assert 'viewBox="0 0 1 1" preserveAspectRatio="none"' in page


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (FULL, "changed"),
        (replace(FULL, answer="Ade"), "same"),
        (replace(FULL, refinement_used=False), "same"),
        (ReportEntry("a", None, "ok", answer="x"), "same"),
    ],
)
def test_cards_know_whether_zooming_changed_the_answer(entry: ReportEntry, kind: str) -> None:
    page = report_page("t", [], [entry, FAILED])
    assert page.count(f'<article class="card {kind}">') == page.count("<article") == 1
    assert page.index("</main>") < page.index("row-2")
    assert "fetch_timeout" in page and "took 60 s" in page


def test_the_header_counts_rows_per_status() -> None:
    page = report_page("Run 7", [("model", "embedded")], [FULL, FULL, FAILED])
    assert "<dt>model</dt><dd>embedded</dd>" in page
    assert "<dt>rows shown: ok</dt><dd>2</dd>" in page and "<dt>rows shown: fetch_timeout</dt><dd>1</dd>" in page
    assert '<meter min="0" max="1" value="0.2500">25%</meter>' in page and '<meter min="0" max="1" value="0.8750">' in page


def test_each_filter_is_a_radio_button_with_a_label_and_a_rule() -> None:
    page = report_page("t", [], [])
    for key in ("all", "changed", "errors"):
        assert f'id="show-{key}"' in page and f'for="show-{key}"' in page
    assert page.count(" checked>") == 1
    assert "#show-changed:checked ~ main .same" in page and "#show-errors:checked ~ main" in page


@pytest.mark.parametrize(
    "entry",
    [
        replace(FULL, picture_png=b"<svg onload=alert(1)>"),
        replace(FULL, crop_png=b"GIF89a"),
        replace(FULL, map_png=b"<html>"),
        replace(FULL, answer_confidence=float("nan")),
        replace(FULL, answer_box=(0.0, 0.0, float("inf"), 1.0)),
        replace(FULL, crop_boxes=((float("nan"), 0.0, 1.0, 1.0),)),
    ],
)
def test_what_cannot_be_shown_is_refused(entry: ReportEntry) -> None:
    with pytest.raises(ValueError, match="expected"):
        report_page("t", [], [entry])
