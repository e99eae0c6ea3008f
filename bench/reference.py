# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.reference TASK ...`: measure the scores by which returns are normalised.

For each task, the mean return of uniformly random actions (normalised 0) and, unless --random-only, the last evaluation
of HAPPO with the default settings (normalised 1), trained on seeds that are never reported. A modest number of steps is
enough: the reference is a fixed point of the scale, not a claim about what can be reached. Without --write the numbers
are printed only. Unless tasks are named, those that have their numbers already are left out. Where both are
known exactly (games), nothing is measured, and 1 is the optimum.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: trials are the unit of parallelism

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import algorithms
from algorithms import Discrete, SettingError, Team
from algorithms.rollout import Space
from bench.cli.command import positive, up_to
from bench.envs.errors import EnvError
from bench.runner.attempt import Effort
from bench.runner.backends.local import Local
from bench.runner.cost import costs
from bench.runner.folder import refuse_changed
from bench.runner.pool import run_trials
from bench.runner.preparing import isolated
from bench.store import files, scores
from bench.store.provenance import mujoco_version
from bench.store.remote import local_folder
from bench.store.trials import trial_table
from bench.suite.model import Suite, SuiteError
from bench.suite.resolving import trials
from bench.suite.trial import Trial
from bench.tasks import registry
from bench.tasks.registry import Task
from bench.trial.collect import play
from bench.trial.status import read_status

EPISODES = 100
"""Of random actions; the batch plays them all at once."""
SEED = 109251
"""What those episodes and actions are drawn from."""
ALGORITHM = "happo"
FIRST_SEED = 1000
"""The references' own seeds, like those of studies, are never reported."""
EVALUATIONS = 10


