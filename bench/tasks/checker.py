"""The checks of a task in their order: what `bench.check` prints, and what a run refuses in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

from algorithms import SettingError
from bench.envs.errors import EnvError, error_line_with_place
from bench.tasks import registry
from bench.tasks.batch_contract import batch_is_the_environment, batch_seeds, numbers, resume
from bench.tasks.contract import agents, ends, infos, masks, observations, replay, rewards, seeds, spaces_, state
from bench.tasks.random_episodes import ContractError, TaskUnderCheck, playing
from bench.tasks.registry import Task


@dataclass(frozen=True)
class Result:
    """What came of one check."""

    name: str
    passed: bool | None
    """None: it was not tried, because one that it needs failed."""
    note: str = ""
    """What was found, or what is wrong, in one line."""


def results(task: Task) -> Iterator[Result]:
    """Every check of a task as it is made."""
    subject, passed = subject_of(task), set[str]()
    for name, (check, needs) in checks(subject).items():
        result = attempt(name, check, subject) if {*needs} <= passed else Result(name, None)
        if result.passed:
            passed.add(name)
        yield result


@cache
def first_failure(task: Task) -> str:
    """The first check that a task fails, with what is wrong; empty if it passes all. Only PettingZoo's are checked."""
    if task.environment() is None:
        return ""
    failed = next((result for result in results(task) if result.passed is False), None)
    return f"{failed.name}: {failed.note}" if failed else ""


def subject_of(task: Task) -> TaskUnderCheck:
    """A task with nothing played yet."""
    return TaskUnderCheck(task.environment(), partial(registry.make, task), task.episode_length)


def attempt(name: str, check: Callable[..., str], *arguments: object) -> Result:
    """The result of a check that raises what is wrong, or lets through what the environment raised."""
    subject = next(x for x in arguments if isinstance(x, TaskUnderCheck))
    try:
        with subject.opened:
            return Result(name, True, check(*arguments))
    except (ContractError, EnvError, SettingError) as error:
        return Result(name, False, str(error))
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # most likely raised by the environment
        return Result(name, False, f"raised {error_line_with_place(error)}")


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
        "infos": (infos, (*made, "masks")),
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
