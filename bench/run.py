# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.run SUITE.yaml`: train and evaluate every trial of a suite, as many at once as there are jobs."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: trials are the unit of parallelism

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import sys
from argparse import Action, ArgumentParser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bench.cli.command import positive
from bench.runner import folder
from bench.runner.pool import Effort, add_effort, run_trials
from bench.runner.preparing import Prepared, isolated, prepared
from bench.runner.rounds import run_rounds
from bench.runner.summary import describe
from bench.runner.tracking import tracked
from bench.store import files
from bench.store.tracking import TRACKERS
from bench.suite.model import SuiteError
from bench.suite.shipped import find


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every selected trial is done, 1 when one failed, 2 for bad input, 130 after Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if bool(options.until) != bool(options.max_seeds) or (options.until and options.only):
        parser.error("--until decided needs --max-seeds N, and the other way round, and the whole suite: no --only")
    for tracker in options.log:
        if find_spec(tracker) is None:
            parser.error(f"--log {tracker}: needs the extra {tracker}: pip install '.[{tracker}]'")
    jobs = options.jobs or max((os.cpu_count() or 1) // options.env_threads, 1)
    try:
        found: Prepared = isolated(
            prepared,
            *(options.suite, options.results, options.set, options.include, options.only, options.max_seeds),
            *(options.env_threads, jobs),
            say=lambda line: print(line, file=sys.stderr),
        )
    except SuiteError as error:
        return command.refused(error)
    results = options.results / found.planned[0].suite
    print(describe(found.selected, found.prices, results, jobs), flush=True)
    if found.warning:
        print(found.warning, file=sys.stderr)
    if options.dry_run:
        return 0
    try:
        effort = Effort(jobs, options.env_threads, options.stall, options.retries)
        with tracked(results, options.log, say=lambda line: print(line, file=sys.stderr)):
            if options.until:
                return run_rounds(found, results, effort, undecided_pairings)
            folder.prepare(found.planned, found.document, found.resolved, results)
            return run_trials([*found.prices], results, effort, found.prices)
    except SuiteError as error:
        return command.refused(error)
    except files.StoreError as error:
        command.refused(error)
        return 1


def undecided_pairings(results: Path) -> set[tuple[str, str]]:
    """The tasks and algorithms of the claims that the results of a suite do not decide yet."""
    from bench.report import claims, load  # matplotlib takes a second, which only this needs

    try:
        return claims.open_pairings(claims.verdicts(load.load(results)))
    except load.ReportError as error:
        raise SuiteError(str(error)) from None


class ShowDefaults(Action):
    """Print the settings of a method with their defaults, and stop."""

    def __call__(self, parser: ArgumentParser, _namespace: object, value: object, _option: object = None) -> None:
        from algorithms import SettingError
        from bench.suite import defaults  # torch takes a second, which only this needs

        try:
            print(defaults.shown(str(value)))
        except SettingError as error:
            parser.error(f"--show-defaults: {error}")
        parser.exit()


def _parser() -> command.Parser:
    parser = command.Parser(prog="python -m bench.run", description=__doc__)
    parser.add_argument(
        "suite", type=find, metavar="SUITE.yaml", help="a file, or the name of a suite that comes with the benchmark"
    )
    parser.add_argument("--jobs", type=positive, metavar="N", help="trials at once; default: cores / env-threads")
    parser.add_argument(
        "--env-threads",
        type=positive,
        default=1,
        metavar="N",
        help="threads for the physics of each trial; default: 1",
    )
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="change the suite: algorithms.happo.clip=0.1"
    )
    parser.add_argument(
        "--include",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="settings that a study found: results/<study>/best.yaml",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY=NAMES", help="run a part: algorithm=happo,mappo or task=..."
    )
    parser.add_argument(
        "--until",
        choices=["decided"],
        help="add seeds until the claims of the suite are decided; needs --max-seeds",
    )
    parser.add_argument("--max-seeds", type=positive, metavar="N", help="the most seeds that --until decided may use")
    add_effort(parser)
    parser.add_argument(
        "--log",
        action="append",
        choices=[*TRACKERS],
        default=[],
        help="tell a tracker of each trial that has ended, in local files; may be given more than once",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--show-defaults", action=ShowDefaults, metavar="METHOD", help="print a method's settings, and stop: happo"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
