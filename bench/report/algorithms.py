"""The algorithms of a report: their order in tables and figures, and what each looks like."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import seaborn as sns

from bench.store.resolved import Resolved

# After Okabe and Ito: they differ in lightness too. The first method of the registry has the first colour and marker.
COLORS = ("#56b4e9", "#0173b2", "#d55e00", "#c065b0", "#029e73", "#9c6b3f", "#de8f05")
MARKERS = "osDv^PX"
SHARED_DASH = (4.0, 1.6)
VARIANT_DASHES = ((1.2, 1.6), (6, 1.8, 1.2, 1.8), (8, 2.5))
VARIANT_MARKERS = "osDv^XPp"


def in_order(labels: Iterable[str], order: Iterable[str] = ()) -> list[str]:
    """Every label once: those in `order` first, in that order, then the others as they appear."""
    found = dict.fromkeys(labels)
    return list(dict.fromkeys([*(label for label in order if label in found), *found]))


@dataclass(frozen=True)
class Style:
    """What one algorithm looks like wherever it is drawn."""

    color: str
    """As #rrggbb."""
    marker: str
    """Matplotlib's letter."""
    dash: tuple[float, ...]
    """Lengths of ink and gap in line widths; empty for a solid line."""


@dataclass(frozen=True)
class Algorithms:
    """The labels of a suite or study, in the order of all tables and figures."""

    methods: Mapping[str, str]
    """label -> the name of its method."""
    registry: Sequence[str]
    """Methods in the order in which they are given colours."""

    @classmethod
    def of(cls, resolved: Resolved | None, found: Mapping[str, str]) -> Algorithms:
        """Those of `resolved.json`, then others that were `found` in the results (label -> method), as they appear.

        Without that file colours follow the order of appearance too.
        """
        if resolved is None:
            return cls(found, list(dict.fromkeys(found.values())))
        methods = {label: about.method for label, about in resolved.algorithms.items()}
        for label, method in found.items():
            methods.setdefault(label, method)
        return cls(methods, resolved.methods)

    @cached_property
    def styles(self) -> dict[str, Style]:
        """label -> what it looks like, a function of the label, its method and the registry alone.

        The colour is that of the method. `<method>-shared` is dashed, any other label of a method that is not its name
        has one of the other dash patterns. A method that is not in the registry has a colour from a checksum of the
        label: always the same one, though two such labels may look alike.
        """
        return {label: self._style(label, method) for label, method in self.methods.items()}

    def _style(self, label: str, method: str) -> Style:
        checksum = zlib.crc32(label.encode())
        place = self.registry.index(method) if method in self.registry else len(COLORS)
        variant_marker = VARIANT_MARKERS[checksum // 7 % len(VARIANT_MARKERS)]
        if place >= len(COLORS):
            return Style(_hashed_color(checksum), variant_marker, ())
        if label in (method, f"{method}-shared"):
            return Style(COLORS[place], MARKERS[place], () if label == method else SHARED_DASH)
        return Style(COLORS[place], variant_marker, VARIANT_DASHES[checksum % len(VARIANT_DASHES)])


def _hashed_color(checksum: int) -> str:
    hue, lightness = checksum % 24 / 24, (0.48, 0.62)[checksum // 24 % 2]
    return str(sns.husl_palette(1, h=hue, s=0.85, l=lightness).as_hex()[0])
