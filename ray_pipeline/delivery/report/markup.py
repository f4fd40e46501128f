"""HTML put together so that text can only ever be text: what is not `Markup` already is escaped on its way in."""

from html import escape

from ray_pipeline.delivery.escapes import visible

EMPTY = frozenset({"br", "circle", "hr", "input", "line", "meta", "path", "rect"})  # without children and without an end
Value = str | int | float | bool | None


class Markup(str):
    """Text that is HTML and goes into a page as it is. Made by this module's functions, or of the page's own constants."""

    __slots__ = ()


def text(shown: str) -> Markup:
    """Text from anywhere: hidden characters made visible, markup's letters as references; line ends stay."""
    return Markup(escape(visible(shown, keep="\n"), quote=True))


def element(tag: str, *children: str, **attributes: Value) -> Markup:
    """`<tag …>children</tag>`. Attributes are named `class_` and `aria_label`; None and False leave one out, True has no value.

    Numbers are written with at most five digits after the point.
    """
    start = tag + "".join(_attribute(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    if tag in EMPTY:
        return Markup(f"<{start}>" if tag in ("br", "hr", "input", "meta") else f"<{start}/>")
    return Markup(f"<{start}>{joined(*children)}</{tag}>")


def joined(*children: str) -> Markup:
    """One after the other, plain text escaped."""
    return Markup("".join(child if isinstance(child, Markup) else text(child) for child in children))


def _attribute(name: str, value: Value) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    shown = f"{value:.5f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{text(shown)}"'
