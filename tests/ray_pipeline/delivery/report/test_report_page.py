"""The report page: text from data never becomes markup, style, code, an address or an invisible character."""

import base64
import hashlib
import re
from dataclasses import replace

import pytest

from ray_pipeline.delivery.escapes import visible
from ray_pipeline.delivery.report.images import Images
from ray_pipeline.delivery.report.island import data_island, image_island
from ray_pipeline.delivery.report.markup import Markup, element, joined
from ray_pipeline.delivery.report.page import SCRIPTS, Report, report_page
from ray_pipeline.delivery.report.shown_row import ShownRow
from tests.faults.page_elements import CROP, FAILED, FULL, PICTURE, VOID, Elements, box, columns_with, page_with

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
    assert elements.text.count(visible(vector, keep="\n")) == BENIGN.text.count("a plain word")
    page.encode("utf-8")
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]", page
    )


@pytest.mark.parametrize(
    ("was", "planted"),
    [
        (">plain<", "><b>plain</b><"),
        ('<p id="nothing"', '<p onclick="alert(1)" id="nothing"'),
        ('"id":"plain"', '"id":"plain","more":""'),
        ("const rows =", "alert(1); const rows ="),
        ("body {", "body { background: url(//x.test); "),
        ("</main>", "</main><!-- -->"),
    ],
)
def test_a_planted_difference_is_seen_by_this_test(was: str, planted: str) -> None:
    page = page_with("plain")
    assert was in page
    assert Elements(page.replace(was, planted)).found != BENIGN.found


def test_every_element_is_closed_and_none_can_act() -> None:
    open_tags: list[str] = []
    for tag, attributes in BENIGN.found:
        names = {name for name, _ in attributes}
        assert not any(name.startswith("on") or name in {"style", "href", "action", "srcdoc", "srcset", "src"} for name in names)
        assert tag not in {"iframe", "object", "embed", "link", "base", "a"}
        if tag.startswith("/"):
            assert open_tags.pop() == tag[1:]
        elif tag.isalnum() and tag not in VOID:
            open_tags.append(tag)
    assert open_tags == []


