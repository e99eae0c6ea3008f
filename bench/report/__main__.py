"""Learning curves, tables and one page for each suite, made from its records alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from bench import store
from bench.report import page, plots, stats
from bench.report.load import ReportError, Suite, find_suites, load

RESULTS = Path("results")


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line on stderr."""
        self.exit(2, f"bench.report: {message}; valid: python -m bench.report [--help] [DIR/<suite> ...]\n")


def write(suite: Suite) -> str:
    """Write the figures, tables and page of one suite into its folder; returns what the terminal shows."""
    states = stats.trial_states(suite.records, suite.trials)
    curves = stats.curves(suite.records, states)
    table = stats.returns_table(suite.records, states)
    figure = plots.curves(curves, states)
    store.write_bytes(suite.folder / "curves.svg", plots.svg(figure))
    store.write_bytes(suite.folder / "curves.png", plots.png(figure))
    csv = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    store.write_text(suite.folder / "returns.csv", csv)
    store.write_text(suite.folder / "returns.md", page.markdown(page.returns_rows(table)))
    path = suite.folder / "report.html"
    store.write_text(path, page.html(suite, states, curves, table))
    lines = [suite.name, "", page.markdown(page.short_rows(table))]
    lines += [*page.warnings(suite, states), str(path), ""]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when all is written, 2 when something cannot be reported on, and then nothing is."""
    parser = Parser(prog="python -m bench.report", description=__doc__)
    help_text = "folders of suites; without any, all that have records under ./results"
    parser.add_argument("suites", nargs="*", type=Path, metavar="DIR/<suite>", help=help_text)
    folders: list[Path] = parser.parse_args(arguments).suites
    try:
        suites = [load(folder) for folder in folders or find_suites(RESULTS)]
    except ReportError as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return 2
    for suite in suites:
        print(write(suite))
    return 0


if __name__ == "__main__":
    sys.exit(main())
