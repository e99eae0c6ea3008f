"""The suites that come with the repository: each is valid, and they say what they claim to say."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from algorithms import METHODS
from bench.suite.claims import claims
from bench.suite.model import SKIP, Suite
from bench.suite.resolving import load, trials
from bench.suite.trial import Trial
from bench.tasks import registry

SUITES = Path(__file__).resolve().parents[3] / "suites"
PAPER = [
    "Ant-2x4",
    "Ant-4x2",
    "Ant-8x1",
    "HalfCheetah-2x3",
    "HalfCheetah-3x2",
    "HalfCheetah-6x1",
    "Hopper-3x1",
    "Walker2d-2x3",
    "Walker2d-3x2",
    "Walker2d-6x1",
    "Humanoid-17x1",
    "HumanoidStandup-17x1",
    "ManySegmentSwimmer-10x2",
]


@cache
def suite(name: str) -> Suite:
    return load(SUITES / f"{name}.yaml")[0]


@cache
def planned(name: str) -> list[Trial]:
    return trials(suite(name), SUITES / f"{name}.yaml")


def settings(name: str, task: str, label: str) -> dict[str, Any]:
    """All settings of a pairing, by name."""
    return asdict(next(t.settings for t in planned(name) if (t.task.name, t.label) == (f"mamujoco/{task}", label)))


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in SUITES.glob("*.yaml") if not path.stem.startswith("tune_"))
)
def test_a_suite_is_valid_and_called_as_its_file(name: str) -> None:
    assert suite(name).name == name
    assert planned(name)


# paper.yaml

# As published with HARL. Step sizes are those of actors and critics, epochs and minibatches too; a dash: has none.
PUBLISHED = """
task             algorithm  step  clip  value_clip  epochs  minibatches  entropy  delta  decay  T
Ant-4x2          happo      5e-4  0.1   0.1         5       1            0        -      no     200
Ant-4x2          mappo      5e-4  0.1   0.1         5       1            0        -      no     200
Ant-4x2          hatrpo     5e-4  -     0.2         5       1            -        0.005  no     200
HalfCheetah-2x3  happo      5e-4  0.05  0.05        15      1            0.01     -      no     200
HalfCheetah-2x3  mappo      5e-4  0.05  0.05        15      1            0.01     -      no     200
HalfCheetah-2x3  hatrpo     5e-4  -     0.2         5       1            -        0.01   no     200
Hopper-3x1       happo      5e-4  0.05  0.05        10      1            0        -      yes    200
Hopper-3x1       mappo      5e-4  0.05  0.05        10      1            0        -      yes    200
Hopper-3x1       hatrpo     5e-4  -     0.2         5       1            -        0.001  no     200
Humanoid-17x1    happo      5e-4  0.1   0.1         5       1            0        -      yes    200
Humanoid-17x1    mappo      5e-4  0.1   0.1         5       1            0        -      yes    100
Walker2d-2x3     happo      1e-3  0.05  0.05        5       2            0        -      yes    200
Walker2d-2x3     mappo      1e-3  0.05  0.05        5       2            0        -      yes    200
Walker2d-2x3     hatrpo     5e-4  -     0.2         5       1            -        0.01   no     200
Walker2d-6x1     happo      5e-4  0.1   0.1         5       1            0.01     -      no     200
Walker2d-6x1     mappo      5e-4  0.1   0.1         5       1            0.01     -      no     200
Walker2d-6x1     hatrpo     5e-4  -     0.2         5       1            -        0.005  no     200
"""
OURS = {
    "step": ("actor_lr", "critic_lr"),
    "clip": ("clip",),
    "value_clip": ("value_clip",),
    "epochs": ("actor_epochs", "critic_epochs"),
    "minibatches": ("actor_minibatches", "critic_minibatches"),
    "entropy": ("entropy_coef",),
    "delta": ("delta",),
    "T": ("rollout_length",),
}
COMMON: dict[str, Any] = {
    "envs": 20,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "hidden_sizes": (128, 128, 128),
    "max_grad_norm": 10.0,
}
COMMON |= {"huber_delta": 10.0, "initial_log_std": -1.0, "order": "random", "factor_bound": 0.0}
TRUST_REGION = {"kl_budget": "agent", "cg_steps": 10, "damping": 0.1, "backtrack": 0.8, "max_backtracks": 10}


@pytest.mark.parametrize("row", PUBLISHED.split("\n")[2:-1])
def test_the_settings_of_the_paper_are_the_published_ones(row: str) -> None:
    values = dict(zip(PUBLISHED.split("\n")[1].split(), row.split(), strict=True))
    task, label = values["task"], values["algorithm"]
    expected: dict[str, Any] = COMMON | {"share_actors": label == "mappo"}
    expected["lr_decay_steps"] = 10_000_000 if values["decay"] == "yes" else 0
    if label == "hatrpo":
        expected |= TRUST_REGION | {"accept_ratio": 0.5}
    for column, names in OURS.items():
        known = [name for name in names if name in settings("paper", task, label)]
        expected |= {name: float(values[column]) for name in known}
    assert settings("paper", task, label) == expected


@pytest.mark.parametrize(
    ("task", "n_step", "noise", "updates"),
    [
        ("Ant-4x2", 20, 0.05, 0.5),
        ("HalfCheetah-2x3", 20, 0.1, 1),
        ("Hopper-3x1", 20, 0.1, 1),
        ("Walker2d-2x3", 10, 0.1, 1),
        ("Walker2d-6x1", 20, 0.1, 1),
    ],
)
def test_maddpg_of_the_paper_is_as_published(task: str, n_step: int, noise: float, updates: float) -> None:
    """`updates` gradient steps for each step of 10 environments, made after every 50 of those."""
    assert settings("paper", task, "maddpg") == {
        "envs": 10,
        "rollout_length": 50,
        "update_to_data": updates / 10,
        "batch_size": 1000,
        "buffer_size": 1_000_000,
        "warmup_steps": 10_000,
        "n_step": n_step,
        "gamma": 0.99,
        "tau": 0.005,
        "exploration_noise": noise,
        "gumbel_temperature": 1.0,
        "hidden_sizes": (256, 256),
        "actor_lr": 5e-4,
        "critic_lr": 1e-3,
        "max_grad_norm": 1e9,
    }


@pytest.mark.parametrize(
    ("task", "like"),
    [
        ("Ant-2x4", "Ant-4x2"),
        ("Ant-8x1", "Ant-4x2"),
        ("HalfCheetah-3x2", "HalfCheetah-2x3"),
        ("HalfCheetah-6x1", "HalfCheetah-2x3"),
        ("Walker2d-3x2", "Walker2d-2x3"),
        ("HumanoidStandup-17x1", "Humanoid-17x1"),
    ],
)
def test_a_task_without_published_settings_takes_those_of_the_nearest(task: str, like: str) -> None:
    for label in suite("paper").algorithms:
        assert settings("paper", task, label) == settings("paper", like, label)


def test_the_swimmer_takes_what_most_published_rows_have_in_common() -> None:
    for label in ("ippo", "mappo", "happo"):
        assert settings("paper", "ManySegmentSwimmer-10x2", label) == settings("paper", "Ant-4x2", label)
    for label in ("hatrpo", "maddpg"):
        assert settings("paper", "ManySegmentSwimmer-10x2", label) == settings("paper", "HalfCheetah-2x3", label)
    assert settings("paper", "Humanoid-17x1", "hatrpo") == settings("paper", "HalfCheetah-2x3", "hatrpo")


@pytest.mark.parametrize("task", PAPER)
def test_ippo_takes_mappos_settings(task: str) -> None:
    assert settings("paper", task, "ippo") == settings("paper", task, "mappo")


def test_the_paper_is_every_algorithm_on_every_task_with_five_seeds() -> None:
    assert {(t.task.name, t.label, t.seed) for t in planned("paper")} == {
        (f"mamujoco/{task}", label, seed)
        for task in PAPER
        for label in ("ippo", "mappo", "happo", "hatrpo", "maddpg")
        for seed in range(5)
    }
    assert {t.task.options.observation for t in planned("paper")} == {"paper"}  # type: ignore[attr-defined]


def test_the_paper_writes_down_only_what_differs() -> None:
    """A reader sees the differences: from our defaults, and per task from what the algorithm has everywhere."""
    paper = suite("paper")
    for label, own in paper.algorithms.items():
        fields = asdict(METHODS[label].settings())
        assert {key for key, value in (own or {}).items() if fields[key] == value} == set(), label
        plain = fields | {key: value for key, value in paper.defaults.items() if key in fields} | (own or {})
        for task, entries in paper.per_task.items():
            assert {key for key, value in entries.get(label, {}).items() if plain[key] == value} == set(), task


# mamujoco.yaml and mamujoco_10m.yaml


def test_the_comparisons_have_the_papers_tasks_and_the_long_one_two_more() -> None:
    names = {name: {t.task.name for t in planned(name)} for name in ("mamujoco", "mamujoco_10m")}
    assert names["mamujoco_10m"] == {f"mamujoco/{task}" for task in [*PAPER, "Ant-2x4d", "Humanoid-9|8"]}
    assert names["mamujoco"] == {f"mamujoco/{task}" for task in PAPER if not task.startswith(("Humanoid", "Many"))}
    for name, tasks in names.items():
        assert {t.task.label for t in planned(name)} == tasks  # all options at their defaults


def test_a_million_steps_are_a_point_of_the_published_grid() -> None:
    trial = planned("mamujoco")[0]
    assert trial.steps == 2_000_000
    assert 1_000_000 % trial.every == 0


@pytest.mark.parametrize("name", ["mamujoco", "paper"])
def test_the_four_claims_are_stated_before_the_run(name: str) -> None:
    stated = suite(name).claims
    assert {key: claim.kind for key, claim in stated.items()} == {
        "happo": "outperforms",
        "hatrpo": "outperforms",
        "agents": "grows_with_agents",
        "monotonic": "improves_monotonically",
    }
    assert [*claims(suite(name), planned(name), Path(name))] == [*stated]


@pytest.mark.parametrize("name", ["mamujoco", "mamujoco_10m"])
def test_the_comparison_has_shared_variants_beside_the_unshared_ones(name: str) -> None:
    labels: dict[Any, set[str]] = {}
    for trial in planned(name):
        labels.setdefault(trial.task, set()).add(trial.label)
    for task, found in labels.items():
        team = registry.team(task)
        equal = len({*zip(team.observation_sizes, team.action_spaces, strict=True)}) == 1
        assert {*suite(name).algorithms} - found == (set() if equal else {"ippo-shared", "mappo-shared"}), task


def test_the_comparison_has_one_set_of_settings_for_all_tasks() -> None:
    changes = [change for entries in suite("mamujoco").per_task.values() for change in entries.values()]
    assert {*changes} == {SKIP}
    best = yaml.safe_load((SUITES.parent / "results/tune_mamujoco/best.yaml").read_text())
    assert {key: value.model_dump(exclude_defaults=True) for key, value in suite("mamujoco").tuning.items()} == best[
        "tuning"
    ]
    for label, own in best["algorithms"].items():
        assert suite("mamujoco").algorithms[label] == own
    for label in ("ippo", "mappo"):
        shared = {"algorithm": label, "share_actors": True}
        assert suite("mamujoco").algorithms[f"{label}-shared"] == best["algorithms"][label] | shared


def test_the_experiment_on_settings_has_those_of_the_comparison() -> None:
    mappo, happo = (suite("mamujoco").algorithms[label] or {} for label in ("mappo", "happo"))
    assert suite("settings_or_method").algorithms == {
        "mappo": mappo,
        "mappo-gamma": mappo | {"algorithm": "mappo", "gamma": happo["gamma"]},
        "mappo-as-happo": happo | {"algorithm": "mappo"},
        "happo": happo,
        "happo-as-mappo": mappo | {"algorithm": "happo"},
        "mappo-default": {"algorithm": "mappo"},
        "happo-default": {"algorithm": "happo"},
    }
