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

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import yaml

from algorithms import SettingError
from bench.envs.errors import EnvError, one_line_with_place
from bench.suite.yaml12 import parse
from bench.tasks import registry
from bench.tasks.batch_contract import batch_is_the_environment, batch_seeds, numbers, resume, speed
from bench.tasks.contract import agents, ends, masks, observations, replay, rewards, seeds, spaces_, state
from bench.tasks.random_episodes import ContractError, TaskUnderCheck, playing


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all checks pass, 1 if one fails, 2 for an invalid task."""
    parser = argparse.ArgumentParser(prog="python -m bench.check", description=__doc__, allow_abbrev=False)
    parser.add_argument("task", metavar="TASK", help="such as pettingzoo/simple_spread_v3 or python:module:factory")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the task")
    options = parser.parse_args(arguments)
    try:
        task = registry.task(options.task, dict(_option(text) for text in options.set))
        make = task.environment()
    except SettingError as error:
        parser.error(f"{error.key}: {error}")
    print(task.label)
    subject = TaskUnderCheck(make, partial(registry.make, task), task.episode_length)
    passed: set[str] = set()
    for name, (check, needs) in checks(subject).items():
        if not {*needs} <= passed:
            print(f"        not tried: {name}", flush=True)
        elif (note := tried(name, check, subject)) is not None:
            passed.add(name)
            print(f"ok      {name}: {note}", flush=True)
    if passed != {*checks(subject)} or (rates := tried("speed", speed, task, subject)) is None:
        return 1
    print(f"speed   {rates}", flush=True)
    return 0


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    try:
        if not equals or not key:
            raise SettingError("--set", f"{text}: write OPTION=VALUE, for example max_cycles=50")
        return key, parse(value)
    except yaml.YAMLError:
        raise SettingError("--set", f"{text}: the value is not YAML") from None


def tried(name: str, check: Callable[..., str], *about: Any) -> str | None:
    """The note of a check; None if it failed, which is printed."""
    try:
        return check(*about)
    except (ContractError, EnvError, SettingError) as error:
        complaint = str(error)
    except (Exception, SystemExit) as error:  # most likely raised by the environment
        complaint = f"raised {one_line_with_place(error)}"
    print(f"FAILED  {name}: {complaint}", flush=True)
    return None


def checks(subject: TaskUnderCheck) -> dict[str, tuple[Callable[[TaskUnderCheck], str], Sequence[str]]]:
    """name -> a check, and the checks that must pass first, because it would fail for the same cause.

    First the single environment, if there is one; then the batch, if the single environment is correct.
    """
    made = ("agents", "spaces")
    bare: dict[str, tuple[Callable[[TaskUnderCheck], str], Sequence[str]]] = {
        "agents": (agents, ()),
        "spaces": (spaces_, ("agents",)),
        "playing": (playing, made),
        "observations": (observations, made),
        "rewards": (rewards, made),
        "ends": (ends, made),
        "masks": (masks, made),
        "state": (state, (*made, "observations", "masks")),  # it asks a batch
        "seeds": (seeds, made),
        "replay": (replay, (*made, "playing")),
    }
    if subject.make is None:
        bare = {}
    else:
        bare["batch"] = (batch_is_the_environment, tuple(bare))
    return bare | {
        "numbers": (numbers, tuple(bare)),
        "batch seeds": (batch_seeds, (*bare, "numbers")),
        "resume": (resume, (*bare, "numbers", "batch seeds")),
    }


if __name__ == "__main__":
    sys.exit(main())
