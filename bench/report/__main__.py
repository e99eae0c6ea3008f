# PYTHON_ARGCOMPLETE_OK
"""Learning curves, tables and one page for each suite, made from its records alone."""

from __future__ import annotations

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.cli.command import counted
from bench.report import (
    aggregate,
    answer,
    audit,
    certificates_page,
    claims,
    event_files,
    formats,
    index,
    page,
    plots,
    stats,
    study_page,
    study_results,
)
from bench.report.combine import combined
from bench.report.load import ReportError, SuiteResults, find_suites, load
from bench.report.watch import watch
from bench.store import files
from bench.store.places import copied
from bench.store.remote import Remote, location
from bench.store.studies import is_study

RESULTS = Path("results")


def write(suite: SuiteResults, refresh: int = 0) -> str:
    """Write the figures, tables and page of one suite into its folder; returns what the terminal shows."""
    states = suite.states
    curves = stats.with_seconds(stats.curves(suite.records, states), suite.records)
    table = stats.returns_table(suite.records, states)
    rows = page.returns_rows(table)
    certificates = certificates_page.make(suite)
    over_tasks = aggregate.make(suite)
    verdicts = claims.verdicts(suite)
    # all is made before anything is written, so that the files of one folder always belong together
    outputs = {
        **plots.all_formats("curves", plots.curves(curves, states, suite.algorithms)),
        **plots.all_formats("curves_seconds", plots.curves(curves, states, suite.algorithms, "seconds")),
        **(plots.all_formats("aggregate", over_tasks.figure) if over_tasks else {}),
        "curves.parquet": files.table_bytes(curves.drop(columns="points")),
        "returns.csv": table.to_csv(index=False, float_format="{:z.6g}".format, lineterminator="\n").encode(),
        "returns.md": page.markdown(rows).encode(),
        "returns.tex": formats.latex(rows).encode(),
        "returns.parquet": files.table_bytes(table),
        "certificates.csv": certificates.csv,
        "report.html": page.html(suite, states, curves, table, certificates, over_tasks, verdicts, refresh).encode(),
    }
    if suite.resolved and suite.resolved.claims:
        document = claims.document(verdicts, suite.resolved)
        outputs["claims.json"] = (json.dumps(document, indent=1) + "\n").encode()
    for name, content in outputs.items():
        files.write_bytes(suite.folder / name, content)
    notes = page.warnings(suite, states)
    short = page.markdown(page.short_rows(table))
    return "\n".join([suite.name, "", short, *notes, str(suite.folder / "report.html"), ""])


def write_study(study: study_results.StudyResults, refresh: int = 0) -> str:
    """Write the figures, tables and page of one study into its folder; returns what the terminal shows."""
    outputs = study_page.contents(study, refresh)
    for name, content in outputs.items():
        files.write_bytes(study.folder / name, content)
    return "\n".join([study.name, "", outputs["budget.md"].decode(), str(study.folder / "report.html"), ""])


def write_together(loaded: Sequence[SuiteResults | study_results.StudyResults], compare: bool) -> str:
    """Write an index of several reports beside their folders, and with `compare` a page with all suites on it.

    Suites that cannot stand on one page get none; a line says why.
    """
    parents = {one.folder.resolve().parent for one in loaded}
    lines = []
    suites = [one for one in loaded if isinstance(one, SuiteResults)]
    if compare and len(suites) > 1:
        folder = suites[0].folder.resolve().parent / "+".join(suite.name for suite in suites)
        try:
            together = combined(suites, folder)
        except ReportError as error:
            lines.append(f"No page with all suites: {error}")
        else:
            lines.append(write(together))
    if len(parents) == 1:
        path = parents.pop() / "index.html"
        files.write_bytes(path, index.html(loaded).encode())
        lines.append(str(path))
    return "\n".join(lines)


def read(folder: Path) -> SuiteResults | study_results.StudyResults:
    """The suite or study in a folder."""
    return study_results.load(folder) if is_study(folder) else load(folder)


def here(place: Path | Remote) -> Path:
    """The folder in which a report is written; results in a store are copied to it first."""
    try:
        return copied(place, RESULTS / place.folder.name) if isinstance(place, Remote) else place
    except files.StoreError as error:
        raise ReportError(str(error)) from None


def loaded(place: Path | Remote) -> SuiteResults | study_results.StudyResults:
    """The suite or study at a place; what is wrong with a copy is said of the place in the store."""
    folder = here(place)
    try:
        return read(folder)
    except ReportError as error:
        raise ReportError(str(error).replace(str(folder), str(place))) from None


def rewrite(folder: Path, refresh: int) -> str:
    """Write the report on a folder as it stands; returns one line that says how far its trials are."""
    results = read(folder)
    if isinstance(results, study_results.StudyResults):
        write_study(results, refresh)
        return f"{folder / 'report.html'}: {counted(len(results.trials), 'tuning trial')}"
    write(results, refresh)
    states = results.states
    done = int((states["state"] == "done").sum())
    return f"{folder / 'report.html'}: {done} of {counted(len(states), 'trial')} done"


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when all is written, 2 when a suite cannot be reported on, and then none is."""
    parser = command.Parser(prog="python -m bench.report", description=__doc__)
    what = "folders of suites, several of which are also shown on one page; without any, all under ./results. "
    what += "Of results in a store, s3://BUCKET/PREFIX/<suite>, a copy and the report go to ./results/<suite>"
    parser.add_argument("suites", nargs="*", type=location, metavar="DIR/<suite>", help=what)
    parser.add_argument("--claims", action="store_true", help="print the verdicts on the claims of suites, and stop")
    strict = "refuse suites whose algorithms differ in what is not part of their methods (the fairness audit)"
    parser.add_argument("--strict-fair", action="store_true", help=strict)
    events = "write the returns and diagnostics of suites also as event files, into their folder tensorboard"
    parser.add_argument("--tensorboard", action="store_true", help=events)
    parser.add_argument("--watch", action="store_true", help="write again when trials advance, until Ctrl-C")
    options = parser.parse_args(arguments)
    if options.watch and (options.claims or options.strict_fair or options.tensorboard):
        parser.error("--watch goes with no other option")
    try:
        places: list[Path | Remote] = options.suites or [*find_suites(RESULTS)]
        if options.watch:
            watch(places, here, rewrite)
            return 0
        if options.tensorboard:
            event_files.refuse_without_tensorboard()
        found = [loaded(place) for place in places]
        if options.strict_fair:
            for one in found:
                audit.refuse_unfair(one)
        for one in found:
            if options.claims:
                print("\n".join(answer.lines(one)) if isinstance(one, SuiteResults) else f"{one.name}: a study")
                continue
            print(write_study(one) if isinstance(one, study_results.StudyResults) else write(one))
            if options.tensorboard and isinstance(one, SuiteResults):
                print(f"tensorboard --logdir {shlex.quote(str(event_files.write(one)))}")
        if len(found) > 1 and not options.claims:
            print(write_together(found, compare=bool(options.suites)))
    except ReportError as error:
        return command.refused(f"bench.report: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
