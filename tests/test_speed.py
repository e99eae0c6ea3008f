"""The speed benchmark: what it counts, what it writes and what it refuses. Nothing here asserts a time."""

from __future__ import annotations

import json
from contextlib import nullcontext
from itertools import chain
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import build, team

from algorithms import METHODS, Discrete, SettingError, settings
from bench import tasks
from bench.envs.mujoco import physics
from bench.speed import __main__ as speed
from bench.speed import products, training, trials
from bench.speed.products import Pass, Product
from bench.suite import Trial

PAIR = team(observations=(5, 3), actions=(2, 1), state=6)
"""Two agents; with one hidden layer of 4 units their actors are 5 -> 4 -> 2 and 3 -> 4 -> 1."""
ON_POLICY: dict[str, Any] = {"envs": 2, "rollout_length": 3, "hidden_sizes": [4], "critic_epochs": 7}
"""Rollouts of 6 rows."""
TINY = ["--set", "envs=2", "--set", "rollout_length=5", "--set", "hidden_sizes=[8]"]
CHEETAH = ["--task", "mamujoco/HalfCheetah-2x3"]


Counts = dict[tuple[int, int, int, str], float]
"""How often each product occurs in one update."""


def added(*parts: Counts) -> Counts:
    total: Counts = {}
    for part in parts:
        for key, times in part.items():
            total[key] = total.get(key, 0) + times
    return total


def counted(passes: list[Pass]) -> Counts:
    return added(*({(x.rows, x.fan_in, x.fan_out, x.kind): p.times} for p in passes for x in p.products))


def two_layers(rows: int, sizes: tuple[int, int, int], forward: float, backward: float) -> Counts:
    """Products of a network with one hidden layer that so many passes go through forward and so many backward."""
    a, b, c = sizes
    there: Counts = {(rows, a, b, "forward"): forward, (rows, b, c, "forward"): forward}
    back: Counts = {
        (rows, a, b, "weights"): backward,
        (rows, b, c, "weights"): backward,
        (rows, b, c, "inputs"): backward,
    }
    return there | back if backward else there


ACTING = added(two_layers(2, (5, 4, 2), 3, 0), two_layers(2, (3, 4, 1), 3, 0))
"""Both actors act on 2 rows, 3 times."""


@pytest.mark.parametrize("name", ["mappo", "happo"])
def test_clip_methods_with_a_central_critic_need_these_products(name: str) -> None:
    learner = build(name, PAIR, **ON_POLICY, actor_epochs=10)
    assert counted(products.table(learner)) == added(
        ACTING,
        two_layers(6, (5, 4, 2), 12, 10),  # old, 10 epochs, ratio
        two_layers(6, (3, 4, 1), 12, 10),
        two_layers(6, (6, 4, 1), 8, 7),  # values, 7 epochs
    )


def test_ippo_needs_a_critic_for_each_agent() -> None:
    learner = build("ippo", PAIR, **ON_POLICY, actor_epochs=10)
    assert counted(products.table(learner)) == added(
        ACTING,
        two_layers(6, (5, 4, 2), 12, 10),
        two_layers(6, (3, 4, 1), 12, 10),
        two_layers(6, (5, 4, 1), 8, 7),
        two_layers(6, (3, 4, 1), 8, 7),
    )


def test_hatrpo_needs_these_products() -> None:
    learner = build("hatrpo", PAIR, **ON_POLICY, cg_steps=10)
    assert counted(products.table(learner)) == added(
        ACTING,
        two_layers(6, (5, 4, 2), 2, 1),  # gradient and line search forward; gradient backward
        two_layers(6, (3, 4, 1), 2, 1),
        two_layers(6, (5, 4, 2), 10, 10),  # x dW forward, and backward
        two_layers(6, (3, 4, 1), 10, 10),
        {(6, 4, 2, "forward"): 10, (6, 4, 1, "forward"): 10},  # dx W, where x is not data
        two_layers(6, (6, 4, 1), 8, 7),
    )


