"""Which OpenGL draws without a screen: to be asked before MuJoCo is imported, which reads MUJOCO_GL only then."""

from __future__ import annotations

import os
import subprocess
import sys

VARIABLE = "MUJOCO_GL"
WAYS = ("cgl",) if sys.platform == "darwin" else ("egl", "osmesa")
"""Values of MUJOCO_GL that need no screen, in the order in which they are tried: a graphics card, if any, then none."""
SECONDS = 60
"""For one trial: a first start may compile shaders."""
PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.3' rgba='1 0 0 1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 48, 64)
renderer.update_scene(data)
assert renderer.render().any(), "all pixels are black"
renderer.close()
"""


class NoPictures(Exception):
    """Nothing can be drawn here; the message says why, and what to install."""


def way() -> str:
    """The value of MUJOCO_GL that draws here: the user's own, else the first that does.

    Each draws one picture in a process of its own, which it may kill. Raises NoPictures where none does.
    """
    own = os.environ.get(VARIABLE, "")
    failures = {}
    for value in (own,) if own else WAYS:
        if not (failure := _failure(value)):
            return value
        failures[value] = failure
    said = "; ".join(f"{VARIABLE}={value}: {failure}" for value, failure in failures.items())
    remedy = f"unset {VARIABLE}, or " if own else ""
    raise NoPictures(
        f"no OpenGL that draws without a screen ({said}); {remedy}install one: on Debian or Ubuntu "
        "`apt install libegl1 libopengl0 libgl1-mesa-dri`, or `apt install libosmesa6`"
    )


def _failure(value: str) -> str:
    """Why this way draws nothing; empty if it does."""
    command = [sys.executable, "-c", PROBE]
    try:
        done = subprocess.run(
            command, env=os.environ | {VARIABLE: value}, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"drew nothing within {SECONDS} s"
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    raised = done.stderr.partition("Exception ignored")[0]  # what follows is of objects that were half made
    lines = [line for line in raised.splitlines() if line.strip()]
    return "" if done.returncode == 0 else next(iter(lines[-1:]), f"status {done.returncode}")[:120]
