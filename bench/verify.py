# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.verify RESULTS ...`: are the results of suites and studies whole, unchanged and consistent?

One line per check. With `--replay N` the first evaluation and the first updates of N trials of each suite are made
again and compared bit for bit with what was recorded; where they differ, the line says what differs between this
machine and the one that recorded them. Exit status 1 if a check fails.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.cli.command import positive
from bench.store.files import StoreError
from bench.store.places import copied, shown
from bench.store.remote import Remote, location
from bench.store.studies import is_study
from bench.store.trials import read_trials
from bench.store.verifying import Finding, findings
from bench.store.verifying_study import findings_of_study


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all checks pass, 1 if one fails, 2 for a folder that is not there."""
    parser = command.Parser(
        prog="python -m bench.verify",
        description="Check that results are whole, unchanged and consistent; exit with 1 where they are not.",
    )
    parser.add_argument(
        "results",
        nargs="+",
        type=location,
        metavar="RESULTS",
        help="folders of suites and studies, results/<suite>, or their places in a store, s3://BUCKET/PREFIX/<suite>",
    )
    parser.add_argument(
        "--replay", type=positive, default=0, metavar="N", help="make the first updates of N trials again"
    )
    options = parser.parse_args(arguments)
    if lost := [place for place in options.results if isinstance(place, Path) and not place.is_dir()]:
        return command.refused(f"{lost[0]}: no such folder")
    try:
        folders = {place: copied(place) for place in options.results}
    except StoreError as error:
        return command.refused(error)
    passed = True
    for place, folder in folders.items():
        passed &= _check(place, folder, options.replay)
    return int(not passed)


def _check(place: Path | Remote, folder: Path, replay: int) -> bool:
    """Print what the checks of a suite or study find; trials of one that passes are made again."""
    print(place)
    passed = True
    for found in (findings_of_study if is_study(folder) else findings)(folder):
        passed &= _printed(found, place)
    if passed and replay:
        for found in _replayed(folder, replay):
            passed &= _printed(found, place)
    return passed


def _printed(found: Finding, place: Path | Remote) -> bool:
    text = command.one_line(shown(place, found.wrong or found.note))
    print(f"  {'FAILED' if found.wrong else 'ok':<8}{found.check}" + (f": {text}" if text else ""), flush=True)
    return not found.wrong


def _replayed(folder: Path, count: int) -> Iterator[Finding]:
    """Trials that are done, spread evenly over the suite."""
    from bench.runner.preparing import isolated  # loads torch, which the other checks do without
    from bench.suite.model import SuiteError
    from bench.trial.replay import difference

    done = [about for about in read_trials(folder) if about["status"] == "done"]
    if not done:
        yield Finding("replay", "", "none: only trials of suites are made again, and those that are done")
    chosen = [done[k * len(done) // count] for k in range(count)] if len(done) > count else done
    for about in chosen:
        name = f"replay of {about['task']} {about['algorithm']} seed {about['seed']}"
        try:
            wrong = isolated(difference, folder, about, say=command.say)
        except SuiteError as error:
            wrong = str(error)
        yield Finding(name, wrong)


if __name__ == "__main__":
    sys.exit(main())
