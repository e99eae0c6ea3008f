"""`python -m bench.run SUITE.yaml`: train and evaluate every trial of a suite, as many at once as there are jobs."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: trials are the unit of parallelism

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from bench.cli.command import BAD_INPUT, positive
from bench.runner.cost import costs, refuse_replays_beyond_memory
from bench.runner.folder import LOCK, locked, refuse_changed
from bench.runner.pool import run_trials
from bench.runner.summary import describe, physics_warning
from bench.store import files
from bench.suite.model import SuiteError
from bench.suite.overrides import only
from bench.suite.resolving import load, resolved, trials
from bench.suite.shipped import find
from bench.trial import status
from bench.trial.status import read_status


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every selected trial is done, 1 when one failed, 2 for bad input, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        suite, document = load(options.suite, options.set, options.include)
        planned = trials(suite, options.suite)
        selected = only(planned, options.only)
        folder = options.results / suite.name
        refuse_changed(planned, folder)
        todo = [t for t in selected if read_status(t, folder).get("status") != "done"]
        jobs = options.jobs or max((os.cpu_count() or 1) // options.env_threads, 1)
        refuse_replays_beyond_memory(todo, jobs)
        if not options.dry_run and (folder / LOCK).exists():
            with locked(folder):
                pass  # a folder at which another run is at work is refused before the costs are measured
        prices = costs(todo, options.env_threads)
    except (SuiteError, files.StoreError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    print(describe(selected, prices, folder, jobs), flush=True)
    if warning := physics_warning(todo):
        print(warning, file=sys.stderr)
    if options.dry_run:
        return 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            files.write_text(folder / "suite.yaml", yaml.safe_dump(document, sort_keys=False))
            resolved(planned).write(folder)
            for t in planned:
                status.register(t, folder)
            return run_trials(todo, folder, jobs, options.env_threads, prices)
    except SuiteError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except files.StoreError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__, allow_abbrev=False)
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
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
