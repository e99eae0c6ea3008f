"""What suite files say, as pydantic models: no unknown keys, no conversions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")]


Positive = Annotated[int, Field(ge=1)]


Seeds = Annotated[int, Field(ge=1, le=10_000)]


EvaluationSeeds = Literal["suite", "study"]
"""Which seeds the episodes of the evaluation grid are drawn from: studies choose settings on other episodes than suites
compare them on."""


SKIP = "skip"
"""What `per_task` says of a pairing that is left out."""


class SuiteError(Exception):
    """A suite that cannot be run; the message is one line."""


class Strict(BaseModel):
    """A part of a file: no unknown keys, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Tuning(Strict):
    """Where settings were tuned: what a comparison must say of them."""

    study: Name
    trials: Positive
    """Tuning trials of this algorithm that finished, the defaults among them."""
    steps: Positive
    """Environment steps of each task and seed of a tuning trial."""
    first_seed: int
    seeds: Positive
    hash: str
    """Of the study's table of trials."""
    overridden: str = ""
    """Settings that `--set` changed after that, joined by commas."""

    def used(self) -> range:
        """The seeds that the settings were chosen by, and so must not be judged by."""
        return range(self.first_seed, self.first_seed + self.seeds)


class Evaluate(Strict):
    """When and how long policies are evaluated."""

    every: Positive
    episodes: Positive


class Matrix(Strict):
    """Tasks x algorithms x seeds as a file states them, tasks and algorithms not yet looked up."""

    evaluation_seeds: ClassVar[EvaluationSeeds]
    name: Name
    steps: Positive
    seeds: Seeds
    first_seed: Annotated[int, Field(ge=0, le=2**32)] = 0
    evaluate: Evaluate
    tasks: Annotated[list[str | dict[str, Any]], Field(min_length=1)]
    algorithms: Annotated[dict[Name, dict[str, Any] | None], Field(min_length=1)]
    defaults: dict[str, Any] = {}
    per_task: dict[str, dict[str, Any]] = {}


class Suite(Matrix):
    """A suite file."""

    evaluation_seeds: ClassVar[EvaluationSeeds] = "suite"
    tuning: dict[Name, Tuning] = {}
    """label -> where its settings were tuned."""


class Included(Strict):
    """The `best.yaml` of a study: settings of labels, and where each was tuned."""

    algorithms: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    tuning: dict[Name, Tuning]
