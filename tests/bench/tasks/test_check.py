"""Does `bench.check` pass every task that keeps its word, and name what is wrong with the others?"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import own_envs
import pytest
import yaml

from bench import check, run
from bench.tasks import batch_contract, contract, random_episodes, registry

LEGAL = (
    *(
        "Plain",
        "Early",
        "Named",
        "Choosing",
        "Mixed",
        "Drawn",
        "SmallIntegers",
        "Half",
        "Opposed",
        "DictState",
        "AttributeState",
    ),
    *("Emptied", "Length", "Counted", "Opening"),
)
BROKEN = {
    "WrongShape": "observations: that of a at step 3 of seed 0 has shape (1,), its space (2,)",
    "WrongDtype": "observations: that of a at reset to seed 0 has dtype float64, its space float32",
    "OutOfBounds": "observations: that of a at reset to seed 0 lies outside the bounds of its space",
    "NoObservation": "observations: b got none at step 1 of seed 0",
    "NoReward": "rewards: b acted and got none at step 1 of seed 0",
    "NoTermination": "ends: b acted and got no termination at step 1 of seed 0",
    "FourAnswers": "playing: step must return observations, rewards, terminations, truncations and infos",
    "NaNObservation": "observations: that of b at step 5 of seed 0 is not finite: [0] is nan",
    "NaNReward": "rewards: that of b at step 5 of seed 0 is nan",
    "ArrayReward": "rewards: that of a at step 1 of seed 0 is no number but array([0.])",
    "Chance": "replay: the same seed and actions in a new copy: observations differ at step 3 of seed 5 in a",
    "SeedIgnored": "seeds: ignored: two resets to seed 0 differ in a",
    "Back": "ends: a came back at step 6 of seed 0",
    "Silent": "ends: a left at step 3 of seed 0 and was neither terminated nor truncated",
    "NothingAllowed": "masks: that of a at step 3 of seed 0 allows nothing",
    "ShortMask": "masks: that of a at reset to seed 0: action_mask has 2 numbers for 3 choices",
    "Unbounded": "spaces: the action space of a: Box(-inf, inf, (1,), float32) has no finite bounds",
    "NewNames": "agents: possible_agents were ['a', 'b'] and became ['a', 'b', 'c']",
    "BrokenState": "state: raised ValueError: need at least one array to concatenate (",
    "MistakenState": "state: python:own_envs:MistakenState: state raised AttributeError: 'MistakenState' object has ",
    "Stays": "ends: a was terminated or truncated at step 4 of seed 0 and is still in agents",
    "Fewer": "playing: agent a is not there after the reset to seed 2, and is one of possible_agents",
    "Shared": "playing: possible_agents were ['a', 'b'] and became ['b'], after the reset to seed 1",
    "Twice": "ends: b is in agents twice at step 4 of seed 0",
    "Defaulted": "rewards: b acted and got none at step 1 of seed 0",
    "Cancelling": "rewards: that of a at step 1 of seed 0 is 2e+18, beyond 1e+18",
    "TextReward": "rewards: that of a at step 1 of seed 0 is no number but '1.0'",
    "NoFlag": "ends: the termination of b at step 1 of seed 0 is no number but None",
    "LateInfo": "masks: agent a: info lacks action_mask at the episode's end, step 12 of seed 0",
    "InfoOfSome": "infos: b acted and got none at step 1 of seed 0",
    "NoneState": "state: python:own_envs:NoneState: state holds None, which is no number",
    "EmptyState": "state: python:own_envs:EmptyState: state has no numbers at all",
    "NothingSeen": "spaces: the observation space of a: Box([], [], (0,), float32) has no numbers at all",
    "LargeReward": "rewards: that of b at step 5 of seed 0 is 1e+300, beyond 1e+18",
    "LargeObservation": "observations: that of b at step 5 of seed 0 is not within 1e+18: [0] is ",
    "HalfMask": "masks: that of a at reset to seed 0: action_mask has values other than 0 and 1",
    "ListObservation": "observations: that of a at reset to seed 0 is no array but list",
    "NoInfos": "agents: reset must return observations and infos, a dict of agents each",
    "NoInfo": "agents: reset must return a dict of agents as infos, with a dict for each: a's is None",
    "NoReset": "agents: reset raised ValueError: no start (",
    "Raising": "playing: raised KeyError: 'nine' (",
    "Exiting": "playing: raised SystemExit: 3 (",
    "Pet": "agents: Pet is no pettingzoo.ParallelEnv",
}
"""What is said of each environment that breaks a rule."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (contract, batch_contract):
        monkeypatch.setattr(module, "SHORT", 30)
    monkeypatch.setattr(random_episodes, "STEPS", 200)
    monkeypatch.setattr(check, "speed", lambda *_: "fast")


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    status = check.main([*arguments])
    return status, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", registry.names())