def test_maddpg_needs_these_products() -> None:
    learner = build("maddpg", PAIR, envs=2, rollout_length=3, hidden_sizes=[4], batch_size=8, update_to_data=0.5)
    passes = products.table(learner)
    assert {p.times for p in passes if "acts" not in p.what} == {3}  # 6 steps x 0.5
    first = [p for p in passes if " 0" in p.what]
    assert {p.what: counted([p]) for p in first} == {
        "actor 0 acts": two_layers(2, (5, 4, 2), 3, 0),
        "target actor 0": two_layers(8, (5, 4, 2), 3, 0),
        "target critic 0": two_layers(8, (6 + 3, 4, 1), 3, 0),
        "critic 0": two_layers(8, (6 + 3, 4, 1), 3, 3),
        "actor 0": two_layers(8, (5, 4, 2), 3, 3),
        "critic 0 to action": two_layers(8, (6 + 3, 4, 1), 3, 0) | {(8, 4, 1, "inputs"): 3, (8, 2, 4, "inputs"): 3},
    }
    assert len(passes) == 2 * len(first)


def test_a_discrete_action_is_a_one_hot_vector_to_critics_of_maddpg() -> None:
    members = team(observations=(5,), actions=(Discrete((2, 3)),), state=6)
    learner = build("maddpg", members, envs=2, rollout_length=3, hidden_sizes=[4], batch_size=8, update_to_data=0.5)
    passes = [p for p in products.table(learner) if p.what == "critic 0 to action"]
    inputs = {(8, 4, 1, "inputs"): 3.0, (8, 5, 4, "inputs"): 3.0}
    assert counted(passes) == two_layers(8, (6 + 5, 4, 1), 3, 0) | inputs


def test_minibatches_cut_the_rows_of_an_epoch() -> None:
    learner = build("mappo", PAIR, **{**ON_POLICY, "critic_minibatches": 4}, actor_epochs=10)
    cut = {(p.times, p.products[0].rows) for p in products.table(learner) if p.what == "critic 0 epochs"}
    assert cut == {(14, 2), (14, 1)}  # 6 rows are 2 + 2 + 1 + 1


def test_a_shared_actor_and_critic_see_the_rows_of_all_agents() -> None:
    equal = team(observations=(5, 5), actions=(2, 2), state=6)
    learner = build("ippo", equal, **ON_POLICY, actor_epochs=10, share_actors=True)
    assert counted(products.table(learner)) == added(
        two_layers(4, (7, 4, 2), 3, 0),
        two_layers(12, (7, 4, 2), 12, 10),
        two_layers(12, (7, 4, 1), 8, 7),
    )


def test_every_method_has_a_table() -> None:
    for name in METHODS:
        assert products.table(build(name, PAIR))


def test_passes_add_up_and_equal_ones_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[tuple[Product, ...]] = []
    monkeypatch.setattr(products, "_timed", lambda work: timed.append(work) or float(len(work)))
    one, two = Product(9, 3, 4, "forward"), Product(9, 4, 2, "forward", 1)
    assert (
        products.seconds([Pass("a", 2, (one, two)), Pass("b", 3, (one, two)), Pass("c", 1, (one,))])
        == 2 * 2 + 3 * 2 + 1
    )
    assert timed == [(one, two), (one,)]


def test_each_product_of_a_pass_reads_what_those_before_it_wrote() -> None:
    actor = build("ippo", PAIR, hidden_sizes=[4]).actors[0]
    (x, V, h), (h2, W, y), (dyT, h3, dW), (dy, W2, dh), (dhT, x2, dV) = products._laid_out(
        products.forward(actor, 3) + products.backward(actor, 3)
    )
    assert (x is x2, h is h2, h is h3) == (True, True, True)
    assert dyT.data_ptr() == dy.data_ptr() != y.data_ptr()
    assert (dhT.data_ptr(), W.data_ptr()) == (dh.data_ptr(), W2.data_ptr())
    assert [tuple(m.shape) for m in (x, V, h, W, y, dW, dV)] == [(3, 5), (5, 4), (3, 4), (4, 2), (3, 2), (2, 4), (4, 5)]