class Uniform:
    """A policy that draws every number of an action uniformly, from [-1, 1] or from the allowed choices."""

    def __init__(self, team: Team):
        self.team, self.generator = team, torch.Generator().manual_seed(SEED)

    def act(
        self, observations: Sequence[Tensor], explore: bool, masks: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """Actions, N x [E, A_i]."""
        masks = masks or [None] * self.team.size
        return [
            self._draw(len(x), space, mask)
            for x, space, mask in zip(observations, self.team.action_spaces, masks, strict=True)
        ]

    def _draw(self, rows: int, space: Space, mask: Tensor | None) -> Tensor:
        if not isinstance(space, Discrete):
            return torch.rand(rows, space.size, generator=self.generator) * 2 - 1
        scores = torch.rand(rows, space.choice_count, generator=self.generator)
        if mask is not None:
            scores = scores.masked_fill(~mask, -1)
        return torch.stack([part.argmax(1) for part in scores.split(space.choices, dim=1)], dim=1).float()


def _versions(task: Task) -> dict[str, Any]:
    """What the numbers of a task depend on."""
    return {"mujoco": mujoco_version()} if task.robot else task.origin()


def random_score(task: Task, episodes: int = EPISODES) -> dict[str, Any]:
    """The entry of a random policy: mean return of uniform actions, its standard error, number of episodes."""
    with closing(registry.make(task, np.random.SeedSequence(SEED).spawn(episodes), auto_reset=False)) as batch:
        returns = play(cast(Any, Uniform(batch.team)), batch).returns
    error = float(returns.std(ddof=1) / np.sqrt(episodes))
    return {"mean": round(float(returns.mean()), 4), "standard_error": round(error, 4), "episodes": episodes}


def exact_entry(task: Task) -> dict[str, Any] | None:
    """The entry of a task whose scores are known: the mean return of random actions and the optimum; else None."""
    if (known := task.exact_scores()) is None:
        return None
    random, best = (round(x, 9) for x in known)
    return task.origin() | {"random": {"mean": random, "exact": True}, "reference": {"mean": best, "exact": True}}


def planned(names: Sequence[str], steps: int, seeds: int) -> list[Trial]:
    """The trials whose last evaluations become references."""
    suite = Suite(
        name="reference",
        steps=steps,
        seeds=seeds,
        first_seed=FIRST_SEED,
        evaluate={"every": steps // EVALUATIONS, "episodes": 32},  # type: ignore[arg-type]
        tasks=list(names),
        algorithms={ALGORITHM: None},
    )
    return trials(suite, Path("bench.reference"))


def reference_score(of: Sequence[Trial], folder: Path) -> dict[str, Any]:
    """The entry of a reference: the mean of the last evaluations of its trials, which are done."""
    ends, abouts = [], [read_status(t, folder) for t in of]
    for t, about in zip(of, abouts, strict=True):
        records = trial_table(folder, "records", about)
        last = records[(records["kind"] == "grid") & (records["step"] == t.steps)]
        ends.append(float(last["episode_return"].mean()))
    return {
        "mean": round(float(np.mean(ends)), 4),
        "algorithm": ALGORITHM,
        "settings": abouts[0]["settings"],
        "steps": of[0].steps,
        "seeds": [t.seed for t in of],
        "episodes": of[0].episodes,
        "commit": abouts[0]["provenance"]["commit"],
    }


def without_numbers(random_only: bool) -> list[str]:
    """The tasks of which no reference is recorded; with `random_only` those without a mean return of random actions."""
    found = {name: scores.score(name) for name in registry.names()}
    return [name for name, score in found.items() if not score or (score.reference is None and not random_only)]


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all is measured, 1 when a trial failed, 2 for bad input, 130 after Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    defaults = algorithms.settings(ALGORITHM, {})
    grid = EVALUATIONS * defaults.envs * defaults.rollout_length
    if options.steps % grid and not options.random_only:
        parser.error(f"--steps {options.steps}: must be a multiple of {grid}: {EVALUATIONS} parts of whole updates")
    try:
        chosen = [registry.task(name, {}) for name in options.tasks or without_numbers(options.random_only)]
        exact = {t.name: entry for t in chosen if (entry := exact_entry(t))}
        trained = [] if options.random_only else [t.name for t in chosen if t.name not in exact]
        todo = planned(trained, options.steps, options.seeds) if trained else []
    except (SettingError, SuiteError) as error:
        return command.refused(f"bench.reference: {error}")
    if not chosen:
        print("All tasks have their numbers; name those to be measured again.")
        return 0
    folder = options.results / "reference"
    try:
        if todo:
            refuse_changed(todo, folder)
        left = [t for t in todo if read_status(t, folder).get("status") != "done"]
        if left:
            prices = isolated(costs, left, say=command.say)
            folder.mkdir(parents=True, exist_ok=True)
            if status := run_trials(left, folder, Effort(), prices, Local(options.jobs)):
                return status
        found: dict[str, Any] = {}
        for task in chosen:
            found[task.name] = exact.get(task.name) or {**_versions(task), "random": random_score(task)}
            if own := [t for t in todo if t.task == task]:
                found[task.name]["reference"] = reference_score(own, folder)
            print(f"{task.name:<36} {json.dumps(found[task.name])}", flush=True)
    except (SuiteError, SettingError, EnvError, files.StoreError) as error:
        return command.refused(f"bench.reference: {error}")
    if options.write:
        write(found)
    return 0


def write(found: dict[str, Any]) -> None:
    """Put the entries into scores.json, one line each; a reference stays where only random actions were measured."""
    old = files.read_json(scores.PATH) if scores.PATH.exists() else {}
    entries = old | {name: old.get(name, {}) | entry for name, entry in found.items()}
    lines = [f" {json.dumps(name)}: {json.dumps(entries[name], allow_nan=False)}" for name in sorted(entries)]
    files.write_text(scores.PATH, "{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{scores.PATH}: {len(entries)} tasks, {sum('reference' in e for e in entries.values())} with a reference")


def _parser() -> command.Parser:
    parser = command.Parser(
        prog="python -m bench.reference",
        description="Measure the scores of tasks: random actions (0) and HAPPO at its defaults (1).",
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="unless told all that have no numbers yet")
    parser.add_argument("--steps", type=up_to(10**9), default=400_000, metavar="N", help="of training; default: 400000")
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="trials per task; default: 3")
    parser.add_argument("--random-only", action="store_true", help="train nothing")
    parser.add_argument("--write", action="store_true", help="store the numbers in bench/store/scores.json")
    parser.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, metavar="N", help="trials at once")
    parser.add_argument("--results", type=local_folder, default=Path("results"), metavar="DIR", help="default: results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
