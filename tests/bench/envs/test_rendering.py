"""Pictures: which OpenGL draws, the robot in view wherever it goes, environments that draw themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from PIL import Image

from bench.envs import gl, rendering
from bench.envs.gl import NoPictures
from bench.tasks import registry


def camera(name: str, *, drawn: bool = True, size: tuple[int, int] = (40, 40)) -> rendering.Camera:
    return rendering.camera(registry.make(registry.task(name, {}), [np.random.SeedSequence(0)], drawn=drawn), size)


@cache
def way() -> str:
    try:
        return gl.way()
    except NoPictures as error:
        pytest.skip(str(error))


# OpenGL


def tried(monkeypatch: pytest.MonkeyPatch, failures: dict[str, str]) -> list[str]:
    """Which values were tried, where these fail."""
    values: list[str] = []

    def failure(value: str) -> str:
        values.append(value)
        return failures.get(value, "")

    monkeypatch.setattr(gl, "_failure", failure)
    monkeypatch.setattr(gl, "WAYS", ("egl", "osmesa"))
    return values


def test_the_first_opengl_that_draws_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    values = tried(monkeypatch, {"egl": "no EGL"})
    assert gl.way() == "osmesa"
    assert values == ["egl", "osmesa"]


def test_only_the_users_own_choice_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    values = tried(monkeypatch, {"glfw": "no display"})
    with pytest.raises(NoPictures, match=r"\(MUJOCO_GL=glfw: no display\); unset MUJOCO_GL, or install one"):
        gl.way()
    assert values == ["glfw"]


def test_without_opengl_one_line_says_what_was_tried_and_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    tried(monkeypatch, {"egl": "no EGL", "osmesa": "killed by signal 11"})
    with pytest.raises(NoPictures, match=r"no EGL; MUJOCO_GL=osmesa: killed by signal 11.*libopengl0 .*libosmesa6"):
        gl.way()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "killed by signal 11"),
        ("raise RuntimeError('no device')", "RuntimeError: no device"),
        ("pass", ""),
    ],
)
def test_opengl_that_kills_its_process_has_failed(monkeypatch: pytest.MonkeyPatch, program: str, said: str) -> None:
    monkeypatch.setattr(gl, "PROBE", program)
    assert gl._failure("egl") == said


# MuJoCo

ROBOT = """
import numpy as np
from bench.envs import rendering
from bench.tasks import registry
batch = registry.make(registry.task("mamujoco/HalfCheetah-2x3", {}), [np.random.SeedSequence(0)])
batch.step([np.ones((1, 3), np.float32)] * 2)
camera, before = rendering.camera(batch, (160, 120)), batch.physics.copy()
near = np.asarray(camera.picture(), dtype=int)
assert (batch.physics == before).all(), "the camera moved the robot"
batch.fields["qpos"][0, 0] += 30 * 80 / 60  # whole periods of the floor, whose half is 40 m long
batch.fields["qpos"][0, 0] += 30 * 80 / 60
far = np.asarray(camera.picture(), dtype=int)
batch.fields["qpos"][0, 2] += 1.5
turned = np.asarray(camera.picture(), dtype=int)
assert rendering.steps_per_picture(camera) == 1 and round(camera.steps_per_second) == 20
print(abs(near - far).mean(), abs(near - turned).mean())
"""


def test_a_robot_stays_in_view_on_a_floor_without_end_and_does_not_notice() -> None:
    command = [sys.executable, "-c", ROBOT]
    done = subprocess.run(command, env=os.environ | {"MUJOCO_GL": way()}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    away, turned = map(float, done.stdout.split())
    assert away < 0.5
    assert turned > 2


# Environments that draw themselves


def test_a_picture_fits_its_frame_with_its_proportions() -> None:
    picture = np.asarray(camera("python:own_envs:Drawn").picture())
    assert picture.shape == (40, 40, 3)
    assert [tuple(picture[y, x]) for y, x in ((20, 5), (20, 35), (5, 5))] == [
        (255, 0, 0),
        (0, 0, 255),
        (211, 211, 211),
    ]


def test_a_fast_environment_is_shown_at_thirty_pictures_a_second_at_most() -> None:
    assert rendering.steps_per_picture(camera("python:own_envs:Drawn")) == 2


@pytest.mark.parametrize(
    ("name", "drawn", "said"),
    [
        ("python:own_envs:Drawn", False, "Drawn: render gave NoneType"),
        ("python:own_envs:Plain", True, "Plain: render raised NotImplementedError"),
    ],
)
def test_an_environment_without_pictures_is_named(name: str, drawn: bool, said: str) -> None:
    with pytest.raises(NoPictures, match=said):
        camera(name, drawn=drawn).picture()


def test_a_game_has_no_pictures() -> None:
    with pytest.raises(NoPictures, match="this task has no pictures"):
        camera("games/driving")


@pytest.mark.parametrize("name", ["pettingzoo/simple_spread_v3", "pettingzoo/multiwalker_v9"])
def test_environments_of_pettingzoo_draw_themselves(name: str) -> None:
    if "walker" in name:
        pytest.importorskip("Box2D")
    picture = camera(name, size=(160, 120)).picture()
    assert isinstance(picture, Image.Image)
    assert len(picture.getcolors(160 * 120) or []) > 5
