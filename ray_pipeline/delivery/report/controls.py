"""The bar of filters, the order and the layers. What depends on data, such as the statuses there are, the script fills in."""

from ray_pipeline.delivery.report.markup import Markup, element

ORDERS = (("manifest", "as in the manifest"), ("least", "least sure first"), ("most", "surest first"), ("id", "by id"))
VERDICTS = (("any", "right or wrong"), ("right", "right"), ("wrong", "wrong"))
LAYERS = (  # class of the list that hides it, name
    ("answer", "answer"),
    ("crops", "zoomed in"),
    ("candidates", "candidates"),
    ("regions", "regions"),
    ("truth", "reference"),
    ("map", "importance map"),
)
HIDDEN_AT_FIRST = frozenset({"candidates"})


def controls() -> Markup:
    """A form that is never sent; every control is one of the browser's own, with a label."""
    search = _labelled(
        "Search",
        element(
            "input", type="search", id="search", autocomplete="off", spellcheck="false", placeholder="id, question, answer, text"
        ),
    )
    order = _labelled("Order", _select("order", ORDERS))
    verdict = element("label", "Reference ", _select("verdict", VERDICTS), id="verdict-label", hidden=True)
    change = element(
        "label", element("input", type="checkbox", id="changed"), " changed by zoom ", _count("changed-count"), class_="chip"
    )
    return element(
        "form",
        element("div", search, order, verdict, change, element("button", "Reset", type="reset"), class_="line"),
        element("div", *_facets(), _range(), class_="line"),
        element("div", _layers(), element("output", "", id="matching", role="status", aria_live="polite"), class_="line"),
        id="filters", role="search", aria_label="Rows shown", autocomplete="off",
    )  # fmt: skip


def _facets() -> tuple[Markup, Markup]:
    return (
        element("fieldset", element("legend", "Status"), id="statuses"),
        element("fieldset", element("legend", "Method"), id="methods"),
    )


def _range() -> Markup:
    ends = [
        element(
            "label", element("span", name), " ",
            element("input", type="range", id=f"{name}-sure", min="0", max="100", step="1", value=value), " ",
            element("output", f"{value}%", id=f"{name}-shown"),
        )
        for name, value in (("least", "0"), ("most", "100"))
    ]  # fmt: skip
    return element("fieldset", element("legend", "Confidence"), *ends, _count("unsure-count"))


def _layers() -> Markup:
    boxes = [
        element("label", element("input", type="checkbox", name="layer", value=key, checked=key not in HIDDEN_AT_FIRST),
                element("span", " ", class_=f"key key-{key}"), name, class_="chip")
        for key, name in LAYERS
    ]  # fmt: skip
    return element("fieldset", element("legend", "Drawn"), *boxes, id="layers")


def _labelled(name: str, control: Markup) -> Markup:
    return element("label", f"{name} ", control)


def _select(name: str, choices: tuple[tuple[str, str], ...]) -> Markup:
    return element("select", *(element("option", shown, value=key) for key, shown in choices), id=name)


def _count(name: str) -> Markup:
    return element("span", "", id=name, class_="count")