def test_every_task_keeps_its_word(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "pettingzoo/multiwalker_v9":
        pytest.importorskip("Box2D")
    status, said = lines(capsys, name)
    assert [line for line in said[1:-1] if not line.startswith("ok")] == []
    assert status == 0
    assert said[-1] == "speed   fast"


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("SmallIntegers", "ok      rewards: complete and finite"),
        ("Plain", "ok      rewards: complete and finite; agents' rewards differ, and the team reward is their mean"),
        (
            "Opposed",
            "ok      rewards: complete and finite; agents' rewards are opposed (what a gains the others lose, "
            "correlation -1.00): no cooperative task, and the team reward is their mean",
        ),
        ("DictState", "ok      state: 5 numbers of its own"),
    ],
)
def test_what_is_legal_and_odd_is_noted(name: str, note: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = lines(capsys, f"python:own_envs:{name}")[1]
    assert note in said


def test_one_against_all_others_is_opposed_and_drifts_are_not() -> None:
    random = np.random.default_rng(0)
    gains = random.normal(size=(30, 1))
    _, correlation = contract._most_opposed(np.hstack([gains, gains, -2 * gains + random.normal(size=(30, 1))]))
    assert correlation < -0.8
    one_wins = np.eye(5)[random.integers(5, size=30)]
    assert contract._most_opposed(one_wins)[1] == pytest.approx(-1)
    drifts = np.stack([np.arange(30) + random.normal(size=30), -np.arange(30) + random.normal(size=30)], axis=1)
    assert contract._most_opposed(drifts)[1] == 0


def test_an_environment_that_cannot_be_closed_passes_and_is_told_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["python:own_envs:Opening"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("Opening: close raised OSError: stuck (")


def test_whatever_was_opened_is_closed(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, "python:own_envs:Counted")[0] == 0
    assert own_envs.Counted.open == 0


@pytest.mark.parametrize("name", ["Plain", "Early", "Choosing", "Emptied", "AttributeState", "Half"])
def test_what_is_legal_passes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = lines(capsys, f"python:own_envs:{name}")
    assert [line for line in said[1:-1] if not line.startswith("ok")] == []
    assert status == 0


@pytest.mark.parametrize(("name", "what"), BROKEN.items())
def test_what_is_broken_is_named(name: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = lines(capsys, f"python:own_envs:{name}")
    failed = [line for line in said if line.startswith("FAILED")]
    assert status == 1
    assert any(line.startswith(f"FAILED  {what}") for line in failed)
    assert not said[-1].startswith("speed")


@pytest.mark.parametrize("name", ["NothingSeen", "NoReset", "NoInfos", "Pet", "Unbounded"])
def test_what_cannot_be_tried_for_the_same_cause_is_not(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = lines(capsys, f"python:own_envs:{name}")[1]
    failed = [k for k, line in enumerate(said) if line.startswith("FAILED")]
    assert len(failed) == 1
    assert said[failed[0] + 1] == f"        not tried: {'spaces' if failed == [1] else 'playing'}"
    assert all(line.startswith("        not tried: ") for line in said[failed[0] + 1 :])
    assert said[-1] == "        not tried: resume"


def test_a_failure_while_the_speed_is_measured_is_one_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def late(*_: object) -> str:
        raise SystemExit("late")

    monkeypatch.setattr(check, "speed", late)
    status, said = lines(capsys, "python:own_envs:Plain")
    assert status == 1
    assert said[-1].startswith("FAILED  speed: raised SystemExit: late (")


def test_batches_that_differ_are_told_apart_by_step_thing_and_environment() -> None:
    chance = random_episodes.TaskUnderCheck(
        None, partial(registry.make, registry.task("python:own_envs:Chance", {})), None
    )
    what = r"at step 3 reward of environment 0 is -?\d+\.\d+(e-\d+)? and -?\d+\.\d+(e-\d+)?"
    with pytest.raises(random_episodes.ContractError, match=f"^two batches of the same seeds differ: {what}$"):
        batch_contract.batch_seeds(chance)


def test_a_stranger_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = lines(capsys, "python:own_envs:Stranger")
    assert status == 1
    assert any("c" in line and "possible_agents" in line for line in said if line.startswith("FAILED"))


def test_an_episode_without_an_end_needs_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = lines(capsys, "python:own_envs:Endless")
    assert status == 1
    assert "FAILED  ends: an episode had not ended after 200 steps: give the task an episode_length" in said
    assert lines(capsys, "python:own_envs:Endless", "--set", "episode_length=20")[0] == 0


def test_every_environment_that_is_broken_is_tried() -> None:
    classes = {name for name, x in vars(own_envs).items() if isinstance(x, type) and x.__module__ == "own_envs"}
    assert classes - {*BROKEN} == {*LEGAL, "Stranger", "Endless", "WordState", "Shaped"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing"], "unknown task 'nothing'"),
        (["python:own_envs:Plain", "--set", "size"], "write OPTION=VALUE"),
        (["python:own_envs:Plain", "--set", "size=["], "the value is not YAML"),
        (["python:own_envs:Plain", "--set", "colour=red"], "unknown option 'colour'"),
        (["pettingzoo/simple_spread_v3", "--set", "N=0"], "N: 0 is out of range"),
    ],
)
def test_bad_input_is_an_error(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        check.main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Plain", "Early", "Choosing"])
def test_the_last_line_tells_the_speed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(batch_contract, "SPEED_SECONDS", 0.1)
    status, said = lines(capsys, f"python:own_envs:{name}")
    assert status == 0
    assert said[-1].startswith("speed   batched ")
    assert "bare" in said[-1]


@pytest.mark.parametrize("name", BROKEN)
def test_a_run_refuses_what_the_check_refuses_in_the_same_words(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = lines(capsys, f"python:own_envs:{name}")[1]
    first = next(line for line in said if line.startswith("FAILED")).partition(": ")[2]
    document = {
        "name": "own",
        "steps": 100,
        "seeds": 1,
        "evaluate": {"every": 100, "episodes": 1},
        "tasks": [f"python:own_envs:{name}"],
        "algorithms": {"happo": {"envs": 2, "rollout_length": 50, "hidden_sizes": [8]}},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(document))
    assert run.main([str(tmp_path / "own.yaml"), "--results", str(tmp_path), "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert first in line
