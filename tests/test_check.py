"""Does `bench.check` pass every task that keeps its word, and name what is wrong with the others?"""

from __future__ import annotations

import own_envs
import pytest

from bench import check, tasks

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
    "BrokenState": "state: raised ValueError: need at least one array to concatenate at step 12 of seed 0",
    "Raising": "playing: raised KeyError: 'nine' (",
    "Exiting": "playing: raised SystemExit: 3 (",
    "Pet": "agents: Pet is no pettingzoo.ParallelEnv",
}
"""What is said of each environment that breaks a rule."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SHORT", 30)
    monkeypatch.setattr(check, "STEPS", 200)
    monkeypatch.setattr(check, "speed", lambda *_: print("speed"))


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    status = check.main([*arguments])
    return status, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_keeps_its_word(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "pettingzoo/multiwalker_v9":
        pytest.importorskip("Box2D")
    status, said = lines(capsys, name)
    assert [line for line in said[1:-1] if not line.startswith("ok")] == []
    assert status == 0
    assert said[-1] == "speed"


@pytest.mark.parametrize("name", ["Plain", "Early", "Choosing"])
def test_what_is_legal_passes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = lines(capsys, f"python:own_envs:{name}")
    assert [line for line in said[1:-1] if not line.startswith("ok")] == []
    assert status == 0


@pytest.mark.parametrize(("name", "what"), BROKEN.items())
def test_what_is_broken_is_named(name: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = lines(capsys, f"python:own_envs:{name}")
    failed = [line for line in said if line.startswith("FAILED")]
    assert status == 1
    assert any(line.startswith(f"FAILED: {what}") for line in failed)
    assert said[-1] != "speed"


def test_a_stranger_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = lines(capsys, "python:own_envs:Stranger")
    assert status == 1
    assert any("c" in line and "possible_agents" in line for line in said if line.startswith("FAILED"))


def test_an_episode_without_an_end_needs_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = lines(capsys, "python:own_envs:Endless")
    assert status == 1
    assert "FAILED: ends: an episode had not ended after 200 steps: give the task an episode_length" in said
    assert lines(capsys, "python:own_envs:Endless", "--set", "episode_length=20")[0] == 0


def test_every_environment_that_is_broken_is_tried() -> None:
    classes = {name for name, x in vars(own_envs).items() if isinstance(x, type) and x.__module__ == "own_envs"}
    assert classes - {*BROKEN} == {"Plain", "Early", "Named", "Choosing", "Stranger", "Endless"}


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


def test_the_last_line_tells_the_speed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(check, "SPEED_SECONDS", 0.1)
    status, said = lines(capsys, "python:own_envs:Plain")
    assert status == 0
    assert said[-1].startswith("speed   batched ")
    assert "bare" in said[-1]
