"""Learning curves, tables and one page for each suite, made from its records alone."""

from __future__ import annotations

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.report import audit, certificates_page, page, plots, stats, study_page, study_results
from bench.report.load import ReportError, SuiteResults, find_suites, load
from bench.store import files

RESULTS = Path("results")


def write(suite: SuiteResults) -> str:
    """Write the figures, tables and page of one suite into its folder; returns what the terminal shows."""
    states = stats.trial_states(suite.records, suite.trials, suite.skipped, suite.algorithms.methods)
    curves = stats.curves(suite.records, states)
    table = stats.returns_table(suite.records, states)
    certificates = certificates_page.make(suite)
    figure = plots.curves(curves, states, suite.algorithms)
    # all is made before anything is written, so that the files of one folder always belong together
    outputs = {
        "curves.svg": plots.svg(figure),
        "curves.png": plots.png(figure),
        "returns.csv": table.to_csv(index=False, float_format="{:z.6g}".format, lineterminator="\n").encode(),
        "returns.md": page.markdown(page.returns_rows(table)).encode(),
        "certificates.csv": certificates.csv,
        "report.html": page.html(suite, states, curves, table, certificates).encode(),
    }
    for name, content in outputs.items():
        files.write_bytes(suite.folder / name, content)
    notes = page.warnings(suite, states)
    short = page.markdown(page.short_rows(table))
    return "\n".join([suite.name, "", short, *notes, str(suite.folder / "report.html"), ""])


def write_study(study: study_results.StudyResults) -> str:
    """The same for a study."""
    outputs = study_page.write_files(study)
    for name, content in outputs.items():
        files.write_bytes(study.folder / name, content)
    return "\n".join([study.name, "", outputs["budget.md"].decode(), str(study.folder / "report.html"), ""])


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when all is written, 2 when a suite cannot be reported on, and then none is."""
    parser = command.Parser(prog="python -m bench.report", description=__doc__)
    what = "folders of suites; without any, all that have records under ./results"
    parser.add_argument("suites", nargs="*", type=Path, metavar="DIR/<suite>", help=what)
    strict = "refuse suites whose algorithms differ in what is not part of their methods (the fairness audit)"
    parser.add_argument("--strict-fair", action="store_true", help=strict)
    options = parser.parse_args(arguments)
    folders: list[Path] = options.suites
    try:
        loaded = [
            study_results.load(folder) if study_results.is_study(folder) else load(folder)
            for folder in folders or find_suites(RESULTS)
        ]
        if options.strict_fair:
            for one in loaded:
                audit.refuse_unfair(one)
        for one in loaded:
            print(write_study(one) if isinstance(one, study_results.StudyResults) else write(one))
    except ReportError as error:
        return command.refused(f"bench.report: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