def test_a_pass_is_timed_whatever_its_kinds() -> None:
    assert products.seconds([Pass("all", 1, products.backward(build("ippo", PAIR).actors[0], 3))]) > 0


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure as little as possible."""
    for module, name, value in (
        (training, "ROUNDS", 1),
        (training, "TIME", 0.0),
        (training, "SECONDS", 0.0),
        (training, "PROBE", 1),
        (training, "REPLAY", 10),
        (products, "AT_LEAST", 0.0),
    ):
        monkeypatch.setattr(module, name, value)


def tiny(name: str, **options: Any) -> Trial:
    given: dict[str, Any] = {"envs": 2, "rollout_length": 7, "hidden_sizes": [8]}
    given |= {"warmup_steps": 0, "batch_size": 4, "buffer_size": 100} if name == "maddpg" else {}
    task = tasks.task("mamujoco/Hopper-3x1", options)
    return Trial("speed", task, name, name, settings(name, given), 0, 14, 14, 1)


def test_bare_physics_go_through_the_states_of_training_and_the_episodes_that_began(hurried: None) -> None:
    bench = training.Bench(tiny("happo", episode_length=3))
    bench.round()
    assert len(bench.actions) == 7
    assert sorted(bench.beginnings) == [1, 4]  # after 7 steps in the warm-up the third episode is one step old
    for data, row in zip(bench.raw.data, bench.batch.physics, strict=True):
        assert np.array_equal(physics(data), row)


def test_the_replay_is_filled_before_maddpg_is_measured(hurried: None) -> None:
    assert training.Bench(tiny("maddpg")).learner.replay_buffer.filled >= 10 // 2  # type: ignore[attr-defined]


def test_the_split_is_of_a_whole_trial_and_adds_up_to_one() -> None:
    a_step = {"physics": 1e-6, "acting": 2e-6, "learning": 3e-6, "bookkeeping": 2e-6}
    shares = training.split(pd.DataFrame([a_step | {"evaluation": 0.1}]))  # 8 s of training, 20 x 0.1 s of evaluation
    assert shares == pytest.approx(
        {"physics": 0.1, "acting": 0.2, "learning": 0.3, "evaluation": 0.2, "bookkeeping": 0.2}
    )


def test_a_worker_trains_when_told_to_and_tells_its_memory_at_the_end() -> None:
    ours, theirs = Pipe()
    worker = Thread(target=trials._work, args=(tiny("maddpg"), theirs))
    worker.start()
    assert min(ours.recv()) > 0
    ours.send(2)
    assert min(ours.recv()) > 0
    ours.send(0)
    peak, full = ours.recv()
    worker.join()
    assert full > peak > 1e6


def test_two_workers_take_turns_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Fake:
        """Takes a second for an update alone."""

        def __init__(self, seed: int):
            self.seed = seed
            self.answers: list[Any] = [(0.3, 0.3)]

        def send(self, updates: int) -> None:
            asked.append((self.seed, updates))
            self.answers.append((1.0 * updates, 0.5 * updates) if updates else (5e8, 6e8 + self.seed))

        def recv(self) -> Any:
            return self.answers.pop(0)

    monkeypatch.setattr(trials, "_worker", lambda trial: nullcontext(Fake(trial.seed)))
    row = trials.measure(tiny("happo"))
    turns = [((0, 4), (0, 4), (1, 4)), ((1, 4), (0, 4), (1, 4))]  # one alone, then both; 4 x 0.3 s are over a second
    assert asked == [*chain.from_iterable(turns[k % 2] for k in range(trials.ROUNDS)), (0, 0), (1, 0)]
    assert (row["two_over_twice_one"], row["two_core_share"]) == (1, 0.5)
    assert (row["peak_memory_mb"], row["peak_memory_full_replay_mb"]) == (500, 600.000001)


def test_two_trials_that_take_twice_as_long_as_one_are_worth_half() -> None:
    assert trials.two_over_twice_one((1.0, 1.0), [(1.0, 1.0), (1.0, 1.0)]) == 1
    assert trials.two_over_twice_one((1.0, 1.0), [(2.0, 1.0), (2.0, 1.0)]) == 0.5


def test_memory_counts_a_replay_as_if_it_were_full() -> None:
    learner = build("maddpg", PAIR, envs=2, buffer_size=100)
    # A transition has 8 + 6 observed numbers, 3 of actions and a reward, and two flags of a byte.
    assert trials.unfilled_bytes(learner) == 100 * (4 * (14 + 3 + 1) + 2)
    assert trials.unfilled_bytes(build("happo", PAIR)) == 0


@pytest.mark.parametrize("name", ["happo", "maddpg"])
def test_json_holds_a_row_for_each_pairing(
    name: str, hurried: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others = {
        "two_over_twice_one": 0.9,
        "two_core_share": 0.25,
        "peak_memory_mb": 500.0,
        "peak_memory_full_replay_mb": 600.0,
    }
    monkeypatch.setattr(trials, "measure", lambda trial: others)
    path = tmp_path / "rows.json"
    assert speed.main([*CHEETAH, "--algorithm", name, *TINY, "--json", str(path)]) == 0
    [row] = json.loads(path.read_text())
    assert (row["task"], row["algorithm"]) == ("mamujoco/HalfCheetah-2x3", name)
    assert row["settings"] == {"envs": 2, "rollout_length": 5, "hidden_sizes": [8]}
    assert row["ratio"] == pytest.approx(row["steps_per_second"] / row["limit_steps_per_second"])
    assert row["raw_steps_per_second"] > row["limit_steps_per_second"] > 0
    assert sum(row[part] for part in training.PARTS) == pytest.approx(1)
    assert others.items() <= row.items()
    printed = capsys.readouterr().out
    assert printed.count(f"mamujoco/HalfCheetah-2x3   {name}") == 2  # in both tables
    assert "down to 25% of a core was left" in printed


def test_unless_told_the_five_methods_are_measured_at_their_defaults_and_maddpg_without_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[Trial] = []
    monkeypatch.setattr(speed, "_training", lambda pairings, given: measured.extend(pairings))
    speed.main([])
    robots = ("HalfCheetah-2x3", "HalfCheetah-6x1", "Ant-4x2", "Humanoid-17x1")
    five = ("ippo", "mappo", "happo", "hatrpo", "maddpg")
    assert [(t.task.name, t.label) for t in measured] == [(f"mamujoco/{r}", name) for r in robots for name in five]
    for t in measured:
        assert t.settings == settings(t.algorithm, {"warmup_steps": 0} if t.label == "maddpg" else {})


def test_a_setting_reaches_the_algorithms_that_have_it() -> None:
    task = tasks.task("mamujoco/Hopper-3x1", {})
    happo, hatrpo = speed.planned([task], ["happo", "hatrpo"], {"actor_epochs": 15})
    assert happo.settings == settings("happo", {"actor_epochs": 15})
    assert hatrpo.settings == settings("hatrpo", {})


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--task", "mamujoco/Horse-2x3"], "unknown robot 'Horse'"),
        (["--task", "pettingzoo/simple_spread_v3"], "pettingzoo/simple_spread_v3 has no bare physics"),
        (["--algorithm", "ppo"], "invalid choice: 'ppo'"),
        (["--set", "epochs=3"], "no such setting; valid: accept_ratio"),
        (["--set", "actor_epochs"], "write SETTING=VALUE"),
        (["--set", "actor_epochs=[1"], "'[1' is not YAML"),
        (["--set", "actor_epochs=two"], "'two' is not a whole number at least 1"),
        (["--set", "warmup_steps=5"], "is always 0 here"),
        (["--set", "share_actors=true", "--algorithm", "happo"], "happo cannot share actors"),
        (["--set", "n_step=9", "--set", "buffer_size=100", "--algorithm", "maddpg"], "holds 5 steps"),
        (["--json", "no/such/folder/rows.json"], "not a file in an existing folder"),
        (["envs", "--set", "clip=0.1"], "envs measures no algorithm"),
        (["envs", "--algorithm", "happo"], "envs measures no algorithm"),
        (["envs", "--env-threads", "0"], "'0' is not a whole number from 1 to 1024"),
    ],
)
def test_bad_usage_is_refused(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        speed.main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_setting_that_no_chosen_algorithm_has_is_refused() -> None:
    with pytest.raises(SettingError, match="no such setting"):
        speed.planned([tasks.task("mamujoco/Hopper-3x1", {})], ["hatrpo"], {"actor_epochs": 15})
