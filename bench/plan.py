# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.plan SUITE.yaml --workers N`: what would a suite take on a cluster, and what would be scarce first?

Costs are measured on this machine, as `bench.run --dry-run` does, and a run on N workers is simulated with them.
Nothing is trained and nothing is written.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import math
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.cli.command import between, counted, up_to
from bench.cli.display import clock
from bench.runner.attempt import Effort
from bench.runner.backends.local import jobs_here
from bench.runner.cost import CHECKPOINT_BYTES, POLICY_BYTES, Cost, machine_memory
from bench.runner.pool import in_order
from bench.runner.preparing import Asked, Prepared, add_suite, isolated, prepared, start_seconds
from bench.runner.simulation import DRIVER_SECONDS, FILES_THAT_STAY, WINDOW, Forecast, Job, forecast, simulate
from bench.store.remote import Remote
from bench.store.trials import FRESH_FACTOR
from bench.suite.model import SuiteError
from bench.suite.trial import Trial
from bench.trial.session import PROGRESS_SECONDS

STARTS = 3
"""Trials of which the start is measured; the median counts."""
MOST_FAILURES = 3.0
"""Expected while a process works for one checkpoint: with more, a trial hardly ever ends."""


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 for bad input."""
    options = _parser().parse_args(arguments)
    memory = options.node_memory * 1e9 if options.node_memory else machine_memory()
    try:
        found: Prepared = isolated(prepared, Asked.of(options), say=command.say)
        todo = in_order(found.prices, found.prices)
        if not todo:
            print(f"Nothing to run: {counted(len(found.selected), 'trial')} done already in {options.results}")
            return 0
        cores = Effort(options.env_threads).cores(*todo)
        per_node = options.workers_per_node or jobs_here(None, cores)
        start = _start_seconds(todo, options.env_threads)
        shows = not isinstance(options.results, Remote)
        jobs = [job(trial, found.prices[trial], start, options.speed, shows) for trial in todo]
        _refuse_endless(todo, jobs, options.fail_rate)
    except SuiteError as error:
        return command.refused(error)
    runs = simulate(jobs, options.workers, options.fail_rate, options.seed)
    seen = forecast(runs, options.workers, per_node)
    print("\n".join(_described(seen, todo, found, start, cores, options)))
    print(f"How much is used of what there is, the scarcest first (a peak is the mean over {WINDOW:.0f} s)")
    for limit in sorted(_limits(seen, len(todo), per_node, memory, options), key=lambda x: -x.share):
        print(f"  {limit.what:<16}{limit.share:>6.1%}  {limit.note}")
    return 0


def job(trial: Trial, cost: Cost, start: float, speed: float, shows: bool = True) -> Job:
    """What a trial takes of a worker that is `speed` times as fast as this machine.

    `shows`: whether it writes how far it is where the results lie, which it does not in an object store.
    """
    points, fresh = trial.steps // trial.every, 2 * FRESH_FACTOR
    training = (cost.seconds - (points + 1 + fresh) * cost.evaluation) / speed
    evaluation = cost.evaluation / speed
    update = training / (trial.steps / (trial.settings.envs * trial.settings.rollout_length))
    left, training = max(round(points * cost.share), 1), training * cost.share  # of a trial that goes on
    fresh_start, interval = cost.share == 1, training / left + evaluation  # only a new one evaluates at step 0
    # after the first update that ends more than PROGRESS_SECONDS after the last time
    every = update * (PROGRESS_SECONDS // update + 1)
    replay = cost.checkpoint - CHECKPOINT_BYTES
    written_at_end = cost.disk - trial.keep * cost.checkpoint  # a checkpoint that is kept was written before
    tables = written_at_end - POLICY_BYTES
    return Job(
        start=start / speed,
        first=evaluation if fresh_start else interval,
        interval=interval,
        saves=left + fresh_start,
        last=fresh * evaluation,
        memory=cost.memory,
        save_bytes=CHECKPOINT_BYTES + tables,  # tables grow from nothing, and stand in the checkpoint too
        replay_bytes=replay,
        full=min(getattr(trial.settings, "buffer_size", trial.steps), trial.steps) / trial.every,
        end_bytes=written_at_end,
        progress=training / every if shows else 0.0,
    )


def _start_seconds(todo: Sequence[Trial], env_threads: int) -> float:
    some = [todo[k * len(todo) // STARTS] for k in range(STARTS)]
    return median(start_seconds(trial, env_threads, command.say) for trial in some)


def _refuse_endless(todo: Sequence[Trial], jobs: Sequence[Job], fail_rate: float) -> None:
    worst, trial = max(((job.stretch, trial) for job, trial in zip(jobs, todo, strict=True)), key=lambda x: x[0])
    if worst / 3600 * fail_rate > MOST_FAILURES:
        raise SuiteError(
            f"--fail-rate {fail_rate:g}: {trial.name} works up to {clock(worst)} without a checkpoint, in which its "
            f"process would fail {worst / 3600 * fail_rate:.1f} times; give up to {MOST_FAILURES * 3600 / worst:.2g} "
            "per hour, or lower evaluate.every"
        )


def _described(
    seen: Forecast, todo: Sequence[Trial], found: Prepared, start: float, cores: int, options: Namespace
) -> Iterator[str]:
    """What is simulated, and what came out, one line each."""
    trials, span = len(todo), seen.makespan
    speed = f"{options.speed:g} times as fast" if options.speed != 1 else "as fast"
    kept, files = sum(found.prices[t].disk for t in todo), _files(options)
    yield (
        f"{counted(trials, 'trial')} of {counted(len({(t.task, t.label) for t in todo}), 'pairing')} on "
        f"{counted(options.workers, 'worker')} with {counted(cores, 'core')}, {speed} as this machine"
    )
    start /= options.speed
    yield f"  makespan    {clock(span)}; the longest trial takes {clock(seen.longest)}, {start:.1f} s of it to start"
    yield f"  efficiency  {seen.efficiency:.1%}: workers have a trial for {clock(seen.busy)} in all"
    if seen.failures:
        yield (
            f"  lost        {clock(seen.lost)} of that, by {counted(seen.failures, 'failure')}; one trial has up to "
            f"{seen.most_failures} here, and --retries of bench.run must allow as many or more"
        )
    yield (
        f"  written     {amount(seen.written)} in {seen.files:,.0f} {files}; {amount(kept)} in "
        f"{trials * FILES_THAT_STAY:,} {files} stay"
    )
    yield (
        f"  scheduler   {trials / span:.2f} trials/s begin and end; at peak {seen.submissions_peak:.1f}/s begin, "
        f"{seen.outcomes_peak:.1f}/s end"
    )
    yield (
        f"  store       {amount(seen.written / span)}/s in {seen.files / span:,.1f} {files}/s; at peak "
        f"{amount(seen.bytes_peak)}/s, {seen.files_peak:,.1f} {files}/s"
    )


def _files(options: Namespace) -> str:
    """What results consist of where they lie."""
    return "objects" if isinstance(options.results, Remote) else "files"


@dataclass(frozen=True)
class Limit:
    """Something of which there is only so much."""

    what: str
    share: float
    """How much of it is used."""
    note: str


def _limits(seen: Forecast, trials: int, per_node: int, memory: float, options: Namespace) -> Iterator[Limit]:
    """What could be scarce."""
    yield Limit(
        "longest trial",
        seen.longest / seen.makespan,
        f"of the makespan; more than about {math.ceil(seen.busy / seen.longest):,} workers would not shorten it",
    )
    note = f"of {amount(memory)}, on the fullest node, with up to {counted(per_node, 'worker')}"
    yield Limit("node memory", seen.node_memory / memory, note)
    driver = trials * DRIVER_SECONDS / seen.makespan
    yield Limit("driver", driver, f"of a core, at {DRIVER_SECONDS * 1e3:.0f} ms a trial")
    bandwidth, files = options.store_gb * 1e9, _files(options)
    yield Limit(
        f"store's {files}", seen.files_peak / options.store_files, f"of {options.store_files:,.0f} {files}/s, at peak"
    )
    yield Limit("store's bytes", seen.bytes_peak / bandwidth, f"of {amount(bandwidth)}/s, at peak")


def amount(count: float) -> str:
    """Bytes with a unit."""
    for size, unit in ((1e12, "TB"), (1e9, "GB")):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e6:,.1f} MB"


def _parser() -> command.Parser:
    parser = command.Parser(prog="python -m bench.plan", description=__doc__)
    add_suite(parser)

    def number(option: str, least: float, most: float, default: float, metavar: str, about: str) -> None:
        about = f"{about}; default: {default:g}"
        parser.add_argument(option, type=between(least, most), default=default, metavar=metavar, help=about)

    parser.add_argument(
        "--workers", type=up_to(100_000), required=True, metavar="N", help="workers; each runs one trial at a time"
    )
    number("--speed", 0.01, 100, 1.0, "FACTOR", "how many times as fast as this machine a worker is")
    rate = "failures per hour of each worker's process at work; it goes on from its checkpoint"
    number("--fail-rate", 0, 1000, 0.0, "P", rate)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the simulated failures; default: 0")
    parser.add_argument(
        "--workers-per-node",
        type=up_to(100_000),
        metavar="N",
        help="workers that share a node's memory; default: cores of this machine / cores of a trial",
    )
    parser.add_argument(
        "--node-memory", type=between(0.1, 1e6), metavar="GB", help="of each node; default: that of this machine"
    )
    number("--store-files", 1, 1e9, 1000.0, "N", "files, or objects, per second that the place of the results takes")
    number("--store-gb", 0.001, 1e6, 1.0, "GB", "GB per second that it takes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
