"""What a dry run says of a suite: trials, steps, time, memory and disk, and nothing is written."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import pytest
import yaml

from bench import run
from bench.runner import cost
from bench.runner.cost import costs
from bench.suite.resolving import load, trials
from bench.suite.trial import Trial

SUITE = {
    "name": "demo",
    "steps": 1000,
    "seeds": 3,
    "evaluate": {"every": 200, "episodes": 2},
    "tasks": [{"name": "mamujoco/Hopper-3x1", "episode_length": 50}],
    "algorithms": {"happo": None, "maddpg": {"buffer_size": 5000}},
    "defaults": {"envs": 2, "rollout_length": 50, "hidden_sizes": [16]},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    return path


def planned(path: Path, *overrides: str) -> list[Trial]:
    return trials(load(path, overrides)[0], path)


def one(path: Path, *overrides: str) -> Trial:
    return planned(path, "seeds=1", *overrides)[0]


def test_a_dry_run_says_what_will_run_and_what_it_will_cost(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([str(path), "--results", str(tmp_path / "results"), "--jobs", "2", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("6 trials: 1 task x 2 algorithms x 3 seeds")
    assert lines[0].endswith(str(tmp_path / "results" / "demo"))
    assert "mamujoco/Hopper-3x1:episode_length=50" in lines[1]
    assert "happo, maddpg" in lines[2]
    assert "0, 1, 2" in lines[3]
    assert "1,000 per trial, 6,000 in all" in out
    assert re.search(r"time +about \d+:\d\d:\d\d, 2 at once", out)
    assert re.search(r"memory +about \d+\.\d GB", out)
    assert re.search(r"disk +about [\d,]+ MB", out)
    assert err == "Measuring what 2 pairings will cost on this machine ...\n"


def test_a_dry_run_writes_nothing(path: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run.main([str(path), "--results", str(tmp_path / "results"), "--dry-run"]) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_counts_only_what_is_selected(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(path), "--results", str(tmp_path / "results"), "--dry-run", "--only", "seed=1,2"]
    assert run.main([*arguments, "--only", "algorithm=happo"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 trials: 1 task x 1 algorithm x 2 seeds")
    assert "1,000 per trial, 2,000 in all" in out


def test_one_pairing_is_measured_without_a_word(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    costs([t for t in planned(path) if t.label == "happo"])
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_how_many_pairings_are_measured(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes anything for a terminal
    costs(planned(path))
    out, err = capsys.readouterr()
    assert out == ""
    counts = re.findall(r"Measuring what 2 pairings will cost on this machine \.\.\. (\d) done", err)
    assert list(dict.fromkeys(counts)) == ["0", "1"]


def test_every_trial_has_a_finite_cost(path: Path) -> None:
    found = costs(planned(path))
    assert list(found) == planned(path)
    for one in found.values():
        assert all(math.isfinite(x) and x > 0 for x in (one.seconds, one.memory, one.disk))


def test_trials_that_differ_in_their_seed_cost_the_same(path: Path) -> None:
    found = costs(planned(path))
    assert len({*found.values()}) == 2


def test_the_grid_and_the_fresh_episodes_of_the_last_and_the_best_policy_are_priced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "_seconds_per_step", lambda *_: (1.0, 2.0))  # of collecting and of learning
    trial = one(path)
    training, grid = 1000 * (1 + 2), 6 * 2 * 50  # 6 evaluations of 2 episodes of 50 steps
    assert costs([trial], fresh_episodes=False)[trial].seconds == training + grid
    assert costs([trial])[trial].seconds == training + grid + 2 * 10 * 2 * 50


@pytest.mark.parametrize(
    ("per_step", "lengths"),
    [(0.001, [10, 50]), (0.0125, [10, 40]), (0.1, [10])],
    ids=["whole", "as many steps as take a second", "too slow for more"],
)
def test_rollouts_of_the_trials_own_length_are_timed_if_they_are_short_enough(
    path: Path, monkeypatch: pytest.MonkeyPatch, per_step: float, lengths: list[int]
) -> None:
    """With two environments a second is 40 steps at 12.5 ms."""
    timed = []

    def note(trial: Trial, length: int, *_: object) -> tuple[float, float]:
        timed.append(length)
        return per_step / 2, per_step / 2

    monkeypatch.setattr(cost, "_timed", note)
    costs([one(path)])
    assert timed == lengths


def test_steps_before_gradients_begin_are_priced_without_learning(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "_seconds_per_step", lambda *_: (1.0, 2.0))
    maddpg = planned(path, "algorithms.maddpg.warmup_steps=300")[1]
    grid = 6 * 2 * 50
    assert costs([maddpg], fresh_episodes=False)[maddpg].seconds == 1000 * 1 + 700 * 2 + grid


def test_an_evaluation_is_a_part_of_the_cost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "_seconds_per_step", lambda *_: (1.0, 2.0))
    assert costs([one(path)])[one(path)].evaluation == 2 * 50


def test_no_trials_cost_nothing() -> None:
    assert costs([]) == {}


def test_a_replay_costs_disk_in_proportion_to_what_it_will_hold(path: Path) -> None:
    def cost(buffer: int, steps: int) -> float:
        maddpg = planned(path, f"algorithms.maddpg.buffer_size={buffer}", f"steps={steps}")[-1]
        return costs([maddpg])[maddpg].checkpoint

    # What three agents observe are numbers of the state; then the actions and the reward, and two flags.
    bytes_per_transition = 4 * (11 + 3 + 1) + 2
    small, large = cost(10_000, 1_000_000), cost(1_000_000, 1_000_000)
    assert large - small == 990_000 * bytes_per_transition
    assert cost(1_000_000, 10_000) == small


def test_a_replay_counts_twice_in_memory_as_a_checkpoint_copies_it(path: Path) -> None:
    maddpg = [planned(path, f"algorithms.maddpg.buffer_size={size}", "steps=1000000")[-1] for size in (10**4, 10**6)]
    small, large = (costs([t])[t].memory for t in maddpg)
    assert large - small == pytest.approx(2 * 990_000 * (4 * (11 + 3 + 1) + 2), rel=0.1)  # and what this process grew


@pytest.mark.parametrize(
    ("option", "fits"),
    [("--jobs=1", True), ("--jobs=2", False), (f"--env-threads={os.cpu_count()}", True)],
)
def test_replays_beyond_the_machines_memory_are_refused_before_anything_runs(
    path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    fits: bool,
) -> None:
    """The machine has just the memory of one trial's replay, 62 bytes for each transition, and its copy."""
    monkeypatch.setattr(cost, "machine_memory", lambda: 2 * 62 * 1e9)
    many = ("steps=1000000000", "evaluate.every=1000000", "algorithms.maddpg.buffer_size=1000000000")
    settings = [part for change in many for part in ("--set", change)]
    arguments = [str(path), "--results", str(tmp_path / "results"), *settings, "--only", "algorithm=maddpg"]
    before = sorted(tmp_path.rglob("*"))
    assert run.main([*arguments, "--dry-run", option]) == (0 if fits else 2)
    assert sorted(tmp_path.rglob("*")) == before
    out, err = capsys.readouterr()
    if fits:
        assert err == ""
        return
    assert out == ""
    assert err == (
        f"{planned(path)[1].name}: its replay and the copy that a checkpoint takes of it need 124.0 GB, the 2 largest "
        "at once 248.0 GB, and this machine has 124.0 GB; lower buffer_size or --jobs\n"
    )


