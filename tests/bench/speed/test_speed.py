"""The speed benchmark: what it counts, what it writes and what it refuses. Nothing here asserts a time."""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing, nullcontext
from itertools import chain
from multiprocessing import Pipe, active_children
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import build, team

import algorithms
from algorithms import METHODS, Discrete, Diverged, SettingError, settings
from bench.envs.mujoco import MujocoBatch
from bench.envs.views import physics
from bench.speed import __main__ as speed
from bench.speed import envs, history, products, training, trials
from bench.speed.products import Pass, Product
from bench.store import files
from bench.store.provenance import matrix_products, provenance
from bench.suite.trial import Trial
from bench.tasks import registry

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
    return added(*({(x.rows, x.fan_in, x.fan_out, x.kind): p.times} for p in passes for x in p.products))  # type: ignore[arg-type]


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
        two_layers(6, (5, 4, 2), 10, 10),  # of all rows: x dW forward, and backward
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
    monkeypatch.setattr(products, "_timed", lambda work, ways: timed.append(work) or float(len(work)))  # type: ignore[func-returns-value]
    one, two = Product(9, 3, 4, "forward"), Product(9, 4, 2, "forward", 1)
    passes = [Pass("a", 2, (one, two)), Pass("b", 3, (one, two)), Pass("c", 1, (one,))]
    assert products.seconds(passes, {}) == 2 * 2 + 3 * 2 + 1
    assert timed == [(one, two), (one,)]


def test_each_product_of_a_pass_reads_what_those_before_it_wrote() -> None:
    actor = build("ippo", PAIR, hidden_sizes=[4]).actors[0]
    (x, V, h), (h2, W, y), (dy, h3, dW), (dy2, W2, dh), (dh2, x2, dV) = products._laid_out(
        products.forward(actor, 3) + products.backward(actor, 3)
    )
    assert (x is x2, h is h2, h is h3, W is W2, dy is dy2, dh is dh2) == (True,) * 6
    assert len({*map(id, (x, V, h, W, y, dW, dy, dh, dV))}) == 9
    shapes = [tuple(m.now.shape) for m in (x, V, h, W, y, dW, dV)]
    assert shapes == [(3, 5), (4, 5), (3, 4), (2, 4), (3, 2), (2, 4), (4, 5)]


ONEDNN = pytest.mark.skipif(not products._has_onednn(), reason="this build of PyTorch has no oneDNN linear operator")
EVERY_WAY = [
    pytest.param(kind, multiply, marks=[ONEDNN] if library == "onednn" else [])
    for kind, ways in products.WAYS.items()
    for library, multiply in ways
]


@pytest.mark.parametrize(("kind", "multiply"), EVERY_WAY)
def test_every_way_computes_the_product(kind: products.Kind, multiply: products.Multiply) -> None:
    [(a, b, result)] = products._laid_out([Product(7, 5, 3, kind)])
    for seed, factor in enumerate((a, b)):
        factor.now = torch.randn(factor.now.shape, generator=torch.Generator().manual_seed(seed))
    expected = {"forward": lambda: a.now @ b.now.T, "weights": lambda: a.now.T @ b.now, "inputs": lambda: a.now @ b.now}
    multiply(a, b, result)
    torch.testing.assert_close(result.now, expected[kind]())


