"""Whether threads within a trial pay on this machine, where fewer trials run at once than it has cores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from bench.cli.command import counted
from bench.runner.cost import Cost, costs
from bench.suite.trial import Trial
from bench.trial.link import Link

LEAST_GAIN = 1.1
"""A trial that becomes less fast than this many times as fast by threads is said not to."""


def what_pays(prices: Mapping[Trial, Cost], jobs: int, link: Link | None = None) -> str:
    """How this machine's cores are best used, in one line; where some are left over, the longest trial is measured."""
    cores, at_once = os.cpu_count() or 1, min(len(prices), jobs)
    few = " at once" if at_once < len(prices) else ""
    here, threads = f"{cores} for {counted(at_once, 'trial')}{few}", cores // max(at_once, 1)
    if threads < 2:
        return f"{here}: a core each, and threads would not help"
    longest = max(prices, key=lambda t: prices[t].seconds)
    alone = _seconds(longest, 1, 1, link)
    gains = {
        f"--env-threads {threads}": alone / _seconds(longest, threads, 1, link),
        f"--set learner_threads={threads}": alone / _seconds(longest, 1, threads, link),
        "both": alone / _seconds(longest, threads, threads, link),
    }
    best = max(gains, key=lambda way: gains[way])
    verdict = f"{best} pays most" if gains[best] >= LEAST_GAIN else "threads do not pay"
    measured = ", ".join(f"{way} {gain:.2g} times as fast" for way, gain in gains.items())
    return f"{here}: {verdict}; measured on {longest.name}: {measured}"


def _seconds(trial: Trial, env_threads: int, learner_threads: int, link: Link | None) -> float:
    """Those that a trial takes with so many threads."""
    other = replace(trial, learner_threads=learner_threads)
    return costs([other], env_threads, link=link)[other].seconds
