# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.run SUITE.yaml`: train and evaluate every trial of a suite, as many at once as there are jobs."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: trials are the unit of parallelism

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import shlex
import sys
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from bench.cli.command import positive, up_to
from bench.cli.installation import installing
from bench.runner import backends, folder
from bench.runner.attempt import Effort
from bench.runner.backends import Backend
from bench.runner.pool import add_effort, run_trials
from bench.runner.preparing import Asked, Prepared, add_suite, isolated, prepared
from bench.runner.rounds import run_rounds
from bench.runner.summary import describe
from bench.runner.tracking import tracked
from bench.store import files
from bench.store.places import patient, shown, working
from bench.store.remote import Remote, StoreGone
from bench.store.tracking import TRACKERS
from bench.suite.model import SuiteError
from bench.trial.budget import lengthen


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every selected trial is done, 1 when one failed, 2 for bad input, 130 after Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if bool(options.until) != bool(options.max_seeds) or (options.until and options.only):
        parser.error("--until decided needs --max-seeds N, and the other way round, and the whole suite: no --only")
    for tracker in options.log:
        if not (spec := find_spec(tracker)) or not spec.origin:  # a folder of that name here is no package
            return command.refused(f"--log {tracker}: needs the extra {tracker}: {installing(tracker)}")
    if isinstance(options.results, Remote):
        options.results = replace(options.results, lease=options.lease)
    try:
        with backends.connect(options.on, options.address, options.jobs) as backend:
            return _run(options, backend)
    except SuiteError as error:
        return command.refused(shown(options.results, error))
    except files.StoreError as error:
        command.refused(shown(options.results, error))
        if isinstance(error, StoreGone):
            again = ["python", "-m", "bench.run", *(sys.argv[1:] if arguments is None else arguments)]
            print(f"The same command goes on, on this machine: {shlex.join(again)}", file=sys.stderr)
        return 1


def _run(options: Namespace, backend: Backend) -> int:
    """Plan what is to do, say what it will cost, and do it."""
    asked = Asked.of(
        options,
        most_seeds=options.max_seeds,
        jobs=options.jobs,
        here=not backend.remote,
        restart=options.restart,
        advised=options.dry_run and not backend.remote,
    )
    found: Prepared = isolated(prepared, asked, say=command.say)
    results = patient(options.results / found.planned[0].suite)
    effort = Effort(options.env_threads, options.stall, options.retries)
    cores = effort.cores(*found.planned)
    backend.share_out(cores)
    at_once = backend.at_once(cores), backend.in_parallel(cores)
    print(describe(found.selected, found.prices, results, *at_once, found.longer, found.lost), flush=True)
    if found.cores:
        print(f"  cores       {found.cores}")
    if found.warning:
        print(found.warning, file=sys.stderr)
    if options.dry_run:
        return 0
    if found.longer or found.lost:
        lengthen(found.planned, found.lost, results)
    with tracked(working(results), options.log, say=command.say):
        if options.until:
            return run_rounds(found, results, effort, backend, judged)
        folder.prepare(found.planned, found.document, found.resolved, results)
        return run_trials([*found.prices], results, effort, found.prices, backend)


def judged(results: Path) -> tuple[set[tuple[str, str]], list[str]]:
    """The tasks and algorithms on which more seeds may decide a claim, and the claims that are undecided."""
    from bench.report import claims, load  # matplotlib takes a second, which only this needs

    try:
        found = claims.verdicts(load.load(results))
        return claims.open_pairings(found), [one.name for one in found if one.verdict == claims.UNDECIDED]
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
    add_suite(parser)
    parser.add_argument(
        "--lease",
        type=up_to(86_400),
        default=180,
        metavar="SECONDS",
        help="with a store: when a trial of a machine that is silent is taken up by others; default: 180",
    )
    parser.add_argument(
        "--until",
        choices=["decided"],
        help="add seeds until the claims of the suite are decided; needs --max-seeds",
    )
    parser.add_argument(
        "--keep",
        dest="set",
        action="append_const",
        const="keep=true",
        help="keep the last checkpoint of each trial, so that it can be given more steps: --set steps=...",
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="with more steps than the results have: start those trials over that have kept no checkpoint",
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
