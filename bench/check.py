# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.check TASK`: check a task, one line per check (`ok` or what is wrong), and measure its speed.

Everything that training relies on is checked with random actions: agents, spaces, observations, rewards, ends, masks,
seeds, and that an episode is bitwise a function of its seed and its actions. Exit status 1 if a check failed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import sys
from collections.abc import Sequence
from typing import Any

import yaml

from algorithms import SettingError
from bench.suite.yaml12 import parse
from bench.tasks import registry
from bench.tasks.batch_contract import speed
from bench.tasks.checker import attempt, results, subject_of

LINES = {True: "ok      ", False: "FAILED  ", None: "        not tried: "}
"""How the line of a check begins: it passed, it failed, or one that it needs did."""


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all checks pass, 1 if one fails, 2 for an invalid task."""
    parser = command.Parser(prog="python -m bench.check", description=__doc__)
    parser.add_argument("task", metavar="TASK", help="such as pettingzoo/simple_spread_v3 or python:module:factory")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the task")
    options = parser.parse_args(arguments)
    try:
        task = registry.task(options.task, dict(_option(text) for text in options.set))
        task.environment()
    except SettingError as error:
        parser.error(f"{error.key}: {error}")
    print(command.one_line(task.label))
    passed = True
    for result in results(task):
        print(f"{LINES[result.passed]}{result.name}" + (f": {result.note}" if result.note else ""), flush=True)
        passed &= bool(result.passed)
    if not passed:
        return 1
    rates = attempt("speed", speed, task, subject_of(task))
    print(f"speed   {rates.note}" if rates.passed else f"{LINES[False]}speed: {rates.note}", flush=True)
    return int(not rates.passed)


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    try:
        if not equals or not key:
            raise SettingError("--set", f"{text}: write OPTION=VALUE, for example max_cycles=50")
        return key, parse(value)
    except yaml.YAMLError as error:
        raise SettingError("--set", f"{text}: the value is not YAML ({error})") from None


if __name__ == "__main__":
    sys.exit(main())
