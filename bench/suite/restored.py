"""A trial from what its `trial.json` says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.suite.methods import method
from bench.suite.trial import Trial
from bench.tasks import registry
from bench.tasks.registry import Task


def restored(about: Mapping[str, Any]) -> Trial:
    """The trial that a `trial.json` describes. Raises SettingError for a task or an algorithm that is not there."""
    row = method(about["method"])
    return Trial(
        suite=about["suite"],
        task=task_of(about["task"], about["options"]),
        label=about["algorithm"],
        method=row,
        settings=row.configure(about["settings"]),
        seed=about["seed"],
        steps=about["steps"],
        every=about["evaluate"]["every"],
        episodes=about["evaluate"]["episodes"],
        evaluation_seeds=about["evaluation_seeds"],
        learner_threads=about.get("learner_threads", 1),
    )


def task_of(label: str, options: Mapping[str, Any]) -> Task:
    """The task of that label, which names the options that are not at their defaults: `name:obsk=2`."""
    told = {}
    for key, value in reversed([*options.items()]):
        name = label.removesuffix(f":{key}={value}")
        if name != label:
            label, told[key] = name, value
    return registry.task(label, told)
