"""Figures as elements of the page: small, in the page's colours and font, with attributes that its script reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from markupsafe import Markup

from bench.report.formats import visible

INK, RULE, PAPER = "#1f2329", "#d9dde3", "#fefefe"
"""Colours of figures in whose place the page puts its own, also in dark mode."""
COLORS = {INK: "var(--ink)", RULE: "var(--rule)", PAPER: "var(--paper)"}
REFERENCE = re.compile(r"(^#|url\(#)([\w.:-]+)")
COORDINATES = ("d", "x", "y")
LEFT_OUT = re.compile(r"font-family: [^;]*;? ?|rotate\(-0 [^)]*\)")
"""Text stands in the font of the page, and what is not turned need not say so."""
UNUSED = ("metadata", "style")


def series_id(index: int, *place: int) -> str:
    """The gid of an artist that belongs to one algorithm, the label `index` of those that `inline_svg` is given.

    `place` makes it unique in its figure.
    """
    return "-".join(["series", *map(str, (index, *place))])


def task_id(index: int) -> str:
    """The gid of axes that belong to one task."""
    return f"task-{index}"


def inline_svg(svg: bytes, prefix: str, name: str, labels: Sequence[str] = (), tasks: Sequence[str] = ()) -> Markup:
    """An SVG file as an element of the page, with a `name` for screen readers.

    Groups with a gid of `series_id` get the attribute data-algorithm, those of `task_id` data-task. Of all other ids
    those that something refers to are kept, behind `prefix`: they must be unique in the page.
    """
    root = ElementTree.fromstring(svg)
    used = {found[2] for one in root.iter() for value in one.attrib.values() if (found := REFERENCE.search(value))}
    _clean(root)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            key.rpartition("}")[2]: _value(key, value, prefix) for key, value in element.items() if key != "id"
        } | _identity(element.get("id", ""), prefix, used, labels, tasks)
        element.attrib = {key: value for key, value in element.items() if value}
    root.attrib.pop("version", None)
    root.attrib |= {"role": "img", "aria-label": visible(name), "style": "stroke-linejoin: round"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _clean(parent: Element) -> None:
    """Remove what draws nothing, and white space between elements."""
    for child in list(parent):
        _clean(child)
        child.tail = None
        kind = child.tag.rpartition("}")[2]
        if kind in UNUSED or (kind in ("g", "defs") and not len(child)):
            parent.remove(child)
    if not parent.tag.endswith("}text"):
        parent.text = None
    styles = {child.get("style", "") if child.tag.endswith("}use") else "" for child in parent}
    if len(parent) > 1 and len(styles) == 1 and "" not in styles:  # markers of one line say it once
        parent.set("style", styles.pop())
        for child in parent:
            del child.attrib["style"]


def _identity(found: str, prefix: str, used: set[str], labels: Sequence[str], tasks: Sequence[str]) -> dict[str, str]:
    """What stands in the place of an id."""
    kind, _, rest = found.partition("-")
    index = rest.partition("-")[0]
    for wanted, attribute, names in (("series", "data-algorithm", labels), ("task", "data-task", tasks)):
        if kind == wanted and index.isdecimal() and int(index) < len(names):
            return {attribute: visible(names[int(index)])}
    return {"id": f"{prefix}-{found}"} if found in used else {}


def _value(key: str, value: str, prefix: str) -> str:
    """The value of an attribute, in fewer characters."""
    if key in COORDINATES:
        return " ".join(re.sub(r"-?\d+\.\d+", _rounded, value).split())
    value = REFERENCE.sub(rf"\g<1>{prefix}-\g<2>", value)
    for color, variable in COLORS.items():
        value = value.replace(color, variable)
    return LEFT_OUT.sub("", value)


def _rounded(number: re.Match[str]) -> str:
    """A coordinate to a hundredth of a point."""
    return f"{float(number[0]):z.2f}".rstrip("0").rstrip(".")