def digest_of(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_the_policy_admits_this_style_this_script_and_data_pictures_only() -> None:
    page = page_with("x")
    style, script = re.search("<style>(.*?)</style>", page, re.DOTALL), re.search("<script>(.*?)</script>", page, re.DOTALL)
    policy = re.search('Content-Security-Policy" content="([^"]*)"', page)
    assert style and script and policy
    assert policy[1].split("; ") == [
        "default-src 'none'", f"style-src {digest_of(style[1])}", f"script-src {digest_of(script[1])}", "img-src data:",
        "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
    ]  # fmt: skip
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("<script")
    assert "url(" not in style[1] and "@import" not in style[1]
    found = [name for name, attributes in BENIGN.found if name == "script" and "type" not in dict(attributes)]
    assert len(found) == 1, "one script and no more"


def test_no_address_is_in_the_page_but_the_name_of_svg() -> None:
    assert set(re.findall(r"(?i)\b[a-z]+://[^\"'\s]*", page_with("x").replace("s3://bucket/a.png", ""))) == {
        "http://www.w3.org/2000/svg"
    }


@pytest.mark.parametrize(
    "way", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc", "fetch("]
)
def test_the_script_has_no_way_to_make_markup_of_text_or_to_ask_for_more(way: str) -> None:
    assert SCRIPTS == ("element.js", "card.js", "filter.js", "list.js")
    assert way not in page_with("x")


def test_rows_are_data_in_fractions_of_the_picture() -> None:
    full, failed = Elements(report_page(Report("t", [FULL, FAILED]))).data[0]
    assert full["box"] == [0.25, 0.25, 0.5, 0.5] and full["crops"] == [[0.1, 0.2, 0.5, 0.75]]
    assert full["regions"][0]["box"] == [0, 0, 0.1, 0.1] and full["truth_boxes"][0]["box"] == [0.25, 0.25, 0.5, 0.55]
    assert [one["attributes"] for one in full["regions"]] == [[{"name": "row-1", "text": "row-1", "sure": 0.25}]]
    assert (full["sure"], full["before_sure"], full["box_sure"]) == (0.875, 0.25, 0.5)
    assert full["candidates"][0] == {
        "text": "row-1", "box": [0.25, 0.25, 0.5, 0.5], "chosen": True, "logprob": -1.5, "entropy": 0.75, "iou": 0.5,
    }  # fmt: skip
    assert (full["number"], full["right"], full["truth"], full["scores"]) == (4, True, ["Ada"], {"anls": 1.0})
    assert (failed["status"], failed["error"], failed["failed"], failed["answer"]) == ("fetch_timeout", "took 60 s", True, None)
    assert failed["images"] == {"picture": None, "map": None, "crops": []} and failed["method"] == ""


def test_boxes_end_at_the_picture() -> None:
    columns = columns_with("a") | {"box": box(-50, 20, 180, 40)}
    assert Elements(report_page(Report("t", [replace(FULL, columns=columns)]))).data[0][0]["box"] == [0, 0.25, 1, 0.5]
    unknown = columns | {"image_width": None}
    assert Elements(report_page(Report("t", [replace(FULL, columns=unknown)]))).data[0][0]["box"] is None


@pytest.mark.parametrize(("before", "answer", "changed"), [("Ade", "Ada", True), ("Ada", "Ada", False), (None, "Ada", False)])
def test_a_row_knows_whether_zooming_changed_the_answer(before: str | None, answer: str, changed: bool) -> None:
    columns = columns_with("a") | {"baseline_answer": before, "answer": answer}
    assert Elements(report_page(Report("t", [ShownRow(0, columns)]))).data[0][0]["changed"] is changed


def test_pictures_are_inside_once_and_intact() -> None:
    page = report_page(Report("t", [FULL, FULL, replace(FULL, images=Images(CROP))]))
    islands = dict(re.findall(r'<script type="image/png" id="(image-\d)">([^<]*)</script>', page))
    assert {name: base64.b64decode(packed) for name, packed in islands.items()} == {"image-0": PICTURE, "image-1": CROP}
    named = [row["images"] for row in Elements(page).data[0]]
    assert named[0] == named[1] == {"picture": "image-0", "map": "image-0", "crops": ["image-1"]}
    assert named[2] == {"picture": "image-1", "map": None, "crops": []}


def test_the_header_counts_rows_per_status() -> None:
    page = report_page(Report("Run 7", [FULL], [("model", "embedded")], {"ok": 2, "fetch_timeout": 1}))
    assert "<dt>model</dt><dd>embedded</dd>" in page
    assert "<dt>rows: ok</dt><dd>2</dd>" in page and "<dt>rows: fetch_timeout</dt><dd>1</dd>" in page


@pytest.mark.parametrize(
    "row",
    [
        replace(FULL, images=Images(b"<svg onload=alert(1)>")),
        replace(FULL, images=Images(PICTURE, b"<html>")),
        replace(FULL, images=Images(PICTURE, None, (b"GIF89a",))),
        replace(FULL, columns=columns_with("a") | {"answer_confidence": float("nan")}),
        replace(FULL, columns=columns_with("a") | {"box": box(0, 0, float("inf"), 1)}),
        replace(FULL, scores={"anls": float("nan")}),
    ],
)
def test_what_cannot_be_shown_is_refused(row: ShownRow) -> None:
    with pytest.raises(ValueError, match="expected"):
        report_page(Report("t", [row]))


@pytest.mark.parametrize(
    "text", ["a\\", 'a\\"', '\\"', "\\\\'", "</script>", "<!--", "\\u003c", '"', "\n", "\u2028", "é\U0001f600"]
)
def test_data_comes_back_as_it_can_be_seen(text: str) -> None:
    island = data_island("d", {"k": [text]})
    assert Elements(island).data == [{"k": [visible(text, keep="\n")]}]
    assert not re.search("[<>&']", island[len('<script type="application/json" id="d">') : -len("</script>")])


def test_numbers_that_json_lacks_are_no_data() -> None:
    with pytest.raises(ValueError, match="JSON"):
        data_island("d", [float("inf")])
    with pytest.raises(ValueError, match="expected PNG or JPEG"):
        image_island("d", b"")


def test_elements() -> None:
    assert (
        element("p", "<b>", Markup("<i></i>"), class_="a'b", hidden=True, id=None)
        == '<p class="a&#x27;b" hidden>&lt;b&gt;<i></i></p>'
    )
    assert element("rect", x=0.5, y=2.0, width=1 / 3) == '<rect x="0.5" y="2" width="0.33333"/>'
    assert element("input", type="search", aria_label="s") == '<input type="search" aria-label="s">'
    assert joined("&", Markup("&amp;"), "\u202e") == "&amp;&amp;\\u202e"