def test_this_machine_has_memory() -> None:
    assert 1e8 < cost.machine_memory() < math.inf


def test_the_probe_leaves_the_trial_as_it_is(path: Path) -> None:
    trial = one(path)
    before = trial.config_hash(), repr(trial)
    costs([trial])
    assert (trial.config_hash(), repr(trial)) == before


@pytest.mark.parametrize(
    "override",
    [
        "algorithms.happo.actor_minibatches=40",
        "algorithms.happo.critic_minibatches=40",
        "algorithms.maddpg.n_step=50",
        "algorithms.maddpg.update_to_data=0.001",
        "algorithms.maddpg.buffer_size=100",
        "defaults.rollout_length=5",
    ],
)
def test_settings_that_go_beyond_the_short_probe_are_priced_too(path: Path, override: str) -> None:
    """A probe is shorter than a rollout: it has fewer samples than minibatches, fewer steps than n."""
    found = costs(planned(path, "seeds=1", "defaults.envs=2", override))
    assert all(cost.seconds > 0 for cost in found.values())


def test_an_algorithm_that_diverges_at_once_is_priced_too(path: Path) -> None:
    """Its trial will be marked as failed; the plan must not stop the others."""
    trial = one(path, "algorithms.happo={actor_lr: 1.0e+30, critic_lr: 1.0e+30}")
    assert costs([trial])[trial].disk > 0


@pytest.mark.parametrize(
    ("label", "policies"), [("happo", 4), ("mappo-shared", 2), ("maddpg", 2)], ids=["by agent", "shared", "MADDPG"]
)
def test_what_measuring_updates_plays_is_priced(
    path: Path, monkeypatch: pytest.MonkeyPatch, label: str, policies: int
) -> None:
    """Ten updates of 100 steps, of which every third is measured: by each joint policy around it, 8 episodes of 50."""
    monkeypatch.setattr(cost, "_seconds_per_step", lambda *_: (1.0, 0.0))
    shared = {"algorithm": "mappo", "share_actors": True}
    document = dict(SUITE)
    if label == "mappo-shared":
        document["tasks"] = [{"name": "mamujoco/HalfCheetah-2x3", "episode_length": 50}]
        document["algorithms"] = {label: shared}
    seconds = []
    for every in (0, 3):
        path.write_text(
            yaml.safe_dump(document | {"diagnostics": {"improvement_every": every, "improvement_episodes": 8}})
        )
        (trial,) = [t for t in planned(path, "seeds=1") if t.label == label]
        seconds.append(costs([trial])[trial].seconds)
    assert seconds[1] - seconds[0] == 3 * policies * 8 * 50


def test_in_games_measuring_updates_plays_nothing(path: Path) -> None:
    document = {**SUITE, "tasks": ["games/driving"], "diagnostics": {"improvement_every": 1}}
    path.write_text(yaml.safe_dump(document))
    assert cost._improvement_episodes(one(path)) == 0
