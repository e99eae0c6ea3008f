"""Pictures of the environment in a batch of one: MuJoCo's drawn from the batch's own state, PettingZoo's by themselves.

Where there is no screen, MUJOCO_GL must say how to draw before MuJoCo is imported; see `bench.envs.gl`.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from typing import Any, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.envs.batch import EnvBatch
from bench.envs.errors import error_line_with_place
from bench.envs.gl import NoPictures
from bench.envs.mujoco import MujocoBatch
from bench.envs.parallel import ParallelBatch
from bench.envs.views import physics

MOST_FPS = 30.0
"""Pictures per second of a video at most: of a faster environment steps are left out."""
DEFAULT_FPS = 10.0
"""Steps per second of an environment that does not say `render_fps`."""


class Camera(Protocol):
    """Takes pictures of an environment as it stands."""

    steps_per_second: float
    """Steps of the environment in a second of its time."""

    def picture(self) -> Image.Image:
        """The environment now."""
        ...

    def close(self) -> None:
        """Free what draws."""
        ...


def camera(batch: EnvBatch, size: tuple[int, int]) -> Camera:
    """A camera for a batch of one environment that was made to be `drawn`; `size` is width and height in pixels.

    Raises NoPictures for a kind of environment that has no pictures, for example a game.
    """
    if isinstance(batch, MujocoBatch):
        return MujocoCamera(batch, size)
    if isinstance(batch, ParallelBatch):
        return ParallelCamera(batch, size)
    raise NoPictures("this task has no pictures: it is a table of numbers")


def steps_per_picture(camera: Camera) -> int:
    """How many steps there are between two pictures of a video in real time."""
    return max(int(np.ceil(camera.steps_per_second / MOST_FPS)), 1)


@dataclass(frozen=True)
class Viewpoint:
    """From where a robot is looked at."""

    azimuth: float = 90.0
    elevation: float = -15.0
    """Degrees, as MuJoCo has them: -90 looks down."""
    distance: float = 3.0
    """Of the camera, in radii of the robot at the start; 2.4 would just fill the picture."""
    place: tuple[float, float, float] | None = None
    """What it looks at, in metres, where the robot does not travel; `distance` is in metres then. None: the robot's
    centre of mass, wherever it is, at the height of the start."""


VIEWPOINTS = {
    "Ant": Viewpoint(elevation=-25),
    "ManySegmentAnt": Viewpoint(elevation=-35),
    "CoupledHalfCheetah": Viewpoint(distance=4.0),
    "Swimmer": Viewpoint(elevation=-60, distance=2.6),
    "ManySegmentSwimmer": Viewpoint(elevation=-60, distance=2.1),
    "Reacher": Viewpoint(elevation=-90, distance=0.75, place=(0, 0, 0)),
    "Pusher": Viewpoint(azimuth=120, elevation=-40, distance=2.4, place=(0.3, -0.2, -0.2)),
}
"""By robot; the others run to the right before the camera."""


class MujocoCamera:
    """Follows the robot of a batch; the batch's numbers do not notice."""

    def __init__(self, batch: MujocoBatch, size: tuple[int, int]):
        self.steps_per_second = 1 / batch.dt
        self._batch, self._model = batch, copy.copy(batch.model)
        self._data = mujoco.MjData(self._model)
        self._view = VIEWPOINTS.get(batch.robot_name, Viewpoint())
        self._eye = mujoco.MjvCamera()
        self._eye.azimuth, self._eye.elevation = self._view.azimuth, self._view.elevation
        self._eye.distance = self._view.distance
        self._look()
        self._model.vis.quality.offsamples = 0  # edges that are not smoothed, for speed where the processor draws
        if self._view.place is None:
            self._eye.distance *= self._radius()
            self._eye.lookat[2] = self._data.subtree_com[0, 2]
        else:
            self._eye.lookat[:] = self._view.place
        width, height = size
        self._renderer = mujoco.Renderer(self._model, height, width)
        # Shadows take most of the time, and are wrong in patches far from the light, which does not go with the robot.
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False

    def _look(self) -> None:
        """Bring MuJoCo's data to the state of the environment, without a step."""
        physics(self._data)[:] = self._batch.physics[0]
        mujoco.mj_forward(self._model, self._data)

    def _move_ground(self) -> None:
        """Let the floor, which is endless only to physics, go with the robot.

        It goes by whole periods of its pattern, so that it seems to stand still.
        """
        model, data = self._model, self._data
        for floor in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
            repeats = model.mat_texrepeat[model.geom_matid[floor]]
            period = 2 * model.geom_size[floor, :2] / repeats
            data.geom_xpos[floor, :2] = np.round(self._eye.lookat[:2] / period) * period

    def _radius(self) -> float:
        """Of a ball around the robot's centre of mass that holds all of it, in metres."""
        parts = self._model.geom_bodyid > 0
        away = np.linalg.norm(self._data.geom_xpos[parts] - self._data.subtree_com[0], axis=1)
        return float((away + self._model.geom_rbound[parts]).max())

    def picture(self) -> Image.Image:
        """The robot now."""
        self._look()
        if self._view.place is None:
            self._eye.lookat[:2] = self._data.subtree_com[0, :2]
            self._move_ground()
        self._renderer.update_scene(self._data, self._eye)
        return Image.fromarray(self._renderer.render())

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()


class ParallelCamera:
    """Asks a PettingZoo environment for its picture, and fits it into a size."""

    def __init__(self, batch: ParallelBatch, size: tuple[int, int]):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame opens a window even where nobody looks
        self._environment, self._size = batch.environments[0], size
        fps = getattr(self._environment, "metadata", {}).get("render_fps", DEFAULT_FPS)
        self.steps_per_second = float(fps)

    def picture(self) -> Image.Image:
        """What the environment's `render` gives; raises NoPictures where that is no picture."""
        name = type(self._environment.unwrapped).__name__
        try:
            made: Any = self._environment.render()
        except (Exception, SystemExit) as error:
            raise NoPictures(f"{name}: render raised {error_line_with_place(error)}") from error
        found: NDArray[Any] = np.asarray(made)
        if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3:
            raise NoPictures(
                f"{name}: render gave {type(made).__name__}, not an array [height, width, 3] of uint8; an environment "
                "of one's own needs a factory that takes render_mode='rgb_array'"
            )
        return _fitted(Image.fromarray(np.ascontiguousarray(found)), self._size)

    def close(self) -> None:
        """The batch closes the environment."""


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The whole image as large as it fits, in the middle of a grey one."""
    scale = min(size[0] / image.width, size[1] / image.height)
    image = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))
    whole = Image.new("RGB", size, "lightgray")
    whole.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return whole
