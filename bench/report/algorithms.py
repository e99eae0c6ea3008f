"""The algorithms of a report: their order in tables and figures, and what each looks like."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import seaborn as sns

from bench.store.resolved import Resolved

# After Okabe and Ito: they differ in lightness too. The first method of the registry has the first colour and marker.
COLORS = ("#56b4e9", "#0173b2", "#d55e00", "#c065b0", "#029e73", "#9c6b3f", "#de8f05")
MARKERS = "osDv^PX"
SHARED_DASH = (4.0, 1.6)
VARIANT_DASHES = ((1.2, 1.6), (6, 1.8, 1.2, 1.8), (7, 2.6))
VARIANT_SHADES = (0.0, -0.28, 0.38)
"""How far the colour of a variant is from that of its method towards black (-1) or white (1)."""
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

    @property
    def linestyle(self) -> Any:
        """As Matplotlib takes it."""
        return (0, self.dash) if self.dash else "-"


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
        """label -> what it looks like.

        The colour is that of the method, from a checksum of its name where it is not in the registry. A label that is
        the method's name has a solid line, `<method>-shared` a dashed one. Any other has a dash and a marker by a
        checksum of the label: always the same, unless a variant of the method before it has taken the dash. Where all
        dashes are taken the shade differs: nine variants of one method are told apart without their markers.
        """
        taken: dict[str, set[Any]] = {}
        return {
            label: self._style(label, method, taken.setdefault(method, set())) for label, method in self.methods.items()
        }

    def _style(self, label: str, method: str, taken: set[Any]) -> Style:
        known = method in self.registry and self.registry.index(method) < len(COLORS)
        place = self.registry.index(method) if known else zlib.crc32(method.encode()) % len(MARKERS)
        color = COLORS[place] if known else _hashed_color(zlib.crc32(method.encode()))
        if label in (method, f"{method}-shared"):
            return Style(color, MARKERS[place], () if label == method else SHARED_DASH)
        if not known and not taken and method not in self.methods:  # mostly the only one of a method of one's own
            taken.add(((), 0.0))
            return Style(color, MARKERS[place], ())
        checksum = zlib.crc32(label.encode())
        first = checksum % len(VARIANT_DASHES)
        dashes = VARIANT_DASHES[first:] + VARIANT_DASHES[:first]
        looks = [(dash, shade) for shade in VARIANT_SHADES for dash in dashes]
        look = next((look for look in looks if look not in taken), looks[0])
        taken.add(look)
        dash, shade = look
        return Style(_shaded(color, shade), VARIANT_MARKERS[checksum // 7 % len(VARIANT_MARKERS)], dash)


def _hashed_color(checksum: int) -> str:
    hue, lightness = checksum % 24 / 24, (0.48, 0.62)[checksum // 24 % 2]
    return str(sns.husl_palette(1, h=hue, s=0.85, l=lightness).as_hex()[0])


def _shaded(color: str, shade: float) -> str:
    """A colour mixed with black or white."""
    end = 255 if shade > 0 else 0
    parts = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + abs(shade) * (end - part)):02x}" for part in parts)