@ONEDNN
def test_the_fastest_library_computes_each_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here oneDNN for many rows and, in one of its two ways, for the gradient of weights."""
    asked: list[Product] = []

    def alone(product: Product, multiplies: list[products.Multiply]) -> list[float]:
        asked.append(product)
        seconds = {"_torch_forward": product.rows, "_torch_weights": 200, "_onednn_weights": 300}
        return [float(seconds.get(multiply.__name__, 100)) for multiply in multiplies]

    monkeypatch.setattr(products, "_alone", alone)
    few, many, deep = Product(9, 3, 4, "forward"), Product(999, 3, 4, "forward"), Product(999, 3, 4, "forward", 1)
    weights = Product(9, 3, 4, "weights")
    ways = products.fastest([Pass("a", 1, (few, many)), Pass("b", 1, (deep, weights, few))])
    assert {x: way.library for x, way in ways.items()} == {
        few: "torch",
        many: "onednn",
        deep: "onednn",
        weights: "onednn",
    }
    assert ways[weights] == products.Way("onednn", products._onednn_weights_transposed, 100)
    assert asked == [few, many, weights]  # those of equal sizes once


def test_without_onednn_pytorch_computes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_has_onednn", lambda: False)
    passes = [Pass("all", 1, products.forward(build("ippo", PAIR).actors[0], 256))]
    ways = products.fastest(passes)
    assert {way.library for way in ways.values()} == {"torch"}
    assert products.onednn_share(passes, ways) == 0


def test_the_share_of_onednn_is_that_of_the_seconds() -> None:
    one, two = Product(9, 3, 4, "forward"), Product(9, 4, 2, "forward", 1)
    ways = {
        one: products.Way("onednn", products._onednn_forward, 3.0),
        two: products.Way("torch", products._torch_forward, 1.0),
    }
    assert products.onednn_share([Pass("a", 2, (one, two)), Pass("b", 4, (two,))], ways) == 6 / (8 + 4)


def test_a_pass_is_timed_whatever_its_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "AT_LEAST", 0.0)
    passes = [Pass("all", 1, products.backward(build("ippo", PAIR).actors[0], 3))]
    assert products.seconds(passes, products.fastest(passes)) > 0


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
        (products, "TRIES", 1),
    ):
        monkeypatch.setattr(module, name, value)


def tiny(name: str, **options: Any) -> Trial:
    given: dict[str, Any] = {"envs": 2, "rollout_length": 7, "hidden_sizes": [8]}
    given |= {"warmup_steps": 0, "batch_size": 4, "buffer_size": 100} if name == "maddpg" else {}
    task = registry.task("mamujoco/Hopper-3x1", options)
    return Trial("speed", task, name, METHODS[name], settings(name, given), 0, 14, 14, 1)


def test_bare_physics_go_through_the_states_of_training_and_the_episodes_that_began(hurried: None) -> None:
    bench = training.Bench(tiny("happo", episode_length=3))
    bench.round()
    assert len(bench.actions) == 7
    assert sorted(bench.beginnings) == [1, 4]  # after 7 steps in the warm-up the third episode is one step old
    for data, row in zip(bench.raw.data, bench.batch.physics, strict=True):
        assert np.array_equal(physics(data), row)


def test_the_replay_is_filled_before_maddpg_is_measured(hurried: None) -> None:
    assert training.Bench(tiny("maddpg")).learner.replay_buffer.filled >= 5  # type: ignore[attr-defined]


def test_the_split_is_of_a_whole_trial_and_adds_up_to_one() -> None:
    a_step = {"physics": 1e-6, "acting": 2e-6, "learning": 3e-6, "bookkeeping": 2e-6}
    shares = training.split(pd.DataFrame([a_step | {"evaluation": 0.1}]))  # 8 s of training, 20 x 0.1 s of evaluation
    assert shares == pytest.approx(
        {"physics": 0.1, "acting": 0.2, "learning": 0.3, "evaluation": 0.2, "bookkeeping": 0.2}
    )


def told(pipe: Any) -> Any:
    """What a worker says next."""
    assert pipe.poll(60)
    return pipe.recv()


def test_a_worker_trains_when_told_to_and_tells_its_memory_at_the_end() -> None:
    ours, theirs = Pipe()
    worker = Thread(target=trials._work, args=(tiny("maddpg"), theirs))
    worker.start()
    assert min(told(ours)) > 0
    ours.send(2)
    assert min(told(ours)) > 0
    ours.send(0)
    peak, full = told(ours)
    worker.join()
    assert full > peak > 1e6


def test_ctrl_c_is_not_for_workers() -> None:
    with trials._worker(tiny("happo")) as pipe:
        told(pipe)
        (child,) = active_children()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGINT)
        assert len(trials._turn(1, pipe)) == 1


def test_training_that_diverges_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverges(trial: Trial) -> None:
        raise Diverged("critic_loss is nan", [])

    monkeypatch.setattr(training, "measure", diverges)
    assert speed.main(["--task", "mamujoco/Hopper-3x1", "--algorithm", "happo"]) == 2
    assert capsys.readouterr().err == "bench.speed: with these settings training diverges: critic_loss is nan\n"


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
    assert row["over_raw"] == pytest.approx(row["steps_per_second"] / row["raw_steps_per_second"])
    assert row["matmul"] == algorithms.matmul_library()
    assert 0 <= row["products_onednn_share"] <= 1
    assert sum(row[part] for part in training.PARTS) == pytest.approx(1)
    assert others.items() <= row.items()
    printed = capsys.readouterr().out
    assert f"{matrix_products(algorithms.matmul_library())}; those of the limit by the fastest library" in printed
    assert f"  {row['over_raw']:>8.3f} {row['ratio']:>5.2f}  {row['products_onednn_share']:>6.0%}" in printed
    assert printed.count(f"mamujoco/HalfCheetah-2x3   {name}") == 2  # in both tables
    assert f"down to {min(row['core_share'], 0.25):.0%} of a core was left" in printed


# The environments alone


def test_bare_physics_goes_through_the_states_of_the_batch() -> None:
    """Through the beginnings of new episodes too: from its first state on Hopper falls within 30 steps."""
    seeds = np.random.SeedSequence(0).spawn(3)
    with closing(registry.make(registry.task("mamujoco/Hopper-3x1", {}), seeds)) as batch:
        assert isinstance(batch, MujocoBatch)
        bare = envs.Raw(batch)
        actions = envs._actions(batch, np.random.default_rng(0), 60)
        bare.start()
        _, beginnings = envs._play(batch, actions)
        assert len(beginnings) > 2
        assert bare.play(actions, beginnings) > 0
        for e, data in enumerate(bare.data):
            np.testing.assert_array_equal(physics(data), batch.physics[e])


def test_environments_alone_have_a_row_each_whose_ratios_are_those_of_its_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(envs, "BUILDS", 1)
    monkeypatch.setattr(envs, "ROUNDS", 1)
    monkeypatch.setattr(envs, "SECONDS", 0.01)
    path = tmp_path / "rows.json"
    assert speed.main(["envs", *CHEETAH, "--env-threads", "2", "--json", str(path)]) == 0
    [row] = json.loads(path.read_text())
    ours = row["steps_per_second"]
    assert (row["task"], row["env_threads"]) == ("mamujoco/HalfCheetah-2x3", 2)
    for ratio, rate in (("ratio", "raw"), ("over_gymnasium", "gymnasium"), ("over_mamujoco", "mamujoco")):
        assert row[ratio] == pytest.approx(ours / row[f"{rate}_steps_per_second"])  # of one round
    out = capsys.readouterr().out
    assert "medians of 1 alternating rounds" in out
    assert f"  {row['ratio']:>12.3f} {row['over_mamujoco']:>13.2f} {row['threads_over_one']:>11.2f}\n" in out


# The history

MEASURED: dict[str, Any] = {
    "task": "mamujoco/Ant-4x2",
    "algorithm": "happo",
    "settings": {"envs": 2, "hidden_sizes": [8]},
    "matmul": "onednn",
    "steps_per_second": 1234.56,
    "raw_steps_per_second": 20000.0,
    "over_raw": 0.061728,
    "ratio": 0.54321,
    "two_over_twice_one": 0.98765,
    "core_share": 0.99,
}


def test_a_row_is_appended_per_pairing_and_what_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "speed.csv"
    history.append(path, [MEASURED])
    first = path.read_text()
    history.append(path, [MEASURED | {"algorithm": "ippo"}, MEASURED])
    assert path.read_text().startswith(first)
    table = pd.read_csv(path, dtype={"commit": str})  # twelve digits, or one e among them, are no number
    assert tuple(table.columns) == history.COLUMNS
    assert list(table["algorithm"]) == ["happo", "ippo", "happo"]
    assert [json.loads(text) for text in table["settings"]] == [MEASURED["settings"]] * 3
    row, origin = table.iloc[0], provenance()
    assert str(row["date"]) == str(pd.Timestamp.now(tz="UTC").date())
    assert (row["cpu"], row["torch"]) == (origin["machine"]["cpu"], origin["versions"]["torch"])
    assert str(row["commit"]) == origin["commit"][:12]
    assert list(row[["steps_per_second", "over_raw", "limit_ratio"]]) == [1234.6, 0.0617, 0.5432]


def test_a_failed_write_leaves_the_history_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "speed.csv"
    history.append(path, [MEASURED])
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            history.append(path, [MEASURED])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


HEADER = ",".join(history.COLUMNS)


@pytest.mark.parametrize("there", ["", HEADER, HEADER + "\n", HEADER.replace(",", '","').join('""') + "\r\n"])
def test_a_file_with_these_columns_takes_rows_however_it_is_written(there: str, tmp_path: Path) -> None:
    path = tmp_path / "speed.csv"
    path.write_bytes(there.encode())
    history.append(history.file(str(path)), [MEASURED])
    assert list(pd.read_csv(path)["steps_per_second"]) == [1234.6]


def test_a_file_with_other_columns_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "_training", lambda pairings, given: pytest.fail("it measures"))
    path = tmp_path / "other.csv"
    path.write_text("date,steps\n")
    with pytest.raises(SystemExit) as stopped:
        speed.main(["--append", str(path)])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has the columns date,steps, not " in line
    assert path.read_text() == "date,steps\n"


def test_what_was_measured_is_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_training", lambda pairings, given: [MEASURED])
    path = tmp_path / "speed.csv"
    assert speed.main(["--append", str(path)]) == 0
    assert len(pd.read_csv(path)) == 1


# The command


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
        assert t.settings == settings(t.method.name, {"warmup_steps": 0} if t.label == "maddpg" else {})


def test_a_setting_reaches_the_algorithms_that_have_it() -> None:
    task = registry.task("mamujoco/Hopper-3x1", {})
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
        (["--set", "actor_epochs=two"], "'two' is not a whole number from 1 to 1000"),
        (["--set", "warmup_steps=5"], "is always 0 here"),
        (["--set", "share_actors=true", "--algorithm", "happo"], "happo cannot share actors"),
        (["--set", "n_step=9", "--set", "buffer_size=100", "--algorithm", "maddpg"], "holds 5 steps"),
        (["--json", "no/such/folder/rows.json"], "not a file in an existing folder"),
        (["envs", "--set", "clip=0.1"], "envs measures no algorithm"),
        (["envs", "--algorithm", "happo"], "envs measures no algorithm"),
        (["envs", "--append", "no/such/file.csv"], "envs measures no algorithm"),
        (["--env-threads", "2"], "training is measured on one core"),
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
        speed.planned([registry.task("mamujoco/Hopper-3x1", {})], ["hatrpo"], {"actor_epochs": 15})
