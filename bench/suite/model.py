"""Suite files as pydantic models: no unknown keys, no conversions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from bench.cli.command import one_line

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")]

Positive = Annotated[int, Field(ge=1, le=10_000)]
"""A number of seeds, episodes or tuning trials."""
Steps = Annotated[int, Field(ge=1, le=10**10)]
"""Environment steps; a core takes more than a week for the most."""
FirstSeed = Annotated[int, Field(ge=0, le=2**32)]
MOST_TASKS, MOST_ALGORITHMS, MOST_TRIALS, MOST_EVALUATIONS = 500, 100, 20_000, 10_000
"""Of one suite or study, the last of one trial. More is a slip of the keyboard: it would only fill the memory."""

EvaluationSeeds = Literal["suite", "study"]
"""The stream of evaluation seeds of the grid: studies choose settings on other episodes than those on which suites
compare algorithms."""


SKIP = "skip"
"""The value in `per_task` for a pairing that is left out."""


class SuiteError(Exception):
    """A suite that cannot be run; the message is one printable line."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


class Strict(BaseModel):
    """A part of a file: no unknown keys, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Tuning(Strict):
    """How settings were tuned, which reports have to mention."""

    study: Name
    trials: Positive
    """Finished tuning trials of this algorithm, including the defaults."""
    steps: Steps
    """Environment steps of each task and seed of a tuning trial."""
    first_seed: FirstSeed
    seeds: Positive
    hash: str
    """Hash of the study's table of tuning trials."""
    overridden: str = ""
    """Settings that `--set` changed afterwards, joined by commas."""

    def used(self) -> range:
        """The seeds on which the settings were chosen, on which they must not be compared."""
        return range(self.first_seed, self.first_seed + self.seeds)


class Evaluate(Strict):
    """The evaluation grid: every how many steps, and with how many episodes."""

    every: Steps
    episodes: Positive


class DiagnosticsOptions(Strict):
    """What is measured besides, at a cost of time; no other number depends on it."""

    improvement_every: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Around every so many updates the return of the joint policy is measured, before it and after the step of each
    actor; 0: never."""
    improvement_episodes: Annotated[int, Field(ge=2, le=10_000)] = 32
    """Episodes of each of those measurements, the same before and after."""


class Matrix(Strict):
    """Tasks x algorithms x seeds as a file states them, with tasks and algorithms not yet resolved."""

    evaluation_seeds: ClassVar[EvaluationSeeds]
    name: Name
    steps: Steps
    seeds: Positive
    first_seed: FirstSeed = 0
    evaluate: Evaluate
    tasks: Annotated[list[str | dict[str, Any]], Field(min_length=1, max_length=MOST_TASKS)]
    algorithms: Annotated[dict[Name, dict[str, Any] | None], Field(min_length=1, max_length=MOST_ALGORITHMS)]
    defaults: dict[str, Any] = {}
    per_task: dict[str, dict[str, Any]] = {}
    learner_threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads with which torch computes a trial. Part of the configuration: with more, sums are taken in another order,
    and last bits differ."""
    diagnostics: DiagnosticsOptions = DiagnosticsOptions()


class Claim(Strict):
    """What a suite is to decide, stated before there are results."""

    says: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """The claim in a sentence."""
    kind: Literal["outperforms", "grows_with_agents", "improves_monotonically"] = "outperforms"
    algorithms: Annotated[list[Name], Field(min_length=1)]
    against: list[Name] = []
    tasks: list[str] = []
    """Labels of tasks; without any, all of the suite."""
    measure: Literal["final", "absolute"] = "final"
    margin: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Differences within ±margin count as none, on the scale on which a random policy is 0 and the reference is 1."""


class Suite(Matrix):
    """A suite file."""

    evaluation_seeds: ClassVar[EvaluationSeeds] = "suite"
    tuning: dict[Name, Tuning] = {}
    """label -> how its settings were tuned."""
    claims: dict[Name, Claim] = {}
    keep: bool = False
    """Whether trials that are done keep their last checkpoint, so that they can be given more steps."""


class Included(Strict):
    """The `best.yaml` of a study: the settings of each label, and how they were tuned."""

    algorithms: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    tuning: dict[Name, Tuning]
