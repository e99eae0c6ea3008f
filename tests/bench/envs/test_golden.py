"""The golden fingerprints: they hold here, they see what changes the physics, and they bear what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import algorithms
from bench import golden
from bench.envs import fingerprint
from bench.envs.mujoco import MujocoBatch
from bench.envs.robots import ROBOTS
from bench.store.provenance import provenance

FRESH: Callable[[str], str] = fingerprint.verdict.__wrapped__
"""The verdict, not remembered."""


def numbers(*values: float) -> fingerprint.Numbers:
    return {"5": {"qpos": [0.0], "qvel": list(values)}}


def test_the_file_holds_every_robot_and_no_other() -> None:
    assert list(fingerprint.read()["robots"]) == list(ROBOTS)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_physics_here_are_golden(robot: str) -> None:
    assert fingerprint.verdict(robot) == "golden"


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_episode_goes_on_to_its_last_step(robot: str) -> None:
    """An environment whose episode is over moves no more."""
    steps = fingerprint.read()["robots"][robot]
    assert list(steps) == ["5", "10", "15", "20"]
    assert steps["15"] != steps["20"]


# The comparison


def test_a_deviation_is_relative_above_one_and_absolute_below() -> None:
    assert fingerprint.largest_deviation(numbers(0.5, 202.0), numbers(0.5, 200.0)) == (0.01, "qvel[1] at step 5")
    assert fingerprint.largest_deviation(numbers(0.5, 202.0), numbers(0.25, 200.0)) == (0.25, "qvel[0] at step 5")


def test_equal_numbers_do_not_deviate() -> None:
    assert fingerprint.largest_deviation(numbers(0.5, -3.0), numbers(0.5, -3.0))[0] == 0.0


@pytest.mark.parametrize("broken", [[np.nan, 1.0], [np.inf, 1.0], [1.0]])
def test_numbers_that_are_none_or_missing_deviate_infinitely(broken: list[float]) -> None:
    assert fingerprint.largest_deviation(numbers(*broken), numbers(1.0, 1.0))[0] == np.inf


class Stronger(MujocoBatch):
    """With one gear 0.1% larger."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.model.actuator_gear[0, 0] *= 1.001


class Noisy(MujocoBatch):
    """With noise in the last digits of the state before every step, ten times what rounding makes."""

    def step(self, actions: Any) -> None:
        noise = np.random.default_rng(self._elapsed[0])
        self.physics *= 1 + 1e-15 * noise.uniform(-1, 1, self.physics.shape)
        super().step(actions)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_gear_that_is_a_thousandth_off_is_seen(robot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "MujocoBatch", Stronger)
    assert "is off by" in FRESH(robot)


@pytest.mark.parametrize("robot", ROBOTS)
def test_rounding_is_borne_with_a_margin(robot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "MujocoBatch", Noisy)
    assert (
        fingerprint.largest_deviation(fingerprint.play(robot), fingerprint.read()["robots"][robot])[0]
        < fingerprint.TOLERANCE / 20
    )


def test_another_mujoco_version_is_named_even_where_its_numbers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "mujoco_version", lambda: "9.9.9")
    assert FRESH("Hopper") == f"MuJoCo 9.9.9, not {fingerprint.read()['mujoco']}, though the numbers agree"


def test_a_robot_that_cannot_be_played_has_a_verdict_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(robot: str) -> fingerprint.Numbers:
        raise IndexError("no such tendon\nhere")

    monkeypatch.setattr(fingerprint, "play", breaks)
    assert FRESH("Hopper") == "cannot be played: IndexError: no such tendon"


# The command


def test_the_command_names_the_library_of_matrix_products_and_says_one_line_per_robot(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert golden.main([]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    library = "oneDNN" if algorithms.matmul_library() == "onednn" else "PyTorch's own choice"
    assert first == f"matrix products by {library} ({provenance()['machine']['cpu']})"
    assert [line.split() for line in lines] == [[robot, "golden"] for robot in ROBOTS]


def test_the_command_ends_with_1_on_a_mismatch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(golden, "verdict", lambda robot: "golden" if robot != "Ant" else "qvel[1] is off")
    assert golden.main([]) == 1
    assert "qvel[1] is off" in capsys.readouterr().out


def test_what_is_written_is_what_was_played_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "PATH", tmp_path / "golden.json")
    assert golden.main(["--write"]) == 0
    assert fingerprint.read()["robots"] == {robot: fingerprint.play(robot) for robot in ROBOTS}


def test_the_file_has_its_lists_on_one_line_each() -> None:
    lines = fingerprint.PATH.read_text().splitlines()
    assert sum("[" in line for line in lines) == sum("]" in line for line in lines) == len(ROBOTS) * 4 * 3


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        golden.main(["--writ"])
    assert stop.value.code == 2
    assert "--writ" in capsys.readouterr().err
