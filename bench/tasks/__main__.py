# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.tasks`: list the tasks with their agents, sizes and papers."""

from __future__ import annotations

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from algorithms import Continuous, Discrete, SettingError
from bench.envs.robots import MAX_SEGMENTS, ROBOTS
from bench.tasks.games import KINDS, PREFIX
from bench.tasks.own import OWN
from bench.tasks.registry import names, task, team

KUBA, ZHONG = "Kuba et al. 2022", "Zhong et al. 2024"


PAPERS: dict[str, tuple[str, ...]] = {
    "mamujoco/Ant-2x4": (KUBA,),
    "mamujoco/Ant-4x2": (KUBA, ZHONG),
    "mamujoco/Ant-8x1": (KUBA,),
    "mamujoco/HalfCheetah-2x3": (KUBA, ZHONG),
    "mamujoco/HalfCheetah-3x2": (KUBA,),
    "mamujoco/HalfCheetah-6x1": (KUBA,),
    "mamujoco/Hopper-3x1": (ZHONG,),
    "mamujoco/Walker2d-2x3": (KUBA, ZHONG),
    "mamujoco/Walker2d-3x2": (KUBA,),
    "mamujoco/Walker2d-6x1": (KUBA, ZHONG),
    "mamujoco/Humanoid-17x1": (KUBA, ZHONG),
    "mamujoco/HumanoidStandup-17x1": (KUBA,),
    "mamujoco/ManySegmentSwimmer-10x2": (KUBA,),
}
"""task -> the papers that compare these methods on it."""


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """Print every task, or write them as JSON."""
    parser = command.Parser(prog="python -m bench.tasks", description="List the tasks.")
    parser.add_argument("--json", action="store_true", help="as a JSON list, for machines")
    as_json = parser.parse_args(arguments).json
    try:
        rows = [_describe(name) for name in names()]
    except SettingError as error:  # an entry point's name is taken
        parser.error(str(error))
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'task':<37} {'agents':>6}  {'state':>5}  {'observations':<20} {'actions':<23} papers")
    for row in rows:
        print(_line(row))
    for robot, spec in ROBOTS.items():
        if spec.segments:
            print(f"mamujoco/{robot}-NxM: any N agents with M segments each, 2 to {MAX_SEGMENTS} segments in all")
    for kind in KINDS:
        if "<" in kind.shown:
            print(f"{PREFIX}{kind.shown}: a game for each")
    print(f"{OWN.form}: any ParallelEnv of your own; `python -m bench.check` tells whether it will do")
    return 0


def _describe(name: str) -> dict[str, Any]:
    """A task with its default options; if it cannot be made, why."""
    about = {"task": name, "papers": list(PAPERS.get(name, ()))}
    try:
        made = task(name, {})
        sizes = team(made)
    except SettingError as error:
        return about | {"missing": str(error)}
    return {
        "task": name,
        "agents": sizes.size,
        "observation_sizes": list(sizes.observation_sizes),
        "action_sizes": [space.size for space in sizes.action_spaces],
        "action_spaces": [_space(space) for space in sizes.action_spaces],
        "state_size": sizes.state_size,
        "episode_length": made.episode_length,
        "masked": any(sizes.has_mask),
        "leaves": sizes.agents_leave,
        "papers": about["papers"],
    }


def _line(row: Mapping[str, Any]) -> str:
    if "missing" in row:
        return f"{row['task']:<37} {row['missing']}"
    papers = ", ".join(row["papers"]) or "-"
    return (
        f"{row['task']:<37} {row['agents']:>6}  {row['state_size']:>5}  {_short(row['observation_sizes']):<20} "
        f"{_actions(row['action_spaces'], row['action_sizes']):<23} {papers}"
    )


def _space(space: Continuous | Discrete) -> str:
    """`continuous 2`: two real numbers; `5`: a choice of five; `3x5`: two choices."""
    return f"continuous {space.size}" if isinstance(space, Continuous) else "x".join(map(str, space.choices))


def _actions(spaces: Sequence[str], sizes: Sequence[int]) -> str:
    if all(space.startswith("continuous") for space in spaces):
        return f"continuous {_short(sizes)}"
    return spaces[0] if len({*spaces}) == 1 else ", ".join(spaces)


def _short(sizes: Sequence[int]) -> str:
    """Sizes per agent: one number if all agree, a range if there are more than four."""
    if len({*sizes}) == 1:
        return str(sizes[0])
    return ", ".join(map(str, sizes)) if len(sizes) <= 4 else f"{min(sizes)} to {max(sizes)}"


if __name__ == "__main__":
    sys.exit(main())
