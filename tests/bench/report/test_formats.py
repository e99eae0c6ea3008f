"""Text of users as it was written, in whatever it stands."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from bench.report import formats, page


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mappo_a", "mappo_a"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\u202eb", r"a\u202eb"),
        ("two\nlines", "two\nlines"),
        ("für 中", "für 中"),
    ],
)
def test_characters_that_show_nothing_are_shown_as_their_escapes(text: str, shown: str) -> None:
    assert formats.visible(text) == shown


def test_the_page_shows_escapes_of_text_and_leaves_markup() -> None:
    template = page.ENVIRONMENT.from_string("{{ text }} {{ markup }} {{ number }}")
    shown = template.render(text="\x1b<b>", markup=Markup("<i>\n</i>"), number=3)
    assert shown == r"\x1b&lt;b&gt; <i>" + "\n</i> 3"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b", r"a\_b"),
        (r"$\foo$", r"\$\textbackslash{}foo\$"),
        ("50% & #1 {x}", r"50\% \& \#1 \{x\}"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        ("<a|b>", r"\textless{}a\textbar{}b\textgreater{}"),
        ("a--b", "a-{}-{}b"),
        ("\x1b", r"\textbackslash{}x1b"),
        ("two\nlines", "two lines"),
    ],
)
def test_latex_prints_text_as_it_is_written(text: str, shown: str) -> None:
    assert formats.latex_text(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("-1,234", "$-$1,234"), ("[-1.5, 2.0]", "{[}$-$1.5, 2.0{]}"), ("–", "--"), ("-3 to -1", "$-$3 to $-$1")],
)
def test_a_minus_in_a_cell_of_numbers_is_a_minus_in_latex(text: str, shown: str) -> None:
    assert formats.latex_cell(text) == shown


def test_a_latex_table_by_hand() -> None:
    rows = [{"task": "[x]_1", "algorithm": "mappo", "mean": "-1.5"}, {"task": "b", "algorithm": "*", "mean": "2.0"}]
    assert formats.latex(rows) == (
        "\\begin{tabular}{llr}\n\\toprule\ntask & algorithm & mean \\\\\n\\midrule\n"
        "{[}x{]}\\_1 & mappo & $-$1.5 \\\\\nb & {*} & 2.0 \\\\\n\\bottomrule\n\\end{tabular}\n"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mappo_a", "mappo_a"),
        ("_a_", r"\_a\_"),
        (r"$\foo$", r"\$\\foo\$"),
        ("<script>", r"\<script>"),
        ("[a](b)", r"\[a](b)"),
        ("[-1, 2]", "[-1, 2]"),
        ("\x1b[31m", r"\\x1b[31m"),
    ],
)
def test_markdown_shows_text_as_it_is_written(text: str, shown: str) -> None:
    row = page.markdown([{"task": text}]).splitlines()[2]
    assert row.strip("| ") == shown
