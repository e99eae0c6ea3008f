"""Numbers and text of users, such as labels, as they are shown: on the page, in figures, in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd
from markupsafe import Markup

NONE = "–"
"""Where there is no number."""
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # after \\ and \midrule they would begin an option
    **{character: f"{character}{{}}" for character in "-'`,\""},  # two of them would be one other character
}


def number(value: float) -> str:
    """A return with as many decimals as it can bear; a dash where there is none yet."""
    if pd.isna(value):
        return NONE
    return f"{value:z,.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


def span(low: float, high: float) -> str:
    """An interval as "[low, high]", or a dash: fewer than five seeds have none."""
    return NONE if pd.isna(low) else f"[{number(low)}, {number(high)}]"


def counts(values: Iterable[int], noun: str = "") -> str:
    """ "8", or "8 to 16" where values differ; of a noun "1 seed" or "2 to 3 seeds"."""
    low, high = min(values := list(values)), max(values)
    said = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{said} {noun}{'s' * (high != 1)}" if noun else said


def normalised(value: float) -> str:
    """A normalised return, in units of the reference: three decimals."""
    return NONE if pd.isna(value) else f"{value:z.3f}"


def normalised_span(low: float, high: float) -> str:
    """An interval of normalised returns."""
    return NONE if pd.isna(low) else f"[{normalised(low)}, {normalised(high)}]"


def visible(text: str) -> str:
    """`text` with each character that shows nothing or steers a terminal as its escape; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> object:
    """What a template is given, `visible` if it is text and not yet markup."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def latex_text(text: str) -> str:
    """`text` so that LaTeX prints it as it is written."""
    return "".join(LATEX.get(character, character) for character in " ".join(visible(text).splitlines()))


def latex_cell(text: str) -> str:
    """`latex_text` of a cell with numbers, whose minus signs are minus signs."""
    parts = re.split(r"(?<![^\[ ])-(?=[\d.])", text)
    return "$-$".join(map(latex_text, parts)).replace(",{}", ",")


def without_empty(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows without the columns in which every one has a dash."""
    kept = [key for key in (rows[0] if rows else {}) if any(row[key] != NONE for row in rows)]
    return [{key: row[key] for key in kept} for row in rows]


def latex(rows: list[dict[str, str]], names: tuple[str, ...] = ("task", "algorithm")) -> str:
    """Rows as a LaTeX table for the package booktabs; columns of `names` to the left, numbers to the right."""
    headings = list(rows[0])
    sides = "".join("l" if heading in names else "r" for heading in headings)
    lines = [
        " & ".join((latex_text if heading in names else latex_cell)(text) for heading, text in row.items())
        for row in rows
    ]
    body = "".join(f"{line} \\\\\n" for line in lines)
    head = " & ".join(map(latex_text, headings))
    return f"\\begin{{tabular}}{{{sides}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"
