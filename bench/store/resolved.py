"""`resolved.json`: tasks, algorithms and skipped pairings of a suite or study. Commands write it, reports read it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from bench.store import files

NAME = "resolved.json"
OPTIONS = re.compile(r"(:\w+=.*)$", re.DOTALL)
"""At the end of a task's label."""
FEWEST_EPISODES = 16
"""That tell sure changes of the return from chance, where it is not computed exactly."""


@dataclass(frozen=True)
class Algorithm:
    """What a label stands for."""

    method: str
    """The name of its method."""
    summary: str
    """The method in one line."""
    ablation: bool
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """The default of every setting that has one; empty in files of versions that did not store them."""


@dataclass(frozen=True)
class Claim:
    """What a suite is to decide, as its file states it under `claims`."""

    says: str
    """The claim in a sentence."""
    kind: str
    """`outperforms`, `grows_with_agents` or `improves_monotonically`."""
    algorithms: Sequence[str]
    """Labels: the claim is about each of them."""
    against: Sequence[str]
    """Labels that each of them is compared with; empty for `improves_monotonically`."""
    tasks: Sequence[str]
    """Labels of tasks."""
    measure: str
    """`final` or `absolute`, the kind of records."""
    margin: float
    """Differences of normalised returns within ±margin count as none."""
    ended_before: int = 0
    """Trials that had ended when the claim was first stated; 0 if it was stated before there were results."""


def by_robot(agents: Mapping[str, int]) -> list[list[str]]:
    """The tasks of each robot that comes with several numbers of agents; `agents` has that of each task.

    Tasks of one robot have the same label but for their options, in Multi-Agent MuJoCo and games of coordination also
    but for what follows "-".
    """
    robots: dict[str, list[str]] = {}
    for task in agents:
        name = OPTIONS.sub("", task)
        robot = name.partition("-")[0] if name.startswith(("mamujoco/", "games/coordination-")) else name
        robots.setdefault(robot, []).append(task)
    return [tasks for tasks in robots.values() if len({agents[task] for task in tasks}) > 1]


@dataclass(frozen=True)
class Resolved:
    """What the names in a suite or study file were resolved to."""

    methods: Sequence[str]
    """The built-in methods, in the order of the registry."""
    tasks: Sequence[str]
    """Labels of tasks, in the order of the file."""
    algorithms: Mapping[str, Algorithm]
    """label -> what it stands for; in the order of the registry, those of one method in that of the file."""
    skipped: Sequence[tuple[str, str]]
    """The pairings (task, label) that the file leaves out."""
    agents: Mapping[str, int] = field(default_factory=dict)
    """task -> how many agents it has."""
    claims: Mapping[str, Claim] = field(default_factory=dict)
    """name -> claim; in the order of the file."""
    first_seed: int = 0
    looks: Sequence[int] = ()
    """Numbers of seeds at which claims are decided: one, or as many as there are rounds of seeds."""
    suite_file: str = ""
    """SHA-256 of the `suite.yaml` beside it; empty where there is none."""

    def planned(self) -> set[tuple[str, str, int]]:
        """(task, label, seed) of the trials asked for in any case; further seeds are added where a claim is undecided.

        Empty where it is not known at how many seeds claims are decided.
        """
        pairings = [pair for pair in product(self.tasks, self.algorithms) if pair not in self.skipped]
        return {(*pair, self.first_seed + k) for pair in pairings for k in range(min(self.looks, default=0))}

    def write(self, folder: Path) -> None:
        """Write it into a folder of results."""
        files.write_sealed_json(folder / NAME, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Resolved | None:
        """That of a folder of results; None if there is none."""
        path = folder / NAME
        if not path.is_file():
            return None
        found = files.read_sealed_json(path)
        try:
            return cls(
                methods=[str(name) for name in found["methods"]],
                tasks=[str(task) for task in found["tasks"]],
                algorithms={label: Algorithm(**about) for label, about in found["algorithms"].items()},
                skipped=[(str(task), str(label)) for task, label in found["skipped"]],
                agents={str(task): int(count) for task, count in found.get("agents", {}).items()},
                claims={str(name): Claim(**about) for name, about in found.get("claims", {}).items()},
                first_seed=int(found.get("first_seed", 0)),
                looks=[int(look) for look in found.get("looks", [])],
                suite_file=str(found.get("suite_file", "")),
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise files.StoreError(f"{path}: not as bench.run and bench.tune write it ({error!r})") from error
